"""What a method is to the loop: a module that turns a batch into a loss."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from figment.learners.pretrain.pieces import in_pieces
from figment.learners.pretrain.settings import PretrainSettings
from figment.learners.pretrain.views import View
from figment.learners.processes import Processes
from figment.learners.training import half_cosine, random_numbers_of

if TYPE_CHECKING:
    from figment.learners.pretrain.text import ImageText

N = TypeVar("N", bound=nn.Module)
SEEN, HIDDEN = 0, 2  # what is drawn as all processes do


@dataclass(frozen=True)
class Batch:
    """What a step shows, in slots of m: rows ``k * m`` to ``k * m + m - 1`` are images of one caption.

    ``views`` are ways in which each image is seen, float (B, 3, S, S) each, normalised. Images of a caption have the same
    number in ``captions``, also across slots and processes; so have copies of an image in ``images``.
    """

    views: Sequence[Tensor]
    captions: Tensor  # int64 (B,)
    images: Tensor  # int64 (B,)
    labels: Tensor  # int64 (B,)
    texts: Tensor | None = None  # int64 (B,), equal where the texts are, of methods that read
    tokens: Tensor | None = None  # int64 (B, L)


@dataclass(frozen=True)
class Setting:
    """What a method is made for: ``sees`` what images, ``n_classes`` to tell apart, texts of ``vocabulary`` x ``length``."""

    on: Processes
    n_classes: int
    image_size: int
    vocabulary: int = 0
    length: int = 0
    end: int = 0  # the token that ends a text


class Method(nn.Module):
    """Subclasses say how images are seen and what the loss is. Whatever a next step depends on is in ``state_dict``."""

    def __init__(self, backbone: nn.Module, s: PretrainSettings, to: Setting):
        super().__init__()
        self.backbone, self.s, self.on = backbone, s, to.on
        # The loop says both before each step: the share of the training that lies behind, in [0, 1), and the seed and the step.
        self.done = 0.0
        self.moment: tuple[int, ...] = (0,)

    def as_all_do(self, what: int) -> AbstractContextManager[None]:
        """Whoever draws here draws the same in all processes, of the images of all of them: a step is then that of one process."""
        return random_numbers_of(*self.moment, 0, what)

    def encode(self, images: Tensor, by: nn.Module | None = None) -> Tensor:
        """Features (B, D) of images (B, 3, S, S), of the backbone or of another one like it, ``gradient_cache`` at a time."""
        network = self.backbone if by is None else by
        return in_pieces(network, network, self.s.gradient_cache, images)

    def views(self) -> list[View]:
        """How each image of a step is seen."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Tensor:
        """The loss () of this process's part of the batch, whose mean over processes is the batch's."""
        raise NotImplementedError

    def words(self) -> ImageText | None:
        """What reads captions, and brings them and images to one space; None in methods that do not read."""
        return None

    def frozen(self, epoch: int) -> list[nn.Parameter]:
        """What no step of this epoch, from 1, may change."""
        return []

    def after_step(self, done: float) -> None:
        """After the optimiser's step; ``done`` in (0, 1] is the share of the training that lies behind."""


def teacher_of(student: N) -> N:
    """A copy that learns by following, not by gradients, and whose blocks are never skipped."""
    teacher = copy.deepcopy(student).requires_grad_(False)
    for module in teacher.modules():
        if hasattr(module, "drop_prob"):  # timm's DropPath
            cast(Any, module).drop_prob = 0.0
    return teacher


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """``teacher = momentum * teacher + (1 - momentum) * student``, of parameters; BatchNorm's statistics are each one's own."""
    for own, others in zip(teacher.parameters(), student.parameters(), strict=True):
        own.lerp_(others.detach(), 1 - momentum)


def rising(momentum: float, done: float) -> float:
    """From ``momentum`` to 1 by half a cosine, as BYOL and DINO have it."""
    return half_cosine(momentum, 1, done)
