"""The few types that everything agrees on: what flows from one stage to the next.

Images are ``uint8 (H, W, 3)`` RGB arrays in [0, 255] everywhere; labels are indices into a task's class names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

#: Positions in a set of images, in any order.
Indices = Sequence[int] | np.ndarray


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text that asks for one image of one class.

    ``id`` is readable and unique in a run (``coat/0007``); ``group`` ties the prompts (and so the images) of one caption together.
    ``source`` says where the words come from (``template 0``, ``caption of coat/3.jpg``); nothing depends on it. ``attributes`` are
    those it asks for, as pairs of kind and word (``("tone", "dark")``), the same kinds for all prompts of a writer; an empty word where
    a prompt leaves the kind open.
    """

    id: str
    text: str
    label: int
    group: str
    source: str = ""
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One attempt at an image. ``image`` is None where it failed, and ``error`` then says why.

    ``id`` is ``<prompt_id>/<k>``: the k-th image of its prompt. ``init`` is the id of the real image it starts from, where
    it starts from one; ``attributes`` are its prompt's.
    """

    id: str
    prompt_id: str
    prompt: str
    label: int
    seed: int
    group: str
    image: np.ndarray | None = None
    error: str | None = None
    init: str = ""
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter thinks of one image. A rejected one is kept on disk, with its reason."""

    keep: bool
    reason: str = ""  # empty when kept; otherwise a short phrase that groups with others of its kind in a table
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A measured number and how sure it is.

    ``value`` and ``ci`` share a unit (accuracies lie in [0, 1]); ``n`` counts the test images; ``ci`` is the 95 % interval;
    ``seeds`` are the training seeds the value is the mean of; ``details`` is JSON-able.
    """

    metric: str
    value: float
    n: int
    ci: tuple[float, float]
    per_class: Mapping[str, float] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    fingerprint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class Images(Protocol):
    """Labelled images, wherever they lie, decoded only when asked for."""

    @property
    def labels(self) -> np.ndarray:
        """``int64 (N,)``."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """Unique and readable."""
        ...

    @property
    def digests(self) -> Sequence[str]:
        """The content hash of each image's stored bytes: the key of every cache."""
        ...

    def __len__(self) -> int: ...

    def load(self, indices: Indices) -> list[np.ndarray]:
        """Decode these images: ``uint8 (H, W, 3)`` each."""
        ...

    def take(self, indices: Indices) -> Images:
        """The same kind of object with only these images, in this order."""
        ...


class Writer(Protocol):
    """Writes prompts for a task: ``n`` for each class."""

    def __call__(self, task: Any, n: int, rng: np.random.Generator) -> list[Prompt]: ...


class Generator(Protocol):
    """Turns prompts into images."""

    @property
    def fingerprint(self) -> str:
        """Of the weights and every setting that changes a pixel."""
        ...

    def __call__(
        self, prompts: Sequence[str], seeds: Sequence[int], init: np.ndarray | None = None
    ) -> list[np.ndarray | None]:
        """One ``uint8 (H, W, 3)`` image for each prompt and seed, in order; None where the model gave NaN or infinity.

        An image depends on its prompt and seed alone, not on what else is in the batch. ``init`` ``uint8 (B, H, W, 3)``
        holds the images to start from, for generators that can; these have a method ``size()``, the height and width that
        the images are cut to. One that has ``wants_labels = True`` is also called with
        ``labels=``, a class for each prompt, on which its images may then depend; one that has ``wants_ids = True`` with ``ids=``, those of
        the prompts. One that has a method ``close()`` lets go of its model there, which comes after a run's last image; the next call opens
        it again. One that has ``read_ahead(prompts, labels)`` is told there what a shard will ask for, before its first batch.
        """
        ...


class Encoder(Protocol):
    """Images and texts to one space of L2-normalised features."""

    fingerprint: str  # of the weights and the preprocessing
    logit_scale: float  # what cosines are multiplied by before a softmax (CLIP: about 100)

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """``float32 (B, D)`` of ``uint8 (H, W, 3)`` images of any sizes."""
        ...

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """``float32 (N, D)``."""
        ...


class Filter(Protocol):
    """Judges images. Sees the whole set, since some rules (the best k of a class) need it."""

    name: str

    def __call__(self, images: Images) -> list[Verdict]: ...


class Model(Protocol):
    """What a learner made: it classifies images, whatever it is made of."""

    @property
    def fingerprint(self) -> str:
        """Of its weights and of how images are prepared for them."""
        ...

    @property
    def history(self) -> list[dict[str, Any]]:
        """One dict an epoch: at least ``epoch`` (from 1) and ``loss``; empty without training."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON-able, shown with its accuracy: ``{"trainable_fraction": 0.3}``; usually empty."""
        ...

    def logits(self, images: Images) -> np.ndarray:
        """``float32 (n, N)``; the highest is the answer."""
        ...

    def save(self, folder: Path) -> None:
        """Write it so that it can be used without figment: safetensors, and what the field's libraries read beside them."""
        ...


@dataclass(frozen=True)
class Training:
    """What one training learns from. At least one of the two kinds of images is there."""

    synthetic: Images | None = None
    real: Images | None = None
    seed: int = 0


class Learner(Protocol):
    """A way to get from labelled images to a model: CLIP heads, networks from scratch, pre-trained backbones.

    Nothing outside ``figment.learners`` knows which one it has. One that subclasses this protocol inherits `learn_many`.
    """

    name: str  # as the report calls it: "CLIP head"
    fingerprint: (
        str  # of everything a model depends on besides its `Training`: settings, starting weights, validation images
    )
    reads_captions: bool = False  # whether it learns from the texts that images were made from, and so depends on them

    def learn(self, synthetic: Images | None, real: Images | None, seed: int) -> Model:
        """Train from the start, on generated images, real ones or both. On a CPU, the same seed gives the same model."""
        ...

    def learn_many(self, trainings: Sequence[Training]) -> Iterator[Model]:
        """The models of many trainings, in order. A learner that can train several at once is faster here, never different."""
        for t in trainings:
            yield self.learn(t.synthetic, t.real, t.seed)

    def practise(self, images: Images, seed: int) -> None:
        """What of a training takes longer the more generated images there are, to be timed."""
        self.learn(images, None, seed)

    def check(self, synthetic: int, real: int) -> None:
        """Raise FigmentError, before anything is spent, for what would fail with so many images of each kind."""
        return

    def untrained(self) -> Model | None:
        """What there is before any image was seen; None where that would be guessing (a network from scratch)."""
        ...
