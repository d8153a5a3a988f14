"""Everything that sets and test images are drawn from, and the classifiers of words: all that is known for sure here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch

from figment import records
from figment.encoders import Features, class_prototypes, open_encoder
from figment.images_in import open_images
from figment.images_in.concat import concatenate
from figment.images_in.memory import in_memory
from figment.images_in.shards import open_run_images
from figment.layout import Run
from figment.learners.clip_head.head import Head
from figment.recipe import load_recipe
from figment.task import Task, load_task, real_folder
from figment.types import Images

BLUR_SEED = 5
MEMORY = 2**31  # bytes of decoded images


@dataclass(frozen=True, eq=False)
class World:
    """``prototypes`` float32 (N, D) are the unit text features of the classes. Images come with their labels, int (n,).
    The first ``n_first`` generated images are those of the first run."""

    task: Task
    prototypes: np.ndarray
    logit_scale: float
    generated: Images
    n_first: int
    pool: Images
    test: Images
    features: Features

    @property
    def class_names(self) -> list[str]:
        return self.task.class_names

    @cached_property
    def facts(self) -> dict[str, str | int]:
        """What tells it from other worlds: the question, the encoder and the generated images."""
        images = records.fingerprint([list(self.generated.digests), self.generated.labels.tolist()])
        encoder = self.features.encoder.fingerprint
        return {"task": self.task.name, "encoder": encoder, "generated": len(self.generated), "images": images}

    @property
    def key(self) -> str:
        return records.fingerprint(self.facts)

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @cache  # noqa: B019 - one world a process
    def of(self, which: str) -> tuple[np.ndarray, np.ndarray]:
        """Features float32 (n, D) and labels of ``generated``, ``pool`` or ``test``."""
        images: Images = getattr(self, which)
        return self.features(images), images.labels

    def words(self, blur: float = 0.0) -> Head:
        """The zero-shot classifier; ``blur`` is the standard deviation of the noise in each number of the prototypes."""
        noise = np.random.default_rng(BLUR_SEED).normal(0, blur, self.prototypes.shape) if blur else 0.0
        return Head.from_texts(self.prototypes + noise, self.logit_scale)


def with_bias(head: Head, bias: np.ndarray) -> Head:
    """A copy of ``head`` with ``bias`` float (N,) added to its logits."""
    moved = Head(head.linear.in_features, head.linear.out_features)
    moved.load_state_dict(head.state_dict())
    with torch.no_grad():
        moved.linear.bias.add_(torch.from_numpy(bias))
    return moved


def check_is_of(task: Task, run: Path) -> None:
    """Raise SystemExit for a run of other classes or other test images."""
    own = load_recipe(Run(run).recipe).task
    if (own.class_names, own.real.test) != (task.class_names, task.real.test):
        raise SystemExit(
            f"{run} is a run of {own.name}, not of {task.name}: make its images with --set task={task.name}"
        )


def open_world(runs: Sequence[Path], cache_folder: Path, task: str = "fashion", clip: str = "starter/clip") -> World:
    """The generated images of all ``runs`` together. Nothing is written to them: features are kept in ``cache_folder``.

    ``clip`` is the encoder's folder. Raises SystemExit for a run of another task.
    """
    asked, encoder = load_task(task), open_encoder(clip)
    for run in runs:
        check_is_of(asked, run)
    generated = [open_run_images(Run(run)) for run in runs]
    pool, test = (open_images(real_folder(where), asked.class_names) for where in (asked.real.train, asked.real.test))
    return World(
        asked,
        class_prototypes(encoder, asked.class_names, asked.templates),
        encoder.logit_scale,
        in_memory(concatenate(*generated), MEMORY),
        len(generated[0]),
        in_memory(pool, MEMORY),
        in_memory(test, MEMORY),
        Features(encoder, cache_folder),
    )
