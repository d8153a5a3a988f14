"""What is left out: the ``filters`` of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from figment import limits
from figment.errors import FigmentError
from figment.recipe.plugin import PLUGIN, Plugin, kind_of
from figment.task import PathText, Strict, Template

if TYPE_CHECKING:
    from figment import types
    from figment.recipe.given import Given


class FilterSettings(Strict):
    """What the settings of all filters have."""

    reads_labels: ClassVar[bool] = True  # whether verdicts depend on the classes that images were generated as

    @property
    def needs(self) -> frozenset[str]:
        """The splits of real images that the filter looks at, where the task has them."""
        return frozenset()

    def build(self, given: Given) -> types.Filter:
        """The filter. Raises FigmentError where what it cannot do without is not there."""
        raise NotImplementedError


def _train_of(given: Given, kind: str) -> types.Images:
    train = given.real("train")
    if train is None:
        raise FigmentError(
            f"The filter {kind!r} compares with real training images, and there are none. "
            "Set task.real.train, or take the filter out."
        )
    return train


class BlankFilterSettings(FilterSettings):
    """Drops black and constant images."""

    reads_labels: ClassVar[bool] = False

    kind: Literal["blank"] = "blank"
    minimum_std: float = Field(2.0, ge=0, le=255, description="in grey levels, 0 to 255")

    def build(self, given: Given) -> types.Filter:
        from figment.filters.blank import BlankFilter

        return BlankFilter(self.minimum_std)


FilterModel = Annotated[PathText | None, Field(description="a CLIP folder or Hub id; None = the recipe's encoder")]


RemoveBias = Annotated[
    bool, Field(description="first take away what the zero-shot classifier says too often; the paper does not")
]


class ClipFilterSettings(FilterSettings):
    """Drops images that CLIP does not take for their own class."""

    kind: Literal["clip"] = "clip"
    model: FilterModel = None
    rule: Literal["threshold", "top_k", "threshold_else_top_k"] = "threshold"
    threshold: float | None = Field(
        None, ge=0, lt=1, description="on the softmax probability of the own class; None = 1/N"
    )
    highest: float = Field(
        1.0,
        gt=0,
        le=1,
        description="rule threshold: drop images of a higher probability, which teach little; 1 = none are (a window of both: GaFi)",
    )
    k: int | None = Field(
        None, ge=1, le=limits.IMAGES_A_CLASS, description="images to keep of each class, for the top_k rules"
    )
    templates: list[Template] | None = Field(None, description="None = the task's")
    remove_bias: RemoveBias = True

    @model_validator(mode="after")
    def _needs_k(self) -> ClipFilterSettings:
        if self.rule != "threshold" and self.k is None:
            raise ValueError(f"rule {self.rule!r} needs k, the number of images to keep of each class")
        if self.rule != "threshold" and self.highest < 1:
            raise ValueError(f"rule {self.rule!r} keeps the best images, and highest drops them: leave one of them out")
        if self.highest <= (self.threshold or 0):
            raise ValueError(f"highest {self.highest:g} must be above threshold {self.threshold:g}, or nothing is kept")
        return self

    def build(self, given: Given) -> types.Filter:
        from figment.filters.clip import ClipFilter

        features = given.features(self.model or given.recipe.words_encoder)
        templates = self.templates or given.task.templates
        rule = self.rule, self.threshold, self.k, given.seed
        return ClipFilter(features, given.task.class_names, templates, *rule, self.remove_bias, self.highest)


class ArgmaxFilterSettings(FilterSettings):
    """Drops images that CLIP would rather call another class."""

    kind: Literal["argmax"] = "argmax"
    model: FilterModel = None
    templates: list[Template] | None = Field(None, description="None = the task's")
    remove_bias: RemoveBias = True

    def build(self, given: Given) -> types.Filter:
        from figment.filters.argmax import ArgmaxFilter

        templates = self.templates or given.task.templates
        features = given.features(self.model or given.recipe.words_encoder)
        return ArgmaxFilter(features, given.task.class_names, templates, self.remove_bias)


class RealFilterSettings(FilterSettings):
    """Drops images that lie close to real training images of other classes. Needs task.real.train."""

    kind: Literal["real"] = "real"
    model: FilterModel = None
    quantile: float = Field(
        0.95,
        ge=0,
        le=1,
        description="close = closer than this share of the real images is to another class; as many real ones would pass",
    )
    threshold: float | None = Field(None, ge=-1, le=1, description="a cosine in place of the quantile's")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"train"})

    def build(self, given: Given) -> types.Filter:
        from figment.filters.real import RealFilter

        return RealFilter(given.features(self.model), _train_of(given, self.kind), self.quantile, self.threshold)


class CentroidFilterSettings(FilterSettings):
    """Drops the images farthest from the centre of their class, or the most typical ones."""

    kind: Literal["centroid"] = "centroid"
    model: FilterModel = None
    of: Literal["generated", "real"] = Field("generated", description="whose centre; real needs task.real.train")
    drop_farthest: float = Field(
        0.2, ge=0, lt=1, description="share of each class; much less than HistoGAN's half, since variety trains"
    )
    drop_nearest: float = Field(0.0, ge=0, lt=1, description="share of each class: the most typical, least informative")

    @model_validator(mode="after")
    def _leaves_some(self) -> CentroidFilterSettings:
        if self.drop_farthest + self.drop_nearest >= 1:
            raise ValueError("drop_farthest and drop_nearest together must be below 1, or nothing is left")
        return self

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"train"} if self.of == "real" else ())

    def build(self, given: Given) -> types.Filter:
        from figment.filters.centroid import CentroidFilter

        real = _train_of(given, self.kind) if self.of == "real" else None
        return CentroidFilter(given.features(self.model), self.drop_farthest, self.drop_nearest, real)


class DuplicateFilterSettings(FilterSettings):
    """Drops what is nearly the same as an earlier image of its class."""

    reads_labels: ClassVar[bool] = False  # images of no class are compared with all others

    kind: Literal["duplicate"] = "duplicate"
    model: FilterModel = None
    threshold: float = Field(
        0.99,
        ge=-1,
        le=1,
        description="cosine above which two images are the same; high, since distinct photographs reach 0.98 with some encoders. 1 = exact copies only",
    )

    def build(self, given: Given) -> types.Filter:
        from figment.filters.duplicate import DuplicateFilter

        return DuplicateFilter(given.features(self.model), self.threshold)


class MemorisedFilterSettings(FilterSettings):
    """Drops copies of real training images, and of test images."""

    reads_labels: ClassVar[bool] = False

    kind: Literal["memorised"] = "memorised"
    model: FilterModel = None
    quantile: float = Field(
        0.99,
        ge=0,
        le=1,
        description="a copy = nearer to a real image than this share of the training images is to others",
    )
    threshold: float | None = Field(
        None, ge=-1, le=1, description="a cosine in place of the quantile's; needed without task.real.train"
    )
    test: Literal["drop", "report", "off"] = Field(
        "drop", description="copies of test images: drop, keep and report, or do not look; exact pixels always count"
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"train", "test"})

    def build(self, given: Given) -> types.Filter:
        from figment.filters.memorised import MemorisedFilter

        real = given.real("train"), given.real("test")
        return MemorisedFilter(given.features(self.model), *real, self.quantile, self.threshold, self.test)


class CovarianceFilterSettings(FilterSettings):
    """Keeps the part of each class whose features vary as those of the real training images do. Needs task.real.train."""

    kind: Literal["covariance"] = "covariance"
    model: FilterModel = None
    keep: float = Field(0.5, gt=0, le=1, description="share of each class; a larger one keeps the same images and more")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"train"})

    def build(self, given: Given) -> types.Filter:
        from figment.filters.covariance import CovarianceFilter

        train = _train_of(given, self.kind)
        return CovarianceFilter(given.features(self.model), train, self.keep)


class FilterPlugin(Plugin, FilterSettings):
    """Your own filter: ``kind: package.module:Name``, called with ``options``."""

    reads_labels: ClassVar[bool] = False  # nobody knows; one that does finds -1 where there is no class

    def build(self, given: Given) -> types.Filter:
        from figment.plugins.filter import PluginFilter
        from figment.plugins.load import load

        return PluginFilter(load(self.kind, self.options, given))


Filter = Annotated[
    Annotated[BlankFilterSettings, Tag("blank")]
    | Annotated[ClipFilterSettings, Tag("clip")]
    | Annotated[ArgmaxFilterSettings, Tag("argmax")]
    | Annotated[RealFilterSettings, Tag("real")]
    | Annotated[CentroidFilterSettings, Tag("centroid")]
    | Annotated[DuplicateFilterSettings, Tag("duplicate")]
    | Annotated[MemorisedFilterSettings, Tag("memorised")]
    | Annotated[CovarianceFilterSettings, Tag("covariance")]
    | Annotated[FilterPlugin, Tag(PLUGIN)],
    Discriminator(kind_of),
]
