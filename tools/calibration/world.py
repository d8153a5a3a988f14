"""Everything that sets and test images are drawn from, and the classifiers of words: all that is known for sure here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from figment.encoders import Features, class_prototypes, open_encoder
from figment.images_in import open_images
from figment.images_in.concat import concatenate
from figment.images_in.memory import in_memory
from figment.images_in.shards import open_run_images
from figment.layout import Run
from figment.learners.clip_head.head import Head
from figment.task import load_task, real_folder
from figment.types import Images

BLUR_SEED = 5
MEMORY = 2**31  # bytes of decoded images


@dataclass(frozen=True, eq=False)
class World:
    """``prototypes`` float32 (N, D) are the unit text features of the classes. Images come with their labels, int (n,).
    The first ``n_first`` generated images are those of the first run."""

    class_names: list[str]
    prototypes: np.ndarray
    logit_scale: float
    generated: Images
    n_first: int
    pool: Images
    test: Images
    features: Features

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


def open_world(runs: Sequence[Path], cache_folder: Path) -> World:
    """The generated images of all ``runs`` together. Nothing is written to them: features are kept in ``cache_folder``."""
    task, encoder = load_task("fashion"), open_encoder("starter/clip")
    generated = [open_run_images(Run(run)) for run in runs]
    pool, test = (open_images(real_folder(f"starter/{split}"), task.class_names) for split in ("pool", "test"))
    return World(
        task.class_names,
        class_prototypes(encoder, task.class_names, task.templates),
        encoder.logit_scale,
        in_memory(concatenate(*generated), MEMORY),
        len(generated[0]),
        in_memory(pool, MEMORY),
        in_memory(test, MEMORY),
        Features(encoder, cache_folder),
    )
