"""How the classifier learns and what is measured: ``few_shot``, ``train`` and ``evaluate`` of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from figment import limits
from figment.errors import nearest
from figment.learners.clip_head.settings import FEW_SHOT_STEPS, MixSettings, Start, UnfrozenSettings
from figment.learners.network.settings import NetworkSettings
from figment.learners.pretrain import settings as pretrain
from figment.learners.settings import LearnerSettings, epoch_images
from figment.recipe.encoder import Clip, Encoder
from figment.recipe.plugin import PLUGIN, Plugin, kind_of
from figment.task import PathText, Strict, Text

if TYPE_CHECKING:
    from figment.recipe.given import Given
    from figment.recipe.recipe import Recipe
    from figment.types import Learner

Baseline = Literal[
    "tip_adapter", "tip_adapter_f", "coop", "linear_probe", "augmented"
]  # those of BASELINES; a test compares


class FewShot(Strict):
    """The real images there are to learn from: so many of each class, drawn from task.real.train with the recipe's seed, or all of them."""

    shots: Annotated[int, Field(ge=1, le=limits.SHOTS)] | Literal["all"] = Field(
        16, description="real images of each class; all = every real training image there is, whatever its class"
    )
    split: PathText | None = Field(
        None, description="a split file that names the images (figment's or CoOp's), in place of a draw"
    )

    @property
    def each(self) -> int | None:
        """How many of each class, where a number says it."""
        return self.shots if self.split is None and isinstance(self.shots, int) else None


class ClipHeadSettings(LearnerSettings, MixSettings):
    """The CLIP classifier: a head that starts as the class names' text features, tuned on the kept images.

    With ``few_shot`` it learns from those real images as well, in the ``order`` and with the weights given here.
    """

    kind: Literal["clip_head"] = "clip_head"
    learning_rate: float = Field(
        2e-3, gt=0, le=limits.RATE, description="AdamW's step size at its highest; the paper's is 1e-3 with few_shot"
    )
    min_steps: int = Field(
        FEW_SHOT_STEPS,
        ge=0,
        le=limits.STEPS,
        description="real images alone, and both kinds mixed, get as many more epochs as it takes to have so many steps, so that"
        " neither wins by training longer; 0 = the epochs as they are, as in the paper",
    )
    encoder: Clip = Field(
        "starter/clip", description="'starter/clip', a folder of a CLIP or an open_clip model, or a Hub id"
    )
    start: Start = Field(
        "bias_removed",
        description="the classifier that is tuned and whose probabilities are the soft targets: bias_removed, the zero-shot classifier"
        " without what it says too often; zero_shot as it is, as in the paper",
    )
    low_resolution: int | None = Field(
        None,
        ge=8,
        le=limits.SIDE,
        description="pixels of the shorter side that generated images are shrunk to before they are learnt from, where the photographs"
        " are as small; None = as they are",
    )
    ensemble: bool = Field(False, description="start the head from task.ensemble in place of task.templates")
    wise_ft: float = Field(
        1.0, ge=0, le=1, description="weight of the tuned classifier in its mean with the untuned one; 1 = it alone"
    )
    unfrozen: UnfrozenSettings | None = Field(
        None,
        description="run the encoder in training, and tune some of it or let its BatchNorm go on; None = features once",
    )
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")

    @model_validator(mode="after")
    def _learns_something(self) -> ClipHeadSettings:
        if self.order == "mix" and self.real_weight == 0 and self.synthetic_weight == 0:
            raise ValueError(
                "real_weight and synthetic_weight are both 0, so nothing would be learnt: raise one of them"
            )
        return self

    @property
    def is_cheap(self) -> bool:
        return self.unfrozen is None

    @property
    def mixed(self) -> MixSettings:
        """The part that the training loops take."""
        return MixSettings(**self.model_dump(include=set(MixSettings.model_fields)))

    def goes_with(self, recipe: Recipe) -> None:
        if recipe.few_shot is None and self.order != "mix":
            raise ValueError(
                f"train.order: {self.order} learns from real images besides generated ones: give few_shot, such as"
                " few_shot: {shots: 16}, or leave train.order out"
            )
        if self.unfrozen is not None and recipe.evaluate.exchange_rate:
            raise ValueError(
                "train.unfrozen runs the encoder in every training, and the exchange rate takes dozens of them. Set "
                "evaluate.exchange_rate: false"
            )
        if self.ensemble and not recipe.task.ensemble:
            raise ValueError(
                f"train.ensemble is set, and the task {recipe.task.name!r} has no ensemble. Give it sentences in "
                "task.ensemble, or leave train.ensemble out"
            )

    def build(self, given: Given) -> Learner:
        from figment.learners.clip_head.learner import ClipHeadLearner

        templates = given.task.ensemble if self.ensemble else given.task.templates
        features, val = given.features(self.encoder), epoch_images(self.select, given)
        rest = self, val, given.caches / "unfrozen", given.real("unlabelled")
        return ClipHeadLearner(features, given.task.class_names, templates, *rest)


