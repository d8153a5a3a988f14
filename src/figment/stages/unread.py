"""A run that is only thought of: what a forecast asks the stages about."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path

from figment.context import Context
from figment.images_in.provenance import Stored
from figment.images_in.real import absent, open_real, without
from figment.layout import Run
from figment.plugins import permission
from figment.recipe import Recipe
from figment.types import Images


class Unread(Context):
    """Its real images are taken as they are, since looking for broken ones takes as long as encoding them,
    and where they are not there it goes on without."""

    @cached_property
    def given(self) -> dict[str, Stored]:
        return open_real(without(self.task, self.absent))

    @cached_property
    def shots(self) -> Images | None:
        few = self.recipe.few_shot
        return None if few is None or "train" in self.absent else self.draw(self.given.get("train"))

    def readable(self, split: str) -> Images | None:
        return self.given.get(split)

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory()

    @property
    def caches(self) -> Path:
        """Gone with this object: of random images nobody wants the features."""
        return Path(self._temporary.name)


def unread(recipe: Recipe, run: Run, allow_plugins: bool = False, seconds_per_image: float | None = None) -> Unread:
    """What a forecast asks the stages about. Raises FigmentError for plug-ins that are not allowed."""
    permission.check(recipe.plugins, allow_plugins)
    ctx = Unread(recipe, run, allow_plugins=allow_plugins)
    ctx.absent, ctx.seconds_per_image = absent(recipe.task.real), seconds_per_image
    return ctx


def in_proportion(seconds: float | None, own: Recipe, recipe: Recipe) -> float | None:
    """An image of ``own`` where one of ``recipe`` takes so many seconds: as many more as the denoiser is asked oftener, as if it were the
    same one; the same where the recipes do not say how often."""
    asked, of = own.generate.passes, recipe.generate.passes
    return seconds if seconds is None or asked is None or of is None else seconds * asked / of
