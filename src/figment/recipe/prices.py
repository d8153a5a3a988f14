"""What things cost: the ``prices`` of a recipe."""

from __future__ import annotations

from pydantic import Field

from figment import limits
from figment.task import Strict, Text


class Prices(Strict):
    """For the forecast and the report, which then say what generating costs and what labelling would. Nothing that is made depends
    on it."""

    gpu_hour: float | None = Field(None, ge=0, le=limits.MONEY, description="an hour of the machine that generates")
    labelled_photograph: float | None = Field(
        None, ge=0, le=limits.MONEY, description="taking one photograph and labelling it"
    )
    currency: Text = Field("EUR", max_length=20, description="as it is written after a number")

    def generating(self, seconds: float) -> str:
        """What so many seconds of generation are: ``0.31 GPU-hours, about 0.78 EUR``."""
        hours = seconds / 3600
        told = f"{_number(hours)} GPU-hours"
        return told if self.gpu_hour is None else f"{told}, {self.money(hours * self.gpu_hour)}"

    def labelling(self, photographs: float) -> str:
        """What so many photographs are: ``510 photographs, about 51 EUR to label``."""
        told = f"{photographs:,.0f} photograph{'s' * (round(photographs) != 1)}"
        if self.labelled_photograph is None:
            return told
        return f"{told}, {self.money(photographs * self.labelled_photograph)} to label"

    def break_even(self, seconds: float, n_classes: int) -> str:
        """How many photographs could be labelled for what generating costs; nothing where a price is not given."""
        if self.gpu_hour is None or not self.labelled_photograph:
            return ""
        photographs = seconds / 3600 * self.gpu_hour / self.labelled_photograph
        return (
            f"labelled photographs for the same money: {_number(photographs)}, {_number(photographs / n_classes)} a class; the images pay"
            " if they are worth more"
        )

    def money(self, amount: float) -> str:
        """``about 0.78 EUR``."""
        number = _number(amount)
        return f"{'' if number.startswith('less') else 'about '}{number} {self.currency}"


def _number(value: float) -> str:
    """With as many digits as matter: ``0.78``, ``7.50``, ``51``, ``1,234``."""
    if 0 < value < 0.01:
        return "less than 0.01"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
