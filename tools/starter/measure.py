"""Measure the finished starter on each of its tasks: what CLIP knows, what there is to know, what the generator knows with the task's
words and without. ``measurements.json`` in the working folder keeps what was measured, so a killed run goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from figment.cas import classification_accuracy_score
from figment.encoders import Features, open_encoder
from figment.evaluate.accuracy import accuracy
from figment.evaluate.coverage import coverage
from figment.evaluate.fidelity import frechet, recognisability
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.plan import Plan
from figment.images_in import open_images
from figment.images_in.memory import MemoryImages, in_memory
from figment.learners.clip_head.head import zero_shot_head
from figment.learners.clip_head.linear_probe import linear_probe
from figment.learners.network.network import NetworkLearner
from figment.learners.network.small_cnn import SMALL_CNN
from figment.prompts.attributes import Attributes
from figment.shots import draw_shots
from figment.starter import task_of
from figment.starter.looks import LOOKS
from figment.task import Task, load_task, real_folder
from figment.types import Images, Model, Result

PLAIN = "fashion"  # the task whose words say nothing of a look
GENERATED = 2_000  # images a task and kind of words
GUIDANCE, BESIDE = (1.0, 3.0, 5.0), 500  # what else is recognised of, and of how many images
CNN = SMALL_CNN.model_copy(update={"min_steps": 800})  # and what it takes to end an epoch

Row = Mapping[str, Any]


def tasks() -> dict[str, Task]:
    """Look -> its task; the catalogue's is the control."""
    return {look: load_task(task_of(look)) for look in LOOKS}


class Measurer:
    """Of one look. Everything that several measurements need is made once, and only if one of them is missing."""

    def __init__(self, task: Task, sampling: Mapping[str, Any]):
        self.task, self.names = task, task.class_names
        self.sampling = sampling

    @cached_property
    def encoder(self) -> Features:
        return Features(open_encoder("starter/clip"))

    @cached_property
    def test(self) -> Images:
        return self._real(self.task.real.test)

    @cached_property
    def pool(self) -> Images:
        return self._real(self.task.real.train)

    @cached_property
    def judge(self) -> Model:
        """A network that has seen what there is to see."""
        return NetworkLearner(CNN, self.names).learn(None, self.pool, seed=0)

    def _real(self, where: str | None) -> Images:
        assert where is not None
        return in_memory(open_images(real_folder(where), self.names), 2**30)

    def zero_shot(self, words: Task) -> Row:
        head = zero_shot_head(self.encoder.encoder, self.names, words.templates)
        return {"accuracy": accuracy(head.predict(self.encoder(self.test)), self.test.labels, self.names)}

    def linear(self) -> Row:
        head = linear_probe(self.encoder(self.pool), self.pool.labels, len(self.names))
        return {"accuracy": accuracy(head.predict(self.encoder(self.test)), self.test.labels, self.names)}

    def network(self) -> Row:
        return {"cas": accuracy(self.judge.logits(self.test), self.test.labels, self.names, "cas", (0,))}

    def as_many(self) -> Row:
        """What generated images are beside: a network that has seen as many real ones."""
        few = self.pool.take(draw_shots(self.pool.labels, GENERATED // len(self.names), seed=0))
        return {"cas": classification_accuracy_score(few, self.test, self.names, settings=CNN)}

    def generated(self, words: Task) -> Row:
        started = time.perf_counter()
        made, failed = sample(words, GENERATED, self.sampling)
        rate = len(made) / (time.perf_counter() - started)
        own, real = self.encoder(made), self.encoder(self.pool)
        return {
            "cas": classification_accuracy_score(made, self.test, self.names, settings=CNN),
            "recognised": self._recognised(made),
            "coverage": coverage(real, own, "starter/clip")[0],
            "frechet": frechet(own, real, "starter/clip"),
            "images": len(made),
            "failed": failed,
            "images_per_second": rate,
        }

    def guidance(self) -> Row:
        """The share that is recognised at other guidance scales."""
        scales = ({**self.sampling, "guidance_scale": scale} for scale in GUIDANCE)
        return {f"{own['guidance_scale']:g}": self._recognised(sample(self.task, BESIDE, own)[0]) for own in scales}

    def _recognised(self, made: MemoryImages) -> Result:
        return recognisability(self.judge.logits(made), made.labels, self.names, CNN.architecture)


def sample(words: Task, n: int, sampling: Mapping[str, Any]) -> tuple[MemoryImages, int]:
    """``n`` images, balanced, of a task's attribute prompts; and how many more failed."""
    generator = DiffusersGenerator(model="starter", **sampling)
    per_class = n // len(words.class_names)
    prompts = Attributes()(words, min(300, per_class), np.random.default_rng(0))
    samples = list(Plan(prompts, per_class, seed=7))
    made = generator([s.prompt for s in samples], [s.seed for s in samples])
    good = [(image, s.label) for image, s in zip(made, samples, strict=True) if image is not None]
    return MemoryImages([image for image, _ in good], np.array([label for _, label in good])), len(made) - len(good)


def measure(work: Path, sampling: Mapping[str, Any]) -> dict[str, dict[str, Row]]:
    """Look -> measurement -> its numbers; one training of a network each."""
    kept = work / "measurements.json"
    found: dict[str, dict[str, Row]] = json.loads(kept.read_text()) if kept.is_file() else {}
    plain = load_task(PLAIN)
    for look, task in tasks().items():
        own = Measurer(task, sampling)
        wanted: dict[str, Callable[[], Row]] = {
            "zero-shot": lambda own=own, task=task: own.zero_shot(task),
            "zero-shot, plain": lambda own=own: own.zero_shot(plain),
            "linear probe": own.linear,
            "network": own.network,
            "network, as many": own.as_many,
            "generated": lambda own=own, task=task: own.generated(task),
            "generated, plain": lambda own=own: own.generated(plain),
            "guidance": own.guidance,
        }
        for name, take in wanted.items():
            if name in found.setdefault(look, {}) or (look == "catalogue" and name.endswith("plain")):
                continue
            found[look][name] = {key: _brief(value) for key, value in take().items()}
            kept.write_text(json.dumps(found, indent=1) + "\n")
            print(f"card: {look}, {name}: measured", flush=True)
    return found


def _brief(value: Any) -> Any:
    """A result without its details of each class."""
    keep = ("metric", "value", "n", "ci", "seeds")
    return {key: x for key, x in asdict(value).items() if key in keep} if isinstance(value, Result) else value
