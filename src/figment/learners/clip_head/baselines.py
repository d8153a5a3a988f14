"""Ways of others to learn from a few real images, on the same features: what the recipe's learner is measured beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save

from figment import records
from figment.encoders import Towers
from figment.errors import FigmentError
from figment.files import write_atomic, write_json
from figment.learners.clip_head.augment import augmented_features
from figment.learners.clip_head.baseline_names import AUGMENTED, BASELINES
from figment.learners.clip_head.coop import check_coop, coop
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.images_only import ImagesOnlyLearner
from figment.learners.clip_head.learner import ClipHeadLearner
from figment.learners.clip_head.linear_probe import linear_probe
from figment.learners.clip_head.model import UnitFeatures
from figment.learners.clip_head.tip_adapter import TipAdapter, tip_adapter, tip_adapter_f
from figment.learners.clip_head.words_and_images import WordsAndImagesLearner
from figment.learners.network.network import NetworkLearner
from figment.types import Images, Learner, Model

VERSION = 2  # of what they do, for their fingerprints: predictions that an earlier one made are not taken for theirs
AUGMENTED_VIEWS = 10  # of each real image, in the baseline of real images with standard augmentation


#: The learners that start from the words of a CLIP.
OfWords = ClipHeadLearner | WordsAndImagesLearner


def baseline(name: str, learner: Learner) -> Learner:
    """The baseline of that name (see `BASELINES`) on the features and words of ``learner``; it learns from real images alone. With more
    augmentation that can be a learner without words too: ``images_only`` or a network.

    Raises FigmentError for an unknown name, for class names that CoOp cannot read, and for a learner that has no features of a CLIP.
    """
    if name not in BASELINES:
        raise FigmentError(f"There is no baseline {name!r}. There are: {', '.join(BASELINES)}.")
    if name == AUGMENTED and isinstance(learner, NetworkLearner):
        return learner.augmented()
    if name == AUGMENTED and isinstance(learner, ImagesOnlyLearner):
        return Baseline(name, learner)
    if not isinstance(learner, OfWords):
        raise FigmentError(
            f"The baseline {name!r} works on the features and words of a CLIP, and {learner.name} has none. Leave"
            " evaluate.baselines empty, or set train.kind: words_and_images or clip_head."
        )
    if name == "coop":
        check_coop(learner.encoder, learner.class_names)
    return Baseline(name, learner)


class Baseline(Learner):
    """One of them, as a learner."""

    def __init__(self, kind: str, learner: OfWords | ImagesOnlyLearner) -> None:
        self.kind, self.learner, self.name = kind, learner, BASELINES[kind][0]
        # Only one of them trains with the learner's settings; the others are the same beside any of them.
        words = [list(learner.class_names), list(learner.templates)]
        of = learner.fingerprint if kind == AUGMENTED else [learner.features.encoder.fingerprint, words]
        self.fingerprint = records.fingerprint([VERSION, kind, of])

    def learn(self, synthetic: Images | None, real: Images | None, seed: int) -> Model:
        if real is None or synthetic is not None:
            raise FigmentError(f"{self.name} learns from real images alone: give real ones, and no generated ones.")
        learner = self.learner
        if self.kind == AUGMENTED:
            return learner.model(self._augmented(real, seed))
        assert isinstance(learner, OfWords)  # as `baseline` has seen
        x, y, start = learner.features(real), real.labels, learner.zero_shot
        if self.kind.startswith("tip_adapter"):
            made = tip_adapter(start, x, y) if self.kind == "tip_adapter" else tip_adapter_f(start, x, y, seed)
            return TipAdapterModel(learner.unit, made, learner.encoder.fingerprint)
        heads: dict[str, Callable[[], Head]] = {
            "coop": lambda: coop(learner.encoder, learner.class_names, x, y, seed),
            "linear_probe": lambda: linear_probe(x, y, len(learner.class_names)),
        }
        return learner.model(heads[self.kind]())

    def untrained(self) -> Model | None:
        return self.learner.untrained()

    def _augmented(self, real: Images, seed: int) -> Head:
        """The learner's own training on real images, on random crops of them."""
        encoder = cast(Towers, self.learner.features.encoder)
        x, y = augmented_features(encoder, real, AUGMENTED_VIEWS, seed)
        return self.learner.few_shot_head(x, y, seed)


@dataclass
class TipAdapterModel:
    """An encoder and a cache of features beside its zero-shot classifier."""

    unit: UnitFeatures
    adapter: TipAdapter
    encoder_fingerprint: str
    history: list[dict[str, Any]] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        self.fingerprint = records.fingerprint([self.encoder_fingerprint, records.digest(self._weights())])

    @torch.inference_mode()
    def logits(self, images: Images) -> np.ndarray:
        """float32 (n, N)."""
        return self.adapter.predict(self.unit(images).numpy())

    def save(self, folder: Path) -> None:
        """``tip_adapter.safetensors``: the zero-shot head, the keys and the values; ``tip_adapter.json``: alpha and beta."""
        write_atomic(folder / "tip_adapter.safetensors", self._weights())
        scales = {"alpha": self.adapter.alpha, "beta": self.adapter.beta}
        write_json(folder / "tip_adapter.json", {**scales, "encoder_fingerprint": self.encoder_fingerprint})

    def _weights(self) -> bytes:
        a = self.adapter
        return save(
            {**a.head.state_dict(), "keys": a.keys, "values": a.values}, {"alpha": str(a.alpha), "beta": str(a.beta)}
        )
