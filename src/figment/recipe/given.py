"""What those who are built from settings may ask of the run they are built for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from figment.encoders import Features
    from figment.recipe.encoder import TimmEncoderSettings
    from figment.recipe.recipe import Recipe
    from figment.task import Task
    from figment.types import Images


class Given(Protocol):
    """Handed to every ``settings.build(given)``, and to every plug-in that takes ``given``. Nothing is opened before it is asked for."""

    recipe: Recipe
    allow_plugins: bool  #: whether code that the recipe names may be imported

    @property
    def task(self) -> Task:
        """Class names, templates."""
        ...

    @property
    def seed(self) -> int:
        """The recipe's."""
        ...

    @property
    def caches(self) -> Path:
        """A folder for what is costly and can be had again: features, answers of chat servers. All runs of a study share it."""
        ...

    @property
    def shots_per_class(self) -> int | None:
        """How many real images of a class there are to learn from: of the split file, where ``few_shot`` names one. None
        without ``few_shot``."""
        ...

    def features(self, encoder: str | TimmEncoderSettings | None = None) -> Features:
        """Of images, by content, computed once; of that encoder, or (None) of the recipe's own."""
        ...

    def real(self, split: str) -> Images | None:
        """The real images of ``train``, ``val``, ``test`` or ``unlabelled`` that may be looked at: of ``train`` just the shots,
        where there is ``few_shot``. None where the task has none."""
        ...
