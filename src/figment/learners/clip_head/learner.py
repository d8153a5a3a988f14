"""The CLIP head as a learner: a classifier that starts as the words of the classes and is tuned on features of images."""

from __future__ import annotations

import copy
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch

from figment import records
from figment.device import free_bytes
from figment.encoders import Features, Towers
from figment.errors import FigmentError
from figment.images_in.changed import shrunk
from figment.learners.clip_head.head import ENCODER, Head, HeadCard, zero_shot_head
from figment.learners.clip_head.mix import tune_mixed_many
from figment.learners.clip_head.model import ClipHeadModel, UnitFeatures
from figment.learners.clip_head.settings import MixSettings, Start, UnfrozenSettings
from figment.learners.clip_head.tune import Chosen, Tuned, few_shot, tune_few_shot, tune_many
from figment.learners.clip_head.unbiased import Labelled, unbiased
from figment.learners.clip_head.unfrozen import UnfrozenTuned, check_unfrozen, identity_of, tune_unfrozen, wise_ft
from figment.learners.clip_head.wise_ft import interpolate
from figment.types import Images, Learner, Model, Training

log = logging.getLogger(__name__)


class Settings(Protocol):
    """What the learner reads of a recipe's ``train``, beside the fields of `MixSettings`."""

    @property
    def encoder(self) -> str: ...  # its name, for the card of a saved head

    @property
    def unfrozen(self) -> UnfrozenSettings | None: ...

    @property
    def wise_ft(self) -> float: ...

    @property
    def start(self) -> Start: ...

    @property
    def low_resolution(self) -> int | None: ...

    def model_dump(self, *, include: set[str]) -> dict[str, Any]: ...


