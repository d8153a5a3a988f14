"""A scaling study: real images and 0 to 10 times as many generated ones, as the rows and columns of a table."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field, model_validator

from figment import limits
from figment.task import Strict

REAL_ALONE = "top1/real_only"


class Scaling(Strict):
    """Rows are numbers of real images, columns how many times as many generated ones are added. All cells read the beginning of one set of
    generated images, as many of each class, so that each is part of the next."""

    real: list[Annotated[int, Field(ge=1, le=limits.SHOTS)]] = Field(
        min_length=1, max_length=50, description="real images of each class, a row each: few_shot.shots"
    )
    times: list[Annotated[float, Field(ge=0, le=10_000)]] = Field(
        [0, 1, 2, 3, 5, 10],
        min_length=2,
        max_length=50,
        description="generated images for each real one, a column each",
    )
    worth: float = Field(0.2, gt=0, le=100, description="points of accuracy that a block must bring; else stop adding")
    block: int | None = Field(
        None,
        ge=1,
        le=limits.IMAGES,
        description="generated images in all, of a block; null: as many as the row has real ones, whatever the data set's size",
    )

    @model_validator(mode="after")
    def _rises(self) -> Scaling:
        for name, values in (("real", self.real), ("times", self.times)):
            if any(a >= b for a, b in pairwise(values)):
                raise ValueError(f"{name} must rise, each once; it is {list(values)[:20]}")
        fewest = [self.of_each_class(self.real[0], t) for t in self.times]
        if min(len(set(fewest)), len(self.columns)) < len(fewest):  # columns go by six digits
            raise ValueError(
                f"{self.real[0]} real images of each class x {list(self.times)[:20]} are {fewest[:20]} generated ones: some are"
                " the same number. Take times that differ, or more real images"
            )
        return self

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Every row has the same images to add, so that they are made, filtered and encoded once."""
        most = math.ceil(self.real[-1] * self.times[-1])
        return {f"{n:,} real a class": {"few_shot.shots": n, "generate.images_per_class": most} for n in self.real}

    @property
    def columns(self) -> dict[str, dict[str, Any]]:
        return {f"{t:g}x": {} if t else {"metric": REAL_ALONE} for t in self.times}

    def of_each_class(self, real: int, times: float) -> int:
        """Generated images of each class beside so many real ones: one at least, unless none are asked for."""
        return max(1, round(real * times)) if times else 0

    def block_beside(self, real: int) -> int:
        """Images of a block, beside ``real`` real ones in all."""
        return self.block or real

    def cell(self, row: str, column: str) -> dict[str, Any]:
        """What a cell changes besides its row and its column. That of real images alone is a number of the run beside it."""
        real = dict(zip(self.rows, self.real, strict=True))[row]
        times = dict(zip(self.columns, self.times, strict=True))[column]
        n = self.of_each_class(real, times or self.times[1])
        return {"train.images_per_class": n}