class ClosedFormSettings(LearnerSettings):
    """A head in closed form on the features of a CLIP: no steps, no learning rate, and no seed that matters."""

    seeds: int = Field(1, ge=1, le=limits.TRAININGS, description="trainings, all the same: nothing is left to chance")
    encoder: Clip = Field(
        "starter/clip", description="'starter/clip', a folder of a CLIP or an open_clip model, or a Hub id"
    )
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")

    @property
    def select(self) -> str:
        return "last"

    @property
    def is_cheap(self) -> bool:
        return True


class ImagesOnlySettings(ClosedFormSettings):
    """A classifier that never sees the name of a class: linear discriminant analysis on the features of the images."""

    kind: Literal["images_only"] = "images_only"
    encoder: Encoder = Field(  # type: ignore[assignment]
        "starter/clip",
        description="as above; or {timm: runs/NAME/model}, a backbone or any other network of timm, which reads no words",
    )

    @property
    def starts_untrained(self) -> bool:  # type: ignore[override]
        """A network that reads no words has no classifier before it has seen an image."""
        return isinstance(self.encoder, str)

    def build(self, given: Given) -> Learner:
        from figment.learners.clip_head.images_only import ImagesOnlyLearner

        own = self.encoder
        name, templates = (own, given.task.templates) if isinstance(own, str) else (own.name, [])
        return ImagesOnlyLearner(given.features(own), given.task.class_names, name, templates)


class WordsAndImagesSettings(ClosedFormSettings):
    """The zero-shot classifier, its bias removed, and what the images teach without words, their log-probabilities added.

    Where real images tell (of ``few_shot``, or ``task.real.val``) that the images alone do better, the words are left out.
    """

    kind: Literal["words_and_images"] = "words_and_images"

    def build(self, given: Given) -> Learner:
        from figment.learners.clip_head.words_and_images import WordsAndImagesLearner

        return WordsAndImagesLearner(
            given.features(self.encoder),
            given.task.class_names,
            given.task.templates,
            given.real("val"),
            self.encoder,
            given.real("unlabelled"),
        )


class LearnerPlugin(Plugin, LearnerSettings):
    """Your own learner: ``kind: package.module:Name``, called with ``options``. It chooses the epoch itself."""

    @property
    def select(self) -> str:
        return "last"

    def build(self, given: Given) -> Learner:
        from figment.plugins.learner import PluginLearner
        from figment.plugins.load import load

        return PluginLearner(load(self.kind, self.options, given), len(given.task.class_names))


DEFAULT_LEARNER = "words_and_images"


def learner_kind(value: Any) -> str:
    """Most recipes name no kind."""
    return DEFAULT_LEARNER if isinstance(value, dict) and "kind" not in value else kind_of(value)


