"""A learner of a user's own, and the models it makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from figment import records
from figment.errors import FigmentError
from figment.plugins.load import Plugin
from figment.types import Images, Model, Training


class PluginModel:
    """What a user's own learner made. Its logits are checked."""

    def __init__(self, plugin: Plugin, model: Any, n_classes: int, fingerprint: str):
        self.plugin, self.model, self.n_classes = plugin, model, n_classes
        for method in ("logits", "save"):
            if not callable(getattr(model, method, None)):
                plugin.refuse(
                    f"learnt a model without {method}():", model, "a model with logits(images) and save(folder)"
                )
        own = getattr(model, "fingerprint", None)
        self.fingerprint = own if isinstance(own, str) and own else fingerprint
        self.history = list(getattr(model, "history", None) or [])
        self.facts = dict(getattr(model, "facts", None) or {})
        if not all(isinstance(epoch, Mapping) for epoch in self.history):
            plugin.refuse("learnt a model whose history is", self.history, "a list with a dict for each epoch")

    def logits(self, images: Images) -> np.ndarray:
        with self.plugin.blamed("asked for the logits of its model"):
            logits = self.model.logits(images)
        shape = (len(images), self.n_classes)
        wanted = f"a float32 array of shape {shape}: for each image a finite number a class, the highest the answer"
        if not isinstance(logits, np.ndarray) or logits.shape != shape or not np.issubdtype(logits.dtype, np.floating):
            self.plugin.refuse("has a model whose logits are", logits, wanted)
        if not np.isfinite(logits).all():
            n = int((~np.isfinite(logits)).any(1).sum())
            raise FigmentError(
                f"The plug-in {self.plugin.kind} has a model whose logits are NaN or infinite for {n:,} of {len(images):,} images."
                f" Wanted: {wanted}."
            )
        return logits.astype(np.float32, copy=False)

    def save(self, folder: Path) -> None:
        with self.plugin.blamed("asked to save its model"):
            self.model.save(folder)


class PluginLearner:
    """A learner of a user's own. Its models are checked; `learn_many` is supplied where it has none."""

    def __init__(self, plugin: Plugin, n_classes: int):
        self.plugin, self.n_classes = plugin, n_classes
        if not callable(getattr(plugin.made, "learn", None)):
            plugin.refuse("made", plugin.made, "a learner with learn(synthetic, real, seed), which returns a model")
        self.name = str(plugin.attribute("name", None) or plugin.kind.partition(":")[2])
        self.fingerprint = plugin.fingerprint
        self.reads_captions = bool(plugin.attribute("reads_captions", False))

    def learn(self, synthetic: Images | None, real: Images | None, seed: int) -> Model:
        with self.plugin.blamed("asked to learn"):
            model = self.plugin.made.learn(synthetic, real, seed)
        return self._model(model, Training(synthetic, real, seed))

    def practise(self, images: Images, seed: int) -> None:
        self.learn(images, None, seed)

    def learn_many(self, trainings: Sequence[Training]) -> Iterator[Model]:
        many = self.plugin.attribute("learn_many", None)
        if many is None:
            for t in trainings:
                yield self.learn(t.synthetic, t.real, t.seed)
            return
        with self.plugin.blamed("asked for several trainings"):
            models = iter(many(trainings))
        for done, training in enumerate(trainings):
            with self.plugin.blamed("asked for several trainings"):
                model = next(models, None)
            if model is None:
                raise FigmentError(
                    f"The plug-in {self.plugin.kind} gave {done:,} models for {len(trainings):,} trainings. Wanted: learn_many gives"
                    " a model for each, in order."
                )
            yield self._model(model, training)

    def check(self, synthetic: int, real: int) -> None:
        check = self.plugin.attribute("check", None)
        if check is not None:
            check(synthetic, real)

    def untrained(self) -> Model | None:
        untrained = self.plugin.attribute("untrained", None)
        if untrained is None:
            return None
        with self.plugin.blamed("asked for its untrained model"):
            model = untrained()
        return None if model is None else self._model(model, Training())

    def _model(self, model: Any, training: Training) -> PluginModel:
        seen = [
            [list(i.digests), i.labels.tolist()] if i is not None else None for i in (training.synthetic, training.real)
        ]
        own = records.fingerprint([self.fingerprint, seen, training.seed])
        return PluginModel(self.plugin, model, self.n_classes, own)
