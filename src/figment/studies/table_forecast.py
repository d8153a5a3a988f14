"""What a whole table would make and cost, before anything is spent: ``figment run --dry-run`` of a recipe with a ``table``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from figment import records
from figment.errors import FigmentError
from figment.forecast import free_bytes
from figment.layout import Run, Study
from figment.recipe import Recipe
from figment.report.costs import in_all, not_there, on_disk
from figment.report.text import duration, plain
from figment.stages.finetune import seconds_a_step, steps_left
from figment.stages.images.stage import Price, price_of, rows_there
from figment.stages.plans import finetuning_key, images_key
from figment.stages.prompts import Prompts
from figment.stages.results import learnt_from, trainings_of
from figment.stages.timing import seconds_of_training
from figment.stages.unread import Unread, in_proportion, unread
from figment.studies import reference, scaling, sweep
from figment.studies.table import Todo, check_plugins, read_table, table_runs

MOST_TIMED = 20  # kinds of a work that a forecast tries; others are taken to cost as much as those do
#: Settings that change an image and not what it costs. Fine-tuning is counted by itself.
CHANGE_NOTHING = {
    "images_per_class",
    "images_per_prompt",
    "shard_size",
    "finetune",
    "log_variance",
    "noise_level",
    "negative_prompt",
}
HOW_GIVEN = " (as given, those with other steps or guidance in proportion, as if of the same model)"
LENGTHS = {
    "steps",
    "epochs",
    "seeds",
    "images_per_class",
}  # of a training, which is timed by the image that it looks at


@dataclass(frozen=True)
class Work:
    """One kind of it: how many times, in words, and the seconds, None where they are not known; then ``why`` says why not, or else how
    they are known."""

    said: str
    seconds: float | None
    why: str

    @property
    def text(self) -> str:
        """A line."""
        if self.seconds is None:
            return f"{self.said}; {self.why}"
        return f"{self.said}: about {duration(self.seconds)} {self.why}"


@dataclass(frozen=True)
class TableForecast:
    """Counts are exact, of trainings the most there can be. ``images`` are those of all sets, ``bytes`` what those take
    that are not there yet; ``each`` are seconds an image, by row, where they differ."""

    runs: int
    sets: int
    images: int
    bytes: float
    steps: int  # of fine-tuning
    trainings: int
    work: dict[str, Work]  # images, fine-tuning, trainings
    each: dict[str, float] = field(default_factory=dict)
    given: bool = False  # whether the time of an image is what the user says
    free_bytes: int | None = None  # None: remote
    absent: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()  # what a study is going to compare

    @property
    def seconds(self) -> float | None:
        """Of everything; None where some of it is not known."""
        own = [work.seconds for work in self.work.values()]
        return None if None in own else sum(s for s in own if s is not None)

    @property
    def text(self) -> str:
        """In lines."""
        each = "; ".join(f"{row} {plain(seconds)}" for row, seconds in self.each.items())
        lines = [
            not_there(self.absent),
            f"{self.runs} runs that share {self.sets} sets of {self.images:,} images in all",
            *(work.text for work in self.work.values()),
            f"seconds an image{HOW_GIVEN if self.given else ''}: {each}" if each else "",
            on_disk(self.bytes, self.free_bytes),
            in_all({name: work.seconds for name, work in self.work.items()}),
            *self.plans,
        ]
        return "\n".join(line for line in lines if line)


def forecast_table(
    recipe: Recipe, out: Path, *, allow_plugins: bool = False, seconds_per_image: float | None = None
) -> TableForecast:
    """What a recipe's table would make: runs, sets of images and fine-tunings that they share, and trainings. Writes nothing.

    Each kind of work is tried once. ``seconds_per_image`` is what an image of the recipe itself takes on some machine, those of rows with
    other steps or without guidance in proportion: then nothing is timed. Real images and models that are not here are gone without.
    """
    runs = table_runs(recipe)
    check_plugins(runs, allow_plugins)

    def planned(own: Recipe, folder: Path) -> Unread:
        return unread(own, Run(folder, root_at=out), allow_plugins, in_proportion(seconds_per_image, own, recipe))

    sets = {key: (own, planned(own, Study(out).sets / key)) for key, own in _sets(runs).items()}
    images, each = _images(sets)
    first = {finetuning_key(own): own for _, _, own in reversed(runs) if own.generate.finetunes}
    tunings = [planned(own, out) for own in reversed(first.values())]
    steps, tuning = _tuning(tunings)
    work = {
        "images": images,
        **({"fine-tuning": tuning} if tunings else {}),
        "trainings": _trainings(runs, planned, out),
    }
    return TableForecast(
        runs=len(runs),
        sets=len(sets),
        images=sum(_wanted(own) for own, _ in sets.values()),
        bytes=sum(left * price.bytes for left, price in each.values()),
        steps=steps,
        trainings=sum(sum(trainings_of(own).values()) for _, _, own in runs),
        work=work,
        each=_by_row(recipe, runs, {key: price for key, (_, price) in each.items()}),
        given=seconds_per_image is not None,
        free_bytes=free_bytes(out),
        absent=tuple(dict.fromkeys(place for _, ctx in sets.values() for place in ctx.absent.values())),
        plans=tuple(_plans(recipe, out)),
    )


class _Tried:
    """Each kind of work once; of more than :data:`MOST_TIMED` kinds the mean of those that were tried."""

    def __init__(self) -> None:
        self.found: dict[str, Price] = {}

    def of(self, kind: Any, trial: Callable[[], Price]) -> Price:
        key = records.fingerprint(kind)
        if key not in self.found:
            if len(self.found) >= MOST_TIMED:
                return self._mean()
            self.found[key] = trial()
        return self.found[key]

    def _mean(self) -> Price:
        seconds = [price.seconds for price in self.found.values() if price.seconds is not None]
        size = sum(price.bytes for price in self.found.values()) / len(self.found)
        said = next(iter(self.found.values())).said
        return Price(sum(seconds) / len(seconds) if seconds else None, size, said)


def _work(said: str, parts: Sequence[tuple[int, Price]]) -> Work:
    """So many times each price."""
    asked = [(n, price) for n, price in parts if n]
    seconds = [None if price.seconds is None else n * price.seconds for n, price in asked]
    why = next((price.said for _, price in asked if price.seconds is None), asked[0][1].said if asked else "")
    return Work(said, None if None in seconds else sum(s for s in seconds if s is not None), why)


# ---- images ----------------------------------------------------------------------------------------------------------


def _sets(runs: Sequence[Todo]) -> dict[str, Recipe]:
    """Of recipes that share a set, the one that asks for the most images."""
    sets: dict[str, Recipe] = {}
    for _, _, own in runs:
        before = sets.setdefault(images_key(own), own)
        if own.generate.images_per_class > before.generate.images_per_class:
            sets[images_key(own)] = own
    return sets


def _wanted(own: Recipe) -> int:
    return own.generate.images_per_class * own.n_labels


def _images(sets: Mapping[str, tuple[Recipe, Unread]]) -> tuple[Work, dict[str, tuple[int, Price]]]:
    """What is left to generate, and for each set how many images and the price of one."""
    tried = _Tried()
    each: dict[str, tuple[int, Price]] = {}
    for key, (own, ctx) in sets.items():
        there = rows_there(ctx.run, own.generate.shard_size, _wanted(own))
        shots = own.few_shot and own.generate.guided and own.few_shot.shots
        each[key] = _wanted(own) - there, tried.of([_costs(own), shots, ctx.seconds_per_image], partial(_price, ctx))
    left = sum(n for n, _ in each.values())
    return _work(f"generating {left:,} images", list(each.values())), each


def _price(ctx: Unread) -> Price:
    ctx.check_real()
    Prompts().cost(ctx)
    return price_of(ctx)


def _costs(own: Recipe) -> Any:
    """The settings of a generator that its time depends on: of guidance, whether there is any."""

    def without(settings: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in settings.items() if name not in CHANGE_NOTHING}
        if (scale := kept.get("guidance_scale")) is not None:
            kept["guidance_scale"] = scale > 1
        return {name: [without(s) for s in value] if name == "stages" else value for name, value in kept.items()}

    return without(own.generate.model_dump(mode="json"))


def _by_row(recipe: Recipe, runs: Sequence[Todo], prices: Mapping[str, Price]) -> dict[str, float]:
    """Seconds an image, where the table's cells differ in what theirs cost: of a row, or of its cells where these differ."""
    cells: dict[tuple[str, str], tuple[str, float]] = {}
    for group, seed, own in runs:
        seconds = prices[images_key(own)].seconds
        if seed == recipe.seed and seconds is not None:
            cells |= dict.fromkeys(group.cells, (records.fingerprint(_costs(own)), seconds))
    if len({kind for kind, _ in cells.values()}) < 2:
        return {}
    named: dict[str, float] = {}
    for row in dict.fromkeys(row for row, _ in cells):
        own_cells = {column: cell for (of, column), cell in cells.items() if of == row}
        alike = len({kind for kind, _ in own_cells.values()}) == 1
        named |= {row if alike else f"{row} / {column}": seconds for column, (_, seconds) in own_cells.items()}
    return named