Train = Annotated[
    Annotated[ClipHeadSettings, Tag("clip_head")]
    | Annotated[ImagesOnlySettings, Tag("images_only")]
    | Annotated[WordsAndImagesSettings, Tag("words_and_images")]
    | Annotated[NetworkSettings, Tag("network")]
    | Annotated[pretrain.SimCLRSettings, Tag("simclr")]
    | Annotated[pretrain.StableRepSettings, Tag("stablerep")]
    | Annotated[pretrain.StableRepPlusSettings, Tag("stablerep_plus")]
    | Annotated[pretrain.CLIPSettings, Tag("clip")]
    | Annotated[pretrain.SupervisedSettings, Tag("supervised")]
    | Annotated[pretrain.MoCoSettings, Tag("moco")]
    | Annotated[pretrain.BYOLSettings, Tag("byol")]
    | Annotated[pretrain.MAESettings, Tag("mae")]
    | Annotated[pretrain.DINOSettings, Tag("dino")]
    | Annotated[pretrain.MoCoV3Settings, Tag("moco_v3")]
    | Annotated[pretrain.SynCLRSettings, Tag("synclr")]
    | Annotated[LearnerPlugin, Tag(PLUGIN)],
    Discriminator(learner_kind),
]


class Evaluate(Strict):
    """Real images decide. The test images are read here; besides, the filter ``memorised`` takes copies of them out."""

    real_all: bool = Field(True, description="also tune on all real training images: the ceiling")
    evidence: bool = Field(
        True,
        description="also train placebos and remove the untrained classifier's bias: without such rivals nobody can say that"
        " generated images help",
    )
    placebos: int | None = Field(
        None,
        ge=2,
        le=limits.TRAININGS,
        description="trainings on the same images with shuffled labels; None = 6, or 2 for a network or an unfrozen encoder",
    )
    resamples: int | None = Field(
        None,
        ge=0,
        le=limits.TRAININGS,
        description="sets drawn again from the kept images, for intervals that hold for other sets of this recipe; None = 20, or"
        " 0 where a training takes long, and the verdict is then about this very set",
    )
    shot_draws: Annotated[int, Field(ge=5, le=limits.TRAININGS)] | None = Field(
        None,
        description="with few_shot: other choices of the real images, each with a set drawn again, for intervals that hold for other"
        " real images too; at least 5. None = the verdict is about these",
    )
    planned_test: int | None = Field(
        None,
        ge=1,
        le=limits.IMAGES,
        description="how many test images there will be in the end, where a verdict is wanted before all are there: each look then"
        " spends its share of the error (O'Brien-Fleming). None = this test set is the last one; on one that has grown since all"
        " the same, the verdict asks for more",
    )
    leaks: Literal["refuse", "report", False] = Field(
        "refuse",
        description="real images of one split that are in another, and generated images among the real ones: refuse to run where"
        " the test would be spoilt, report them and run all the same, or (false) do not look",
    )
    exchange_rate: bool = Field(
        True,
        description="also train on 1, 2, 4 ... real images a class: what is the synthetic set worth? Dozens of"
        " trainings, so left out unless asked for where a training is not a matter of seconds",
    )
    shots: list[Annotated[int, Field(ge=1, le=limits.SHOTS)]] = Field(
        [1, 2, 4, 8, 16, 32, 64], min_length=1, max_length=50
    )
    draws: int = Field(
        5, ge=2, le=limits.TRAININGS, description="random choices of the real images at each number of shots"
    )
    baselines: list[Baseline] = Field(
        [], description="other ways to learn from the few_shot images alone, measured beside the recipe's"
    )
    encoder: Encoder | None = Field(
        None,
        description="what the measures that compare kept images with real ones look with, such as {timm: vit_large_patch14_dinov2,"
        " weights: FILE}; None = the recipe's encoder",
    )
    measures: list[Text] = Field(
        [], description="what else to measure, by name, such as recognisability and frechet: see docs/measures.md"
    )

    @field_validator("measures")
    @classmethod
    def _are_measures(cls, names: list[str]) -> list[str]:
        known = measure_names()
        for name in names:
            if name not in known:
                raise ValueError(
                    f"there is no measure {name[:60]!r}.{nearest(name, known)} Measures: {', '.join(known)}"
                )
        return list(dict.fromkeys(names))

    @model_validator(mode="after")
    def _once(self) -> Evaluate:
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"baselines names one of {', '.join(self.baselines)} twice")
        return self


def measure_names() -> list[str]:
    """What ``evaluate.measures`` may name."""
    from figment import measures

    return measures.extra()
