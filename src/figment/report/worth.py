"""What sets of images from elsewhere are worth, on one page: HTML, Markdown, and the numbers as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from figment import files
from figment.evaluate.kind import Difference
from figment.evaluate.verdict import PLACEBO
from figment.evaluate.worth import Answer, Pair, some_copies
from figment.report import table, text
from figment.types import Result

OWN = "top1/synthetic"
#: Row -> the side it is of, and its metric there. Both sides have a placebo of their own.
ROWS = {
    "no images, class names alone": ("alone", "top1/zero_shot"),
    "real images alone": ("beside", "top1/real_only"),
    "real images, augmented more": ("beside", "top1/augmented"),
    "real images repeated, in as many steps": ("beside", "top1/real_repeated"),
    "synthetic alone": ("alone", OWN),
    "synthetic alone, labels spread (placebo)": ("alone", PLACEBO),
    "real and synthetic": ("beside", OWN),
    "real and synthetic, labels spread (placebo)": ("beside", PLACEBO),
}
TONES = {"helps": "helps", "hurts": "hurts", "copies": "hurts", "holds test images": "hurts"}


@dataclass(frozen=True)
class Judged:
    """One set: its answer, and what was measured of it ``beside`` the real training images (empty without any) and ``alone``."""

    name: str
    answer: Answer
    beside: Mapping[str, Result]
    alone: Mapping[str, Result]
    over_augmented: Difference | None = None  # of real and synthetic images over the real ones augmented more

    @property
    def facts(self) -> list[str]:
        """Exchange rate, copies and leaks, in words."""
        found, said = self.beside or self.alone, []
        if (rate := found.get("exchange_rate")) is not None:
            said.append(f"To a learner that never sees the class names it is worth {rate.details['text']}.")
        if self.over_augmented is not None:
            said.append(
                f"Beside the real images, against these augmented more: {_points(self.over_augmented)}; about this very set."
            )
        if (copies := found.get("memorisation")) is not None:
            much = " That is more than chance." if some_copies(found) else ""
            said.append(
                f"{100 * copies.value:.1f} % of its images are as near to a training photograph as copies are,"
                f" {100 * copies.details['by_chance']:.2g} % would be by chance.{much}"
            )
        for metric, what in (("leaks/generated", "its images"), ("leaks/train", "the real training images")):
            if (leak := found.get(metric)) is not None:
                told = leak.details
                said.append(
                    f"Of {leak.n:,} test images {told['exact']:,} are among {what}, and {told['near']:,} nearly so, where about"
                    f" {told['by_chance']:.1f} would be by chance.{' The numbers may be too good.' if told['caveats'] else ''}"
                )
        said += found["leaks/test"].details["caveats"] if "leaks/test" in found else []
        return said


@dataclass(frozen=True)
class WorthPage:
    """``pairs``: what was compared -> every two sets. ``notes``: what to bear in mind of the sets as they are."""

    judged: Sequence[Judged]
    pairs: Mapping[str, Sequence[Pair]]
    notes: Sequence[str]

    @property
    def said(self) -> list[str]:
        """Everything beside the table, a sentence or two each."""
        facts = [f"{one.name}: {fact}" for one in self.judged for fact in one.facts]
        return [*self.notes, *facts, *self._compared()]

    def _compared(self) -> Iterator[str]:
        for what, own in self.pairs.items():
            for pair in own:
                surely = (
                    "a difference that holds among all pairs (Holm)"
                    if pair.holds
                    else "not told apart among all pairs (Holm)"
                )
                yield f"{pair.second} against {pair.first}, {what}: {_points(pair.difference)}, {surely}; about these very sets."


def _points(d: Difference) -> str:
    return f"{text.points(d.value)} ({text.signed(d.ci[0])} to {text.signed(d.ci[1])})"


def as_table(page: WorthPage) -> table.TablePage:
    """The page as one of the tables that every study has."""
    names = [one.name for one in page.judged]
    found = {
        (row, one.name): (one.beside if side == "beside" else one.alone).get(metric)
        for row, (side, metric) in ROWS.items()
        for one in page.judged
    }
    cells = {
        place: table.Cell(r.value, r.ci, tuple(r.details.get("per_seed", ())), r.n)
        for place, r in found.items()
        if r is not None
    }
    (first, *others) = page.judged
    headline = first.answer.word if not others else "; ".join(f"{one.name}: {one.answer.word}" for one in page.judged)
    said = tuple(one.answer.sentence if not others else f"{one.name}: {one.answer.sentence}" for one in page.judged)
    tone = TONES.get(first.answer.word, "no-evidence") if not others else "not-measured"
    return table.TablePage(
        title="What is it worth?",
        caption="How often real test images are named right after learning from each kind of image. A placebo is the same images with labels"
        " that say nothing: what does no better has taught nothing.",
        row_header="learnt from",
        rows=[row for row in ROWS if any((row, name) in cells for name in names)],
        columns=names,
        cells=cells,
        notes=page.said,
        answer=table.Answer("What is it worth?", headline, said, tone),  # type: ignore[arg-type]
    )


def write(page: WorthPage, folder: Path) -> None:
    """``worth.html``, ``worth.md`` and ``worth.json``."""
    own = as_table(page)
    table.write(own, folder / "worth.html")
    files.write_atomic(folder / "worth.md", table.markdown(own).encode())
    told = {
        "sets": [
            {
                "name": one.name,
                "answer": asdict(one.answer),
                "beside": {m: asdict(r) for m, r in one.beside.items()},
                "alone": {m: asdict(r) for m, r in one.alone.items()},
                "over_augmented": None if one.over_augmented is None else one.over_augmented.told(),
            }
            for one in page.judged
        ],
        "pairs": {what: [pair.told() for pair in own] for what, own in page.pairs.items()},
        "notes": list(page.said),
    }
    files.write_json(folder / "worth.json", told)
