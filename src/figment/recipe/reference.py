"""A row of a table that the others are compared with: what costs less and is as good?"""

from __future__ import annotations

from pydantic import Field

from figment.task import Strict, Text


class Reference(Strict):
    """Rows that are not worse than ``row`` by ``margin`` points, and what an image of theirs takes to make beside one of it.

    A non-inferiority test: a row is as good where the lower end of the 95 % interval of the paired difference, in the first column, is
    above -``margin``.
    """

    row: Text = Field(description="the row to compare with, such as the setting that is in use")
    margin: float = Field(1.0, gt=0, le=100, description="points that may be lost")

    @property
    def points(self) -> str:
        return "a point" if self.margin == 1 else f"{self.margin:g} points"