# ---- fine-tuning and trainings ---------------------------------------------------------------------------------------


def _tuning(tunings: Sequence[Unread]) -> tuple[int, Work]:
    """The steps of all fine-tunings, and what they take."""
    tried, unknown = _Tried(), 0
    parts: list[tuple[int, Price]] = []
    for ctx in tunings:
        settings = ctx.recipe.generate.model_dump(mode="json")
        kind = {**settings["finetune"], **dict.fromkeys(("steps", "epochs"))}
        steps = steps_left(ctx)
        unknown += steps is None
        if steps:
            parts.append((steps, tried.of([_costs(ctx.recipe), kind], partial(_price_of_a_step, ctx))))
    total = sum(n for n, _ in parts)
    more = f", besides {unknown} whose real images are not there and tell their steps" if unknown else ""
    said = f"fine-tuning the generator {len(tunings):,} times, {total:,} steps{more}"
    work = _work(said, parts)
    return total, replace(work, seconds=None, why=work.why or "their time is not known") if unknown else work


def _price_of_a_step(ctx: Unread) -> Price:
    return _timed(lambda: seconds_a_step(ctx), "on this machine (measured on a step)")


def _timed(trial: Callable[[], float], how: str) -> Price:
    try:
        return Price(trial(), 0.0, how)
    except FigmentError as error:
        return Price(None, 0.0, f"their time is not known: {error}")


