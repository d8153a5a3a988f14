"""How large an effect so many test images can show, and how many one takes: before money is spent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figment import records
from figment.errors import FigmentError
from figment.evaluate.kind import PLANNED_DISCORDANCE, PLANNED_SET_SE, images_for, smallest_visible
from figment.evaluate.levers import fewest_discordant, roughly
from figment.evaluate.sentences import too_few
from figment.evaluate.verdict import FEWEST
from figment.report.results import latest_results


@dataclass(frozen=True)
class Planned:
    """What a study is planned with: how often two classifiers differ on an image, and how far sets of one recipe lie apart."""

    discordance: float = PLANNED_DISCORDANCE
    set_se: float = PLANNED_SET_SE
    measured: bool = False

    @property
    def origin(self) -> str:
        if self.measured:
            return "as the run that lies there measured"
        return "planned with values of the starter; a first run measures its own"

    def shows(self, n: int) -> str:
        """What ``n`` test images can show."""
        if n < FEWEST:
            return f"{too_few(n)}. Give {FEWEST} at the least; {self._takes(0.01)} ({self.origin})"
        seen = 100 * smallest_visible(n, self.discordance, self.set_se)
        return (
            f"{n:,} real test image{'s show' if n != 1 else ' shows'} a gain of {seen:.1f} points or more over the best rival in four of five such studies;"
            f" {self._takes(0.01)} ({self.origin})"
        )

    def takes(self, effect: float) -> str:
        """How many test images a gain of ``effect``, in (0, 1], takes. Raises FigmentError for another number."""
        if not 0 < effect <= 1:
            raise FigmentError(f"An effect is a number of points above 0 and up to 100; this is {100 * effect:g}.")
        said = self._takes(effect)
        return f"{said[:1].upper()}{said[1:]} ({self.origin})."

    def images(self, effect: float) -> int | None:
        """None: no number of them shows it, since sets of one recipe differ by as much."""
        n = images_for(effect, self.discordance, self.set_se)
        return None if n is None else max(n, FEWEST)

    def _takes(self, effect: float) -> str:
        n, points = self.images(effect), f"{100 * effect:g} point{'s' * (effect != 0.01)}"
        if n is None:
            return f"no number of test images shows a gain of {points}, since sets of one recipe differ by as much"
        return f"a gain of {points} takes about {roughly(n):,} test images"


def planned(folder: Path) -> Planned:
    """From the finished run in ``folder``, where there is one: of the rival that its classifier is the least ahead of."""
    if records.read(folder).state != "finished":
        return Planned()
    worth = latest_results(folder).get("worth")
    if worth is None or "discordance" not in (told := worth.details["differences"][worth.details["rival"]]):
        return Planned()
    return Planned(max(told["discordance"], fewest_discordant(worth.n)), told["set_se"], True)


def shows_in_groups(n: int, groups: np.ndarray) -> str:
    """What n test images can show that are not independent."""
    n_groups = len(np.unique(groups))
    alone, together = (100 * smallest_visible(k) for k in (n, n_groups))
    return (
        f"{n:,} real test images in {n_groups:,} groups: the gain over the rivals that shows in four of five such studies lies"
        f" between {alone:.1f} points, if the images of a group have nothing in common, and {together:.1f}, if they are all alike"
    )
