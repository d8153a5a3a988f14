"""What the settings of all learners have. Apart from the learners, so that a recipe can be read without loading torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from figment import limits
from figment.task import Strict

if TYPE_CHECKING:
    from figment.recipe.given import Given
    from figment.recipe.recipe import Recipe
    from figment.types import Images, Learner

Share = Annotated[float, Field(gt=0, le=1)]


class LearnerSettings(Strict):
    """The rest of figment knows a learner by these and by ``select``: which epoch is kept."""

    starts_untrained: ClassVar[bool] = True  # whether there is a classifier before any image was seen

    reads_labels: ClassVar[bool] = True  # whether it learns the classes that images were generated as

    #: Whether a training leaves features, judged by labelled images of their own: what else it is given is worth its pixels alone.
    teaches_features: ClassVar[bool] = False

    #: Where that is no zero-shot classifier, what the report says: ``called`` and ``what`` it is.
    untrained: ClassVar[Mapping[str, str]] = {}

    seeds: int = Field(3, ge=1, le=limits.TRAININGS, description="trainings, averaged in the result")
    images_per_class: int | None = Field(
        None,
        ge=1,
        le=limits.IMAGES_A_CLASS,
        description="learn from the first so many kept images of each class; None = all",
    )

    @property
    def has_placebo(self) -> bool:
        """Whether shuffled labels, or captions, make another training."""
        return True

    @property
    def is_cheap(self) -> bool:
        """Whether dozens of trainings are a matter of seconds."""
        return False

    @property
    def parts(self) -> Sequence[LearnerSettings]:
        """The settings of what a training does, one after the other."""
        return [self]

    def shown(self, images: int) -> int:
        """How many times a training on so many images looks at one."""
        steps = getattr(self, "steps", None)
        return images * getattr(self, "epochs", 1) if steps is None else steps * getattr(self, "batch_size", 1)

    def goes_with(self, recipe: Recipe) -> None:
        """Raise ValueError where the rest of the recipe does not fit the learner."""

    def build(self, given: Given) -> Learner:
        """The learner. Nothing is trained yet."""
        raise NotImplementedError


def epoch_images(select: str, given: Given) -> Images | None:
    """The real images that choose the epoch to keep, or that are watched meanwhile; None where there are none."""
    return given.real("test" if select == "test_best" else "val")
