"""The learner: from labelled images to a network that classifies them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from figment import records
from figment.checkpoint import Checkpoint
from figment.errors import FigmentError
from figment.images_in.captions import shown
from figment.images_in.concat import concatenate
from figment.images_in.labels import listed
from figment.images_in.memory import in_memory
from figment.learners.network.architectures import has_batch_norm, make, start_from, warn_if_tiny
from figment.learners.network.augment import EvalTransform, TrainTransform
from figment.learners.network.loop import NetworkLoop
from figment.learners.network.model import NetworkModel, predict
from figment.learners.network.settings import LATER, NOT_PART_OF_A_MODEL, NetworkSettings
from figment.learners.processes import Processes, processes
from figment.learners.training import n_epochs, needs_validation, random_numbers_of, train
from figment.loading.loader import ImageDataset, Loader, usual_workers
from figment.loading.orders import Dealt, Mixed, Order, Shuffled
from figment.memory import enough_memory
from figment.models import resolve
from figment.tracking import Tracker, curves, needs_tracker
from figment.types import Images, Learner, Model

if TYPE_CHECKING:
    from figment.learners.pretrain.learner import PretrainLearner

FORMAT = 1  # of the fingerprint: raise it where the same settings come to train otherwise
RAND_AUGMENT, ERASING = 2, 0.25  # of `NetworkLearner.augmented`: what is usual
MEMORY = 2**31  # bytes of decoded images that are kept; more are decoded again in every epoch


class NetworkLearner(Learner):
    """A `figment.types.Learner`: any architecture of timm, from scratch or from pre-trained weights with a new classifier.

    On a CPU a seed decides all. Started by ``torchrun`` or ``accelerate launch``, all processes train one network together,
    each on its own part of every batch.

    Args:
        settings: see `NetworkSettings`.
        class_names: N names, in label order.
        val: images to choose the epoch on, and for the history.
        pretrainer: what pre-trains the network on the images of a training before it learns their labels; None = nothing.
        folder: where a training keeps its state, so that the same one goes on after a kill and is not repeated when it
            was finished; None keeps nothing.
        device: torch's name of one; None takes a GPU where there is one.
        checkpoint_seconds: from one writing of the state to the next.
        track: where losses are drawn meanwhile.

    Raises:
        FigmentError: for an architecture that there is not or that does not take such images, for weights that do not fit,
            and where an epoch is to be chosen without ``val``.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        class_names: Sequence[str],
        *,
        val: Images | None = None,
        pretrainer: PretrainLearner | None = None,
        folder: Path | None = None,
        device: str | None = None,
        checkpoint_seconds: float = 60.0,
        track: Tracker | None = None,
    ):
        needs_validation(settings.select, val)
        needs_tracker(track)
        self.settings, self.class_names, self.val, self.folder = settings, list(class_names), val, folder
        self.device, self.checkpoint_seconds, self.track = device, checkpoint_seconds, track
        self.start = None if settings.pretrained is None else resolve(settings.pretrained)
        with random_numbers_of(0):  # what cannot be made is said before anything is spent
            network = make(settings, len(self.class_names), self.start)
        warn_if_tiny(network)
        self.has_batch_norm = has_batch_norm(network.module)
        self.pretrainer = pretrainer
        self.reads_captions = pretrainer is not None and pretrainer.reads_captions
        origin = "from scratch" if self.start is None else f"pre-trained, from {self.start.name}"
        origin += "" if pretrainer is None else f", after {pretrainer.settings.kind} on the same images"
        self.name = f"{settings.architecture}, {origin}"
        chosen = None if val is None else [list(val.digests), val.labels.tolist()]
        weights = None if self.start is None else self.start.fingerprint
        unsaid = {name for name in LATER if getattr(settings, name) == NetworkSettings.model_fields[name].default}
        own = settings.model_dump(mode="json", exclude=set(NOT_PART_OF_A_MODEL) | unsaid)
        first = [] if pretrainer is None else [pretrainer.fingerprint]
        self.fingerprint = records.fingerprint(["network", FORMAT, own, self.class_names, weights, chosen, *first])

    def learn(self, synthetic: Images | None, real: Images | None, seed: int) -> NetworkModel:
        """Train from the start. ``seed`` is of the network's first weights, the order of the images and all augmentation.

        Raises FigmentError for classes without images, labels out of range, too few images for a step, a loss that is
        not finite, and memory that does not suffice.
        """
        s, on = self.settings, processes(self.device)
        # Where all of a batch is real, the generated images were for the pre-training alone.
        labelled = None if s.real_share == 1 and real is not None else synthetic
        parts = [part for part in (labelled, real) if part is not None and len(part)]
        self._check(parts)
        order = self._order(labelled, real, seed)
        batch_size = self._batch_size(len(order), on)
        with random_numbers_of(seed):
            network = make(s, len(self.class_names), self.start)
        if self.pretrainer is not None:
            start_from(network, self.pretrainer.backbone(synthetic, real, seed).network)
        loader = self._loader(parts, order, batch_size // on.world_size, network.data, on)
        checkpoint = self._checkpoint(synthetic, real, seed, on)
        test = EvalTransform(network.data)
        description = f"train {s.architecture}, seed {seed}"
        known = () if checkpoint is None else (checkpoint.identity, checkpoint.path.parent)
        drawn = curves(self.track if on.rank == 0 else None, f"{s.architecture}-{seed}", *known)
        with enough_memory(f"{s.architecture} learnt from {batch_size:,} images a step on {on.device}", s.lighter):
            loop = NetworkLoop(network, loader, n_epochs(s.epochs, len(loader), s.min_steps), s, seed, on)
            validate = None if self.val is None else lambda: self._accuracy(loop, test)
            history = train(
                loop, select=s.select, validate=validate, checkpoint=checkpoint, curves=drawn, description=description
            )
        on.agree(loop.learnt.state_dict())
        facts = {
            "architecture": s.architecture,
            "parameters": sum(p.numel() for p in loop.learnt.parameters()),
            "image_size": s.image_size,
            "steps": loop.steps,
            "batch_size": batch_size,
        }
        return NetworkModel(replace(network, module=loop.learnt.eval()), self.class_names, history, facts)

    def check(self, synthetic: int, real: int) -> None:
        """Too few images for a step, and a batch of one image in front of BatchNorm."""
        s = self.settings
        if self.pretrainer is not None:
            self.pretrainer.check(synthetic, real)
        n = len(self.class_names)
        an_epoch = max(min(synthetic, n), synthetic // s.fresh_epochs)  # of each class one at least
        self._batch_size(real if s.real_share == 1 and real else an_epoch + real, processes(self.device))

    def augmented(self) -> NetworkLearner:
        """The same training on more varied images: what stands against "more images" that costs nothing."""
        more = {
            "rand_augment": max(RAND_AUGMENT, self.settings.rand_augment),
            "random_erasing": max(ERASING, self.settings.random_erasing),
        }
        own = self.settings.model_copy(update=more)
        return NetworkLearner(
            own,
            self.class_names,
            val=self.val,
            pretrainer=self.pretrainer,
            folder=self.folder,
            device=self.device,
            track=self.track,
        )

    def untrained(self) -> Model | None:
        """None: before training, the classifier is random even where the rest is pre-trained."""
        return None

    def _check(self, parts: Sequence[Images]) -> None:
        if not parts:
            raise FigmentError("There is nothing to learn from: give generated images, real ones, or both.")
        labels = np.concatenate([part.labels for part in parts])
        n = len(self.class_names)
        if labels.min() < 0 or labels.max() >= n:
            raise FigmentError(
                f"The labels run from {labels.min()} to {labels.max()}, and there are {n} classes, so they must lie in 0 to"
                f" {n - 1}. Check that the images are of the same task."
            )
        without = np.setdiff1d(np.arange(n), labels).tolist()
        if without:
            raise FigmentError(
                f"{len(without)} of {n} classes have no images to learn from: {listed([self.class_names[c] for c in without])}."
                " A network from scratch cannot learn them. Make images of them, keep more of those that are there (filters),"
                " or take the classes out of the task."
            )

    def _batch_size(self, n: int, on: Processes) -> int:
        """Images a step: as the settings have it, or all where there are fewer. The last, smaller batch of an epoch is left out."""
        s = self.settings
        share = on.world_size * (
            2 if s.mixup or s.cutmix else 1
        )  # a process takes as many as the others, mixing takes pairs
        if s.batch_size % share:
            raise FigmentError(
                f"batch_size {s.batch_size} counts the images of {on.world_size} processes together, so it must be a multiple"
                f" of {share}: take {max(1, s.batch_size // share) * share}."
            )
        if n < share:
            raise FigmentError(
                f"{n} images are too few: a step takes {share} or more ({on.world_size} processes"
                f"{', and mixup or cutmix take pairs' if share > on.world_size else ''}). Give more images."
            )
        batch_size = min(s.batch_size, n // share * share)
        if batch_size == on.world_size and self.has_batch_norm:
            raise FigmentError(
                f"{s.architecture} has BatchNorm layers, which cannot normalise a batch of 1 image, and there is 1 for each"
                f" process ({n} images in all). Give two images or more, or choose an architecture without, such as a ViT."
            )
        return batch_size

    def _order(self, synthetic: Images | None, real: Images | None, seed: int) -> Order:
        """Which images each epoch shows: the generated ones come first."""
        s, n_real = self.settings, 0 if real is None else len(real)
        if synthetic is None or not len(synthetic):
            return Shuffled(n_real, seed)
        if s.fresh_epochs > 1:
            return Dealt(synthetic.labels, s.fresh_epochs, n_real, seed)
        if real is not None and n_real and s.real_share is not None:
            return Mixed([synthetic.labels, real.labels], (1 - s.real_share, s.real_share), seed=seed)
        return Shuffled(len(synthetic) + n_real, seed)

    def _loader(self, parts: list[Images], order: Order, batch_size: int, data: dict, on: Processes) -> Loader:
        s = self.settings
        images = in_memory(concatenate(*parts), MEMORY)
        return Loader(
            ImageDataset(images, TrainTransform(s, data)),
            order,
            batch_size,
            num_workers=usual_workers(on.device) if s.workers is None else s.workers,
            rank=on.rank,
            world_size=on.world_size,
            pin_memory=on.device.type == "cuda",
        )

    def _checkpoint(self, synthetic: Images | None, real: Images | None, seed: int, on: Processes) -> Checkpoint | None:
        if self.folder is None:
            return None
        given = [None if p is None else [list(p.digests), p.labels.tolist()] for p in (synthetic, real)]
        captions = [shown(p, True) for p in (synthetic, real) if p is not None] if self.reads_captions else []
        own = records.fingerprint([self.fingerprint, given, seed, on.world_size, *captions])
        path = self.folder / f"{own}.safetensors"
        return Checkpoint(path, own, seconds=self.checkpoint_seconds, writes=on.rank == 0)

    def _accuracy(self, loop: NetworkLoop, transform: EvalTransform) -> float:
        """Of what is learnt so far, on the validation images: each process looks at some of them."""
        assert self.val is not None
        on = loop.on
        on.agree(loop.learnt.state_dict())  # BatchNorm's statistics are each process's own
        index = range(on.rank, len(self.val), on.world_size)
        loop.learnt.eval()
        found = predict(loop.learnt, self.val, index, transform) if len(index) else np.zeros((0, 1))
        right = int((found.argmax(-1) == self.val.labels[on.rank :: on.world_size]).sum())
        return on.sum(torch.tensor(right, device=on.device)).item() / len(self.val)
