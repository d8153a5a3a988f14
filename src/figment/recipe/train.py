"""How the classifier learns and what is measured: ``few_shot``, ``train`` and ``evaluate`` of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from figment.learners.clip_head.settings import MixSettings, UnfrozenSettings
from figment.task import PathText, Strict, Text

Baseline = Literal["tip_adapter", "tip_adapter_f", "coop", "linear_probe", "augmented"]


class FewShot(Strict):
    """The few real images there are to learn from: so many of each class, drawn from task.real.train with the recipe's seed."""

    shots: int = Field(16, ge=1, description="real images of each class")
    split: PathText | None = Field(
        None, description="a split file that names the images (figment's or CoOp's), in place of a draw"
    )


class Train(MixSettings):
    """The CLIP classifier: a head that starts as the class names' text features, tuned on the kept images.

    With ``few_shot`` it learns from those real images as well, in the ``order`` and with the weights given here.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    learning_rate: float = Field(
        2e-3, gt=0, description="AdamW's step size at its highest; the paper's is 1e-3 with few_shot"
    )
    encoder: PathText = Field(
        "starter/clip", description="'starter/clip', a folder of a CLIP or an open_clip model, or a Hub id"
    )
    ensemble: bool = Field(False, description="start the head from task.ensemble in place of task.templates")
    seeds: int = Field(3, ge=1, description="tunings, averaged in the result")
    images_per_class: int | None = Field(
        None, ge=1, description="learn from the first so many kept images of each class; None = all"
    )
    wise_ft: float = Field(
        1.0, ge=0, le=1, description="weight of the tuned classifier in its mean with the untuned one; 1 = it alone"
    )
    unfrozen: UnfrozenSettings | None = Field(
        None,
        description="run the encoder in training, and tune some of it or let its BatchNorm go on; None = features once",
    )
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")

    @model_validator(mode="after")
    def _learns_something(self) -> Train:
        if self.order == "mix" and self.real_weight == 0 and self.synthetic_weight == 0:
            raise ValueError(
                "real_weight and synthetic_weight are both 0, so nothing would be learnt: raise one of them"
            )
        return self

    @property
    def mixed(self) -> MixSettings:
        """The part that the learners take."""
        return MixSettings(**self.model_dump(include=set(MixSettings.model_fields)))


class Evaluate(Strict):
    """Real images decide. The test images are read here; besides, the filter ``memorised`` takes copies of them out."""

    real_all: bool = Field(True, description="also tune on all real training images: the ceiling")
    exchange_rate: bool = Field(
        True, description="also tune on 1, 2, 4 ... real images a class: what is the synthetic set worth?"
    )
    shots: list[Annotated[int, Field(ge=1)]] = Field([1, 2, 4, 8, 16, 32, 64], min_length=1)
    draws: int = Field(5, ge=2, description="random choices of the real images at each number of shots")
    baselines: list[Baseline] = Field(
        [], description="other ways to learn from the few_shot images alone, measured beside the recipe's"
    )
    measures: list[Text] = Field([], description="more to measure, by name: see docs/measures.md")

    @model_validator(mode="before")
    @classmethod
    def _old_name(cls, data: Any) -> Any:
        """``fidelity`` of version 0.1."""
        if not isinstance(data, dict) or "fidelity" not in data:
            return data
        own = {name: value for name, value in data.items() if name != "fidelity"}
        return {**own, "measures": ["recognisability", "frechet"]} if data["fidelity"] else own

    @model_validator(mode="after")
    def _once(self) -> Evaluate:
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"baselines names one of {', '.join(self.baselines)} twice")
        return self
