"""What a training takes on this machine, before there is anything to train on."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, cast

import numpy as np

from figment.errors import FigmentError
from figment.images_in.memory import MemoryImages
from figment.images_in.provenance import Stored
from figment.learners.settings import LearnerSettings
from figment.stages.stage import NOT_TIMED
from figment.task import RealImages

if TYPE_CHECKING:
    from figment.context import Context

#: Random images of a trial, and how many times a cheap learner sees each, whose trainings are over too fast to time otherwise; and, at
#: most, one of small images.
CHEAP, COSTLY, TIMES, MORE = 64, 16, 32, 8
PIXELS = COSTLY * 256**2  # of a costly learner's trial: fewer images where they are larger, two at least
FEW_CLASSES = 8  # of a costly learner's trial: the last layer is a small part of it
SIDE = 64  # pixels


def seconds_of_training(ctx: Context, images: int) -> float:
    """One training of the recipe's learner on so many images: timed on few random ones for an epoch, the better of two.

    About right, and no more: real images take longer to decode. Raises FigmentError where the learner cannot be had, or nothing is to be
    timed.
    """
    if ctx.seconds_per_image is not None:
        raise FigmentError(NOT_TIMED)
    return sum(_seconds_of(part, ctx, images) for part in ctx.recipe.train.parts)


def _seconds_of(train: LearnerSettings, ctx: Context, images: int) -> float:
    n_classes = len(ctx.task.class_names)
    n, times = CHEAP, TIMES
    if not train.is_cheap:
        side = getattr(train, "image_size", SIDE)
        n = max(2, min(COSTLY, PIXELS // side**2))
        times = max(1, min(MORE, PIXELS // (n * side**2)))  # what begins and ends a training is no part of a step
        n_classes = min(n_classes, FEW_CLASSES, n)
        task = ctx.task.model_copy(update={"class_names": ctx.task.class_names[:n_classes], "real": RealImages()})
        few = ctx.recipe.model_copy(update={"task": task, "few_shot": None})
        ctx = type(ctx)(few, ctx.run, allow_plugins=ctx.allow_plugins)
    rng = np.random.default_rng(0)
    some = [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(n)]
    labels = np.arange(n) % n_classes
    once = MemoryImages(some, labels)
    if not train.is_cheap:  # what features are judged by: no real image is looked at
        ctx.given = {"train": cast(Stored, once)}
    an_epoch = {
        "epochs": 1,
        "select": "last",
        "warmup_steps": 0,
        "warmup_epochs": 0,
        "min_steps": 0,
        "steps": None,
        "fresh_epochs": 1,
        "workers": 0,
    }
    short = train.model_copy(update={k: v for k, v in an_epoch.items() if k in type(train).model_fields})
    learner = short.build(ctx)
    learner.practise(once, 0)  # also encodes them, where the learner looks at features
    trial = MemoryImages(some * times, np.tile(labels, times))
    seconds = math.inf
    for seed in (1, 2):  # each another training: one that was finished is read and not repeated
        started = time.perf_counter()
        learner.practise(trial, seed)
        seconds = min(seconds, time.perf_counter() - started)
    shown = len(trial) * getattr(train, "images_per_caption", 1)  # they have no captions: each is shown so often
    return seconds * train.shown(images) / shown