class ClipHeadLearner(Learner):
    """From generated images, real ones or both to a `ClipHeadModel`; many trainings on frozen features run at once.

    Generated images alone are learnt from as `tune` does, real ones alone as `tune_few_shot`, both as `tune_mixed`,
    the two last with ``settings.min_steps`` at the least. With ``settings.unfrozen`` it is `tune_unfrozen`, one after the other.
    Every training starts at the zero-shot classifier.
    """

    name = "CLIP head"

    def __init__(
        self,
        features: Features,
        class_names: Sequence[str],
        templates: Sequence[str],
        settings: Settings,
        val: Images | None = None,
        folder: Path | None = None,
        unlabelled: Images | None = None,
    ) -> None:
        """``val`` are the images that choose the epoch, where ``settings.select`` wants some; in ``folder`` trainings of an
        unfrozen encoder keep their state, so that they go on after a kill. ``unlabelled`` ones show the bias of the start."""
        self.folder, self.unlabelled = folder, unlabelled
        self.features, self.class_names, self.templates, self.val = features, class_names, templates, val
        self.encoder = cast(Towers, features.encoder)
        self.unfrozen, self.wise_ft, self.encoder_name = settings.unfrozen, settings.wise_ft, settings.encoder
        self.start, self.low_resolution = settings.start, settings.low_resolution
        self.settings = MixSettings(**settings.model_dump(include=set(MixSettings.model_fields)))
        self.unit = UnitFeatures(features)

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        unfrozen = None if self.unfrozen is None else identity_of(self.unfrozen, self.encoder.device)
        val = None if self.val is None else [list(self.val.digests), np.asarray(self.val.labels).tolist()]
        words = [list(self.class_names), list(self.templates)]
        return records.fingerprint(
            [self.encoder.fingerprint, words, self.settings.model_dump(), unfrozen, self.wise_ft, self._bias_from, val]
            + [self.low_resolution]
        )

    @property
    def _bias_from(self) -> list[Any]:
        """Of what the start is, for the fingerprint."""
        seen = None if self.unlabelled is None or self.start == "zero_shot" else list(self.unlabelled.digests)
        return [self.start, seen]

    @cached_property
    def zero_shot(self) -> Head:
        """The zero-shot classifier, where every training starts or, with its bias removed, nearly so."""
        return zero_shot_head(self.encoder, self.class_names, self.templates)

    def untrained(self) -> Model:
        return self.model(self.zero_shot)

    def check(self, synthetic: int, real: int) -> None:
        """The encoder against what is done with it, a warm-up that would not end, and class names that are not read to their end."""
        texts = [template.replace("{}", name) for name in self.class_names for template in self.templates]
        cut = self.encoder.count_cut(texts)
        if cut:
            log.warning(
                f"{cut:,} of {len(texts):,} class names (in their templates) are longer than the classifier reads: their"
                " ends change nothing"
            )
        if self.unfrozen is not None:
            check_unfrozen(self.encoder, self.unfrozen)
        s, an_epoch = self.settings, math.ceil(synthetic / self.settings.batch_size)
        steps = s.epochs * an_epoch
        if real and s.order == "mix":
            steps = max(s.epochs, math.ceil(s.min_steps / an_epoch)) * an_epoch
        elif real:  # the real images have a training of their own
            steps = min(steps, s.epochs * math.ceil(real / s.real_batch_size))
        if s.warmup_steps >= steps:
            raise FigmentError(
                f"train.warmup_steps is {s.warmup_steps:,}, and there are {steps:,} training steps at most: the learning rate"
                f" would never come down. Set train.warmup_steps below {steps:,}; 0 is usual."
            )

    def learn(self, synthetic: Images | None, real: Images | None, seed: int) -> Model:
        (model,) = self.learn_many([Training(synthetic, real, seed)])
        return model

    def learn_many(self, trainings: Sequence[Training]) -> Iterator[Model]:
        """The models, in order. Those of one kind are trained at once: weights are those of `learn` up to rounding."""
        for t in trainings:
            if t.synthetic is None and t.real is None:
                raise FigmentError("There is nothing to learn from: give generated images, real ones, or both.")
        trainings = [self._shrunk(t) for t in trainings]
        if self.unfrozen is not None:
            yield from (self._unfrozen_model(t, self.unfrozen) for t in trainings)
            return
        pool = _Pool(
            self.features, [images for t in trainings for images in (t.synthetic, t.real) if images is not None]
        )
        starts, alike = [self.start_of(t) for t in trainings], defaultdict(list)
        for i, (t, start) in enumerate(zip(trainings, starts, strict=True)):
            alike[t.synthetic is not None, t.real is not None, start.linear.bias.detach().numpy().tobytes()].append(i)
        tuned: dict[int, Tuned] = {}
        for members in alike.values():
            some = self._tune(starts[members[0]], [trainings[i] for i in members], pool)
            tuned.update(zip(members, some, strict=True))
        for i, start in enumerate(starts):
            yield self.model(self.ensemble(start, tuned[i].head), tuned[i].history)

    def _shrunk(self, t: Training) -> Training:
        """The training with its generated images in the resolution that the settings give them."""
        if self.low_resolution is None or t.synthetic is None:
            return t
        return replace(t, synthetic=shrunk(t.synthetic, self.low_resolution))

    def few_shot_head(self, x: np.ndarray, y: np.ndarray, seed: int) -> Head:
        """Of real images alone: features (n, D), labels (n,)."""
        start = self._start(None, (x, y))
        tuned = tune_few_shot(self._placed(start, len(x)), x, y, seed, self.settings)
        return self.ensemble(start, tuned.to("cpu"))

    def start_of(self, t: Training) -> Head:
        """Where a training starts: the zero-shot classifier, with its bias removed on the training's images unless it is to be kept."""
        if self.start == "zero_shot":
            return self.zero_shot
        return self._start(*(i if i is None else (self.features(i), i.labels) for i in (t.synthetic, t.real)))

    def _start(self, synthetic: Labelled | None, real: Labelled | None) -> Head:
        if self.start == "zero_shot":
            return self.zero_shot
        seen = None if self.unlabelled is None else self.features(self.unlabelled)
        return unbiased(self.zero_shot, synthetic, real, seen)

    def model(self, head: Head, history: list[dict[str, Any]] | None = None) -> ClipHeadModel:
        """A head on the learner's features, as a model."""
        names = tuple(self.class_names), tuple(self.templates)
        return ClipHeadModel(
            self.unit, head, HeadCard(*names, self.encoder_name, self.encoder.fingerprint), history or []
        )

    def ensemble(self, start: Head, head: Head) -> Head:
        """WiSE-FT, with the classifier before tuning, where the settings ask for it."""
        return head if self.wise_ft == 1 else interpolate(start, head, self.wise_ft)

    def _tune(self, start: Head, trainings: Sequence[Training], pool: _Pool) -> list[Tuned]:
        """Trainings on the same kinds of images, from one start."""
        seeds, (first, *_) = [t.seed for t in trainings], trainings
        synthetic = [pool.chosen(t.synthetic) for t in trainings if t.synthetic is not None]
        real = [pool.chosen(t.real) for t in trainings if t.real is not None]
        x, s = pool.features, self.settings
        start = self._placed(start, len(x))
        if first.synthetic is None:
            tuned = tune_many(start, x, real, few_shot(s), seeds, min_steps=s.min_steps)
        else:
            val = None if self.val is None else (self.features(self.val), self.val.labels)
            if first.real is None:
                tuned = tune_many(start, x, synthetic, s, seeds, val=val)
            else:
                tuned = tune_mixed_many(start, x, real, synthetic, s, seeds, val=val)
        return [replace(t, head=t.head.to("cpu")) for t in tuned]

    def _placed(self, start: Head, n: int) -> Head:
        """A copy of where a training on n images starts, on the device that it is to run on: the encoder's, if that is a GPU with
        twice the room that features and soft targets take, else the CPU."""
        free, needed = free_bytes(self.encoder.device), n * 4 * sum(start.linear.weight.shape)
        fits = free is not None and 2 * needed <= free
        return copy.deepcopy(start).to(self.encoder.device if fits else torch.device("cpu"))

    def _unfrozen_model(self, t: Training, unfrozen: UnfrozenSettings) -> ClipHeadModel:
        start = self.encoder, self.start_of(t)
        tuned: UnfrozenTuned = tune_unfrozen(
            *start,
            self.settings,
            unfrozen,
            t.seed,
            synthetic=t.synthetic,
            real=t.real,
            val=self.val,
            folder=self.folder,
        )
        if self.wise_ft != 1:
            tuned = wise_ft(*start, tuned, self.wise_ft)
        names = tuple(self.class_names), tuple(self.templates)
        card = HeadCard(*names, ENCODER, tuned.encoder.fingerprint)
        facts = {"trainable_fraction": tuned.trainable_fraction}
        own = UnitFeatures(Features(tuned.encoder))
        return ClipHeadModel(own, tuned.head, card, tuned.history, facts, tuned.encoder)


class _Pool:
    """The features of several sets of images as one matrix without repetitions, and each set as rows of it."""

    def __init__(self, features: Features, sets: Iterable[Images]) -> None:
        place: dict[str, int] = {}
        self._rows: dict[int, np.ndarray] = {}
        blocks = []
        for images in sets:
            if id(images) in self._rows:  # the caller holds all of them, so no two have one id
                continue
            digests, new = images.digests, []
            for i, d in enumerate(digests):
                if d not in place:
                    place[d] = len(place)
                    new.append(i)
            if new:
                blocks.append(features(images.take(new)))
            self._rows[id(images)] = np.array([place[d] for d in digests], np.int64)
        self.features = np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)

    def chosen(self, images: Images) -> Chosen:
        """These images, by rows and labels."""
        return Chosen(self._rows[id(images)], np.asarray(images.labels, np.int64))