def _trainings(runs: Sequence[Todo], planned: Callable[[Recipe, Path], Unread], out: Path) -> Work:
    """How much is trained besides. Cells may have some of it in common, so this is the most."""
    tried, n = _Tried(), 0
    parts: list[tuple[int, Price]] = []
    for _, _, own in runs:
        k, images = sum(trainings_of(own).values()), learnt_from(own)
        shown = own.train.shown(images)
        kind = [own.train.model_dump(mode="json", exclude=LENGTHS), own.n_labels]
        parts.append((k * shown, tried.of(kind, partial(_price_of_a_look, planned(own, out), images, shown))))
        n += k
    total = sum(looks for looks, _ in parts)
    return _work(f"at most {n:,} trainings, which look at {total:,} images", parts)


def _price_of_a_look(ctx: Unread, images: int, shown: int) -> Price:
    """One image that a training looks at."""
    if ":" in ctx.recipe.train.kind:  # what somebody else's learner does with random images, nobody knows
        return Price(None, 0.0, "each takes as long as your learner does")
    return _timed(lambda: seconds_of_training(ctx, images) / shown, "on this machine (measured on random images)")


# ---- what a study compares -------------------------------------------------------------------------------------------


def _plans(recipe: Recipe, out: Path) -> list[str]:
    """What a study is going to compare, and what it said when it was last finished in this folder."""
    assert recipe.table is not None
    plans = {scaling.plan: recipe.table.scaling, sweep.plan: recipe.table.sweep, reference.plan: recipe.table.reference}
    said = [plan(recipe) for plan, asked in plans.items() if asked is not None]
    if not said or not Study(out).table_json.is_file():
        return said
    before = read_table(out).answer
    return said if before is None else [*said, "So far:", before.headline, *before.sentences]
