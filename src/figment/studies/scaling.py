"""What a scaling study says: how much to add beside so many real images, where it hurts, and when to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from figment.evaluate import scaling as evaluate
from figment.evaluate.scaling import Stop, Turning
from figment.recipe import Recipe
from figment.recipe.scaling import Scaling
from figment.recipe.table import Table
from figment.report.table import Answer
from figment.report.text import percent, points_interval
from figment.studies.measured import Measured, Place

CHOSEN = (
    "The best numbers were chosen on these test images, and the best of several gains something by luck alone, with one seed the most:"
    " measure them on other images before you quote a gain."
)
Tone = Literal["helps", "hurts", "no-evidence", "not-measured"]


def answer(table: Table, cells: Mapping[Place, Measured], classes: int) -> Answer:
    """In words: for each number of real images the best number of generated ones, and what the stopping rule would have said."""
    scaling = table.scaling
    assert scaling is not None
    said = [_Row(scaling, row, n, classes, cells) for row, n in zip(table.rows, scaling.real, strict=True)]
    best = [f"{one.best} beside {one.real:,}" for one in said if one.drawn]
    tones: set[Tone] = {one.tone for one in said if one.drawn}
    tone: Tone = next((t for t in ("helps", "no-evidence", "hurts") if t in tones), "not-measured")  # type: ignore[misc]
    sentences = [one.sentence for one in said] + ([CHOSEN] if best else [])
    headline = f"Best: {', '.join(best)} real a class" if best else "Nothing to compare: too few images were kept"
    return Answer("How much generated data is enough?", headline, tuple(sentences), tone)


def plan(recipe: Recipe) -> str:
    """What is going to be compared, before anything is spent."""
    table, classes = recipe.table, len(recipe.task.class_names)
    assert table is not None and table.scaling is not None
    own = table.scaling
    numbers = [own.of_each_class(own.real[0], t) * classes for t in own.times]
    steps = getattr(recipe.train, "steps", None)
    block = "as many images as there are real ones" if own.block is None else f"{own.block:,} more images"
    length = "" if steps is None else f", each of {steps:,} steps"
    return (
        f"Scaling: {', '.join(f'{n * classes:,}' for n in own.real)} real images x {', '.join(table.laid_out().columns)} generated"
        f" ones, nested and balanced by class{length}. Stopping rule: enough is where {block} bring less than"
        f" {own.worth:g} points; it looks at one number after the other ({', '.join(f'{n:,}' for n in numbers)} beside the fewest real"
        " ones) and needs none after the first that was not worth making."
    )


class _Row:
    """One number of real images."""

    def __init__(self, scaling: Scaling, row: str, real: int, classes: int, cells: Mapping[Place, Measured]) -> None:
        self.scaling, self.name, self.real = scaling, row, real
        self.block = scaling.block_beside(real * classes)
        drawn: dict[int, tuple[str, np.ndarray]] = {}  # images in all -> column and which test images were right
        for column, times in zip(scaling.columns, scaling.times, strict=True):
            cell = cells[row, column]
            n = round(float(np.mean([r.details.get("images", 0) for r in cell.results]))) if times else 0
            if cell.right is not None and n not in drawn:  # where filters leave too few, a column is as the one before
                drawn[n] = column, cell.right
        self.images, self.columns = sorted(drawn), [drawn[n][0] for n in sorted(drawn)]
        self.drawn = len(drawn) > 1
        if self.drawn:
            right = np.stack([drawn[n][1] for n in self.images])
            self.curve = evaluate.Scaling(self.images, right, cells[row, self.columns[0]].groups)
            self.turning: Turning = evaluate.turning_point(self.curve)
            self.hurts = evaluate.hurts_from(self.curve)
            self.stop: Stop = evaluate.stopping_rule(self.curve, scaling.worth / 100, self.block)

    @property
    def best(self) -> str:
        at = self.turning.at
        return f"{self.columns[at]}{' or more' if at == len(self.images) - 1 else ''}"

    @property
    def tone(self) -> Tone:
        if self.turning.at and self.images[0] == 0 and self.curve.difference(0, self.turning.at).ci[0] > 0:
            return "helps"
        return "hurts" if self.hurts == 1 else "no-evidence"

    @property
    def sentence(self) -> str:
        if not self.drawn:
            return f"{self.name}: no two numbers of generated images to compare."
        at, (low, high) = self.turning.at, self.turning.ci
        start = percent(float(self.curve.right[0].mean()))
        gain = "" if not at else f", {points_interval(self.curve.difference(0, at))}"
        between = self.columns[low] if low == high else f"{self.columns[low]} to {self.columns[high]}"
        turned = "" if high < len(self.images) - 1 else "; whether more would help further is open"
        said = (
            f"{self.name}: {start} with {self.columns[0]}, best {percent(float(self.curve.right[at].mean()))} with {self.columns[at]}"
            f" ({self.images[at]:,} images{gain}). The top lies at {between} (95 %){turned}."
        )
        return f"{said} {self._of_stopping()}{self._of_harm()}"

    def _of_stopping(self) -> str:
        stop, own = self.stop, self.scaling
        rate = f"{100 * stop.rate:.2f} points ({100 * stop.ci[0]:.2f} to {100 * stop.ci[1]:.2f})".replace("-", "−")
        if stop.at is None:
            return (
                f"Stopping rule: every block was worth making; of the last one, {self.block:,} images brought {rate}."
            )
        judged = (
            f"nothing later was worth its images{f' (the best of them gained {100 * stop.missed:.1f} points)' if stop.missed else ''}"
            if stop.was_right
            else f"too early, as later ones were worth making: {100 * stop.missed:.1f} points were missed"
        )
        return f"Stopping rule: from {self.images[stop.at]:,} images on, {self.block:,} more bring {rate}, less than {own.worth:g}; {judged}."

    def _of_harm(self) -> str:
        if self.hurts is None:
            return ""
        return f" From {self.images[self.hurts]:,} images on ({self.columns[self.hurts]}) it is surely worse than without any."
