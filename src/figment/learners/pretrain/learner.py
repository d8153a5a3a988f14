"""The learner: from images and their captions to a backbone, and the linear probe that judges it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.transforms import InterpolationMode, v2

from figment import records
from figment.checkpoint import Checkpoint
from figment.errors import FigmentError
from figment.images_in.captions import Captions, captions_of, shown
from figment.images_in.concat import concatenate
from figment.images_in.memory import MemoryImages, in_memory
from figment.learners.network.architectures import Network, has_batch_norm, warn_if_tiny
from figment.learners.pretrain.backbone import BackboneModel, Words, features_of, make_backbone, with_checkpoints
from figment.learners.pretrain.health import alignment, rankme, uniformity
from figment.learners.pretrain.loop import Known, PretrainLoop
from figment.learners.pretrain.method import Setting
from figment.learners.pretrain.methods import METHODS
from figment.learners.pretrain.settings import NOT_PART_OF_A_MODEL, PretrainSettings, TextSettings
from figment.learners.pretrain.tokens import NO_TOKENS, read
from figment.learners.processes import Processes, processes
from figment.learners.training import n_epochs, random_numbers_of, train
from figment.loading.loader import ImageDataset, Loader, usual_workers
from figment.loading.orders import OfEachGroup, Order, Shuffled
from figment.memory import enough_memory
from figment.models import resolve
from figment.probe import held_out, knn, linear_probe
from figment.tracking import Tracker, curves, needs_tracker
from figment.types import Images, Learner

FORMAT = 3  # of the fingerprint: raise it where the same settings come to train otherwise
MEMORY = 2**31  # bytes of decoded images that are kept; more are decoded again in every epoch
HEALTH = ("knn", "rankme", "alignment", "uniformity")
LOOKS, LOOKED_AT = 20, 1_000  # at a training's health: so often, at so many images


@dataclass(frozen=True)
class Backbone:
    """A network without a classifier, and what its training has to tell."""

    network: Network
    history: list[dict[str, Any]] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    words: Words | None = None


class PretrainLearner(Learner):
    """A `figment.types.Learner`: a backbone that learns from images, generated or real, and a linear probe on its features.

    The probe learns from the real images of a training, or from ``labelled`` where a training has generated images alone. So
    the labels of generated images count for ``supervised`` alone, and their captions for the methods that read them.

    Args:
        settings: see `PretrainSettings`.
        class_names: N names, in label order.
        labelled: real training images, which the probe and the nearest neighbours learn from; None = there is neither, and a backbone
            classifies nothing.
        val: real images whose nearest neighbours are looked up during training; None = a fifth of ``labelled``.
        template: with ``{}`` for a class's name: the caption of images that have none.
        folder: where a training keeps its state, so that the same one goes on after a kill and is not repeated when it
            was finished; None keeps nothing.
        device: torch's name of one; None takes a GPU where there is one.
        checkpoint_seconds: from one writing of the state to the next.
        track: where losses are drawn meanwhile.

    Raises:
        FigmentError: for an architecture that there is not or that does not take such images, and weights that do not fit.
    """

    def __init__(
        self,
        settings: PretrainSettings,
        class_names: Sequence[str],
        labelled: Images | None,
        *,
        val: Images | None = None,
        template: str = "a photo of a {}.",
        folder: Path | None = None,
        device: str | None = None,
        checkpoint_seconds: float = 60.0,
        track: Tracker | None = None,
    ):
        self.settings, self.class_names, self.labelled, self.val = settings, list(class_names), labelled, val
        self.template, self.folder, self.reads_captions = template, folder, settings.reads_captions
        self.device, self.checkpoint_seconds, self.track = device, checkpoint_seconds, track
        needs_tracker(track)
        self.start = None if settings.pretrained is None else resolve(settings.pretrained)
        self.tokens = read(settings.tokenizer) if isinstance(settings, TextSettings) else NO_TOKENS
        with random_numbers_of(0):  # what cannot be made is said before anything is spent
            network = make_backbone(settings, self.start)
            METHODS[settings.kind](network.module, settings, self._setting(Processes(0, 1, torch.device("cpu"))))
            if settings.gradient_checkpointing:
                with_checkpoints(network.module, settings.backbone)
        if settings.gradient_cache in (1, 2) and has_batch_norm(network.module):
            raise FigmentError(
                f"train.gradient_cache: {settings.gradient_cache} leaves single images to the BatchNorm layers of {settings.backbone}, which"
                " normalise several together. Set 3 or more, better 32; or take a backbone without, such as a ViT."
            )
        warn_if_tiny(network)
        self.name = f"{settings.backbone} by {settings.kind}, linear probe"
        own = settings.model_dump(mode="json", exclude=set(NOT_PART_OF_A_MODEL))
        probed = [[list(images.digests), images.labels.tolist()] for images in (labelled, val) if images is not None]
        weights = None if self.start is None else self.start.fingerprint
        parts = ["pretrain", FORMAT, own, self.class_names, template, weights, self.tokens.fingerprint, probed]
        if self.tokens is not NO_TOKENS:
            parts.append("with its text tower")  # which models from before are without
        self.fingerprint = records.fingerprint(parts)

    def learn(self, synthetic: Images | None, real: Images | None, seed: int) -> BackboneModel:
        """Pre-train from the start on all images that are given, then fit the probe, if anything labelled is there for it. ``seed``
        decides all chance.

        Raises FigmentError for too few images for a step, a loss that is not finite, and memory that does not suffice.
        """
        labelled = self.labelled if real is None else real
        return self._probed(self.backbone(synthetic, real, seed), labelled)

    def practise(self, images: Images, seed: int) -> None:
        self.backbone(images, None, seed)

    def backbone(self, synthetic: Images | None, real: Images | None, seed: int) -> Backbone:
        """`learn` without the probe."""
        s, on = self.settings, processes(self.device)
        parts = [part for part in (synthetic, real) if part is not None and len(part)]
        if not parts:
            raise FigmentError("There is nothing to learn from: give generated images, real ones, or both.")
        captions, turns = self._captions(parts)
        known = self._known(parts, captions)
        images = in_memory(concatenate(*parts), MEMORY)
        with random_numbers_of(seed):
            network = make_backbone(s, self.start)
            method = METHODS[s.kind](network.module, s, self._setting(on))
        loader = self._loader(images, turns, network.data, seed, on)
        epochs = n_epochs(s.epochs, len(loader), s.min_steps)
        a_step = loader.batches.batch_size * on.world_size
        checkpoint = self._checkpoint(parts, seed, a_step, on)
        of = () if checkpoint is None else (checkpoint.identity, checkpoint.path.parent)
        drawn = curves(self.track if on.rank == 0 else None, f"{s.kind}-{seed}", *of)
        description = f"{s.kind} {s.backbone}, seed {seed}"
        with enough_memory(f"{s.backbone} learnt from {a_step:,} images a step on {on.device}", s.lighter):
            loop = PretrainLoop(method, loader, known, network.data, epochs, s, seed)
            look = _Health(loop, images, self._neighbours(), len(self.class_names), network.data)
            history = train(loop, look=look, checkpoint=checkpoint, curves=drawn, description=description)
        on.agree(loop.learnt.state_dict())
        facts = {
            "method": s.kind,
            "parameters": sum(p.numel() for p in loop.learnt.parameters()),
            "image_size": s.image_size,
            "steps": loop.steps,
            "batch_size": loop.batch_size,
            "captions": len(np.unique(turns)),
            "health": {name: history[-1][name] for name in HEALTH if name in history[-1]},
        }
        read = method.words()
        words = None if read is None else Words(read.eval(), self.tokens)
        return Backbone(replace(network, module=loop.learnt.eval()), history, facts, words)

    def check(self, synthetic: int, real: int) -> None:
        """Too few images for a step, even if each had a caption of its own."""
        self._batch_size(synthetic + real, processes(self.device))

    def untrained(self) -> BackboneModel | None:
        """The backbone as it starts, at random or pre-trained, with a probe on the same real images; None without such."""
        if self.labelled is None:
            return None
        with random_numbers_of(0):
            network = make_backbone(self.settings, self.start)
        network.module.eval().to(processes(self.device).device)
        return self._probed(Backbone(network), self.labelled)

    def _probed(self, learnt: Backbone, labelled: Images | None) -> BackboneModel:
        network = learnt.network
        if labelled is None:
            return BackboneModel(network, None, self.class_names, learnt.history, learnt.facts, learnt.words)
        features = features_of(network.module, labelled, network.data)
        probe = linear_probe(features, labelled.labels, len(self.class_names), device=processes(self.device).device)
        told = {
            **learnt.facts,
            "rankme": rankme(torch.from_numpy(features[spread(len(features), LOOKED_AT)])),
            "probe_learning_rate": probe.rate,
        }
        return BackboneModel(network, probe, self.class_names, learnt.history, told, learnt.words)

    def _setting(self, on: Processes) -> Setting:
        s, t = self.settings, self.tokens
        return Setting(on, len(self.class_names), s.image_size, t.vocabulary, t.length, t.end)

    def _captions(self, parts: Sequence[Images]) -> tuple[Captions, np.ndarray]:
        """Of all images, and int64 (N,) whose turn in an epoch each waits for: its caption's, or its own where it has none.

        What has no caption is a group with its copies alone, and its text is its class's name.
        """
        groups: list[Hashable] = []
        turns: list[Hashable] = []
        texts: list[str] = []
        for p, part in enumerate(parts):
            own = captions_of(part)
            if own is None:
                groups += part.digests
                turns += [(p, "alone", i) for i in range(len(part))]
                texts += [self.template.replace("{}", self.class_names[label]) for label in part.labels]
            else:
                of_part = [(p, group) for group in own.groups.tolist()]
                groups += of_part
                turns += of_part
                texts += own.texts
        return Captions(_numbered(groups), texts), _numbered(turns)

    def _known(self, parts: Sequence[Images], captions: Captions) -> Known:
        labels = np.concatenate([part.labels for part in parts])
        if self.settings.reads_labels and (labels.min() < 0 or labels.max() >= len(self.class_names)):
            raise FigmentError(
                f"The labels run from {labels.min()} to {labels.max()}, and there are {len(self.class_names)} classes. Check that"
                " the images are of the same task."
            )
        images = _numbered([digest for part in parts for digest in part.digests])
        own = torch.from_numpy(captions.groups), torch.from_numpy(images), torch.from_numpy(labels)
        if self.tokens is NO_TOKENS:
            return Known(*own)
        return Known(
            *own, torch.from_numpy(_numbered(captions.texts)), self.tokens(list(dict.fromkeys(captions.texts)))
        )

    def _batch_size(self, n: int, on: Processes) -> int:
        """Images a step of one process, of an epoch of ``n`` captions (or images, where one of each is shown): whole captions, as
        many as the settings have or as there are."""
        m = self.settings.images_per_caption
        size = min(self.settings.batch_size, n * m) // (m * on.world_size) * m
        if size * on.world_size < 2 * m or size < 2:
            what = ("caption" if m > 1 else "image") + ("s are" if n != 1 else " is")
            raise FigmentError(
                f"{n:,} {what} too few for a step of {on.world_size} process{'es' if on.world_size > 1 else ''}: it takes two or"
                f" more, with {m} image{'s' if m > 1 else ''} of each, and batch_size is {self.settings.batch_size}. Give more captions or a"
                " larger batch_size."
            )
        return size

    def _loader(self, images: Images, turns: np.ndarray, data: Mapping[str, Any], seed: int, on: Processes) -> Loader:
        s, m = self.settings, self.settings.images_per_caption
        order: Order = Shuffled(len(images), seed) if m == 1 else OfEachGroup(turns, m, seed)
        return Loader(
            ImageDataset(images, to_one_size(images, s.image_size, data), np.arange(len(images))),
            order,
            self._batch_size(len(order) // m, on),
            num_workers=usual_workers(on.device) if s.workers is None else s.workers,
            rank=on.rank,
            world_size=on.world_size,
            pin_memory=on.device.type == "cuda",
        )

    def _checkpoint(self, parts: Sequence[Images], seed: int, batch_size: int, on: Processes) -> Checkpoint | None:
        """For any number of processes that make the same steps."""
        if self.folder is None:
            return None
        given = [shown(part, self.reads_captions) for part in parts]
        own = records.fingerprint([self.fingerprint, given, seed, batch_size])
        path = self.folder / f"{own}.safetensors"
        return Checkpoint(path, own, seconds=self.checkpoint_seconds, writes=on.rank == 0)

    def _neighbours(self) -> tuple[Images, Images] | None:
        """Real images whose classes are known, and others that are looked up among them; None where there are none."""
        bank, queries = self.labelled, self.val
        if bank is None:
            return None
        if queries is None:
            held = held_out(bank.labels)
            if held.any():
                bank, queries = bank.take(np.flatnonzero(~held)), bank.take(np.flatnonzero(held))
            else:
                queries = bank
        return some_of(bank, LOOKED_AT), some_of(queries, LOOKED_AT)


class _Health:
    """What is written down of an epoch beside its loss; nothing is chosen by it. See ``health.py`` and `figment.probe.knn`."""

    def __init__(
        self,
        loop: PretrainLoop,
        images: Images,
        real: tuple[Images, Images] | None,
        n_classes: int,
        data: Mapping[str, Any],
    ):
        self.loop, self.data, self.n_classes = loop, data, n_classes
        self.real = real
        self.images = some_of(images, LOOKED_AT)
        self.every = math.ceil(loop.steps / len(loop.loader) / LOOKS)

    def __call__(self, epoch: int) -> dict[str, float]:
        loop = self.loop
        if epoch % self.every and loop.step < loop.steps:
            return {}
        module = loop.learnt.eval()
        of_images = torch.from_numpy(features_of(module, self.images, self.data))
        return {
            **self._knn(module),
            "rankme": rankme(of_images),
            "alignment": self._alignment(),
            "uniformity": uniformity(of_images),
        }

    def _knn(self, module: nn.Module) -> dict[str, float]:
        if self.real is None:
            return {}
        bank, queries = (features_of(module, images, self.data) for images in self.real)
        of_bank, of_queries = (images.labels for images in self.real)
        votes = knn(bank, of_bank, queries, self.n_classes)
        return {"knn": float((votes.argmax(1) == of_queries).mean())}

    @torch.inference_mode()
    def _alignment(self) -> float:
        """Of two views of each of a few images, the first that the method sees; the same views every time."""
        few = self.images.take(range(min(len(self.images), 128)))
        size = to_one_size(None, self.loop.s.image_size, self.data)
        assert size is not None
        shown = [torch.stack(part) for part in zip(*map(size, few.load(range(len(few)))), strict=True)]
        with random_numbers_of(0):
            first, second = (self.loop.learnt(self.loop.seen(shown)[0]) for _ in range(2))
        return alignment(first, second)


def _numbered(names: Sequence[Hashable]) -> np.ndarray:
    """int64 (N,), the same number for equal ones, from 0 in the order of their first."""
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([place[name] for name in names], np.int64)


def spread(n: int, most: int) -> np.ndarray:
    """So many places of ``n`` at most, evenly spaced, int64: images come class by class, and the first are of few."""
    return np.linspace(0, n - 1, min(n, most)).astype(np.int64)


def some_of(images: Images, most: int) -> Images:
    """So many at most, evenly spaced, decoded where they fit."""
    few = images if len(images) <= most else images.take(spread(len(images), most))
    return in_memory(few, MEMORY)


class ToOneSize:
    """``uint8 (H, W, 3)`` to a square ``uint8 (3, S, S)`` of the whole image, and the height and width int64 (2,) that it has

    where its shorter side is S: random crops are drawn of that, so that a photograph loses no edges. Can be pickled, for workers.
    """

    def __init__(self, side: int, interpolation: str):
        self.side = side
        self.transform = v2.Resize((side, side), interpolation=InterpolationMode(interpolation), antialias=True)

    def __call__(self, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = image.shape[:2]
        shorter = min(height, width)
        size = torch.tensor([self.side * height // shorter, self.side * width // shorter])
        return self.transform(torch.tensor(image).permute(2, 0, 1)).contiguous(), size


def to_one_size(images: Images | None, image_size: int, data: Mapping[str, Any]) -> ToOneSize | None:
    """Images to squares of 8/7 of ``image_size``, as 256 pixels are for 224; None where they are of one size that is no larger."""
    side = image_size * 8 // 7
    shapes = {image.shape[:2] for image in images.images} if isinstance(images, MemoryImages) else set()
    if len(shapes) == 1 and max(shapes.pop()) <= side:
        return None
    return ToOneSize(side, data["interpolation"])
