"""What a cell of a table measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from figment.types import Result

Place = tuple[str, str]  # row and column


@dataclass(frozen=True)
class Measured:
    """A cell's runs, one a seed: what was measured and, for accuracies, which test images were right, float (S, n).

    ``task`` tells label spaces and test images apart: cells of different ones are not compared. ``seconds`` is what an image took
    to generate, where that is known, and ``images`` how many were asked for.
    """

    results: list[Result]
    right: np.ndarray | None
    task: str = ""
    groups: np.ndarray | None = None  # int (n,), which burst, video or patient a test image is of
    note: str = ""
    seconds: float | None = None
    images: int = 1

    @property
    def value(self) -> float:
        """The mean over seeds."""
        return float(np.mean([result.value for result in self.results]))
