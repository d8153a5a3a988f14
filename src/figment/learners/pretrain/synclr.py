"""SynCLR (Tian et al. 2023, "Learning vision from models rivals learning vision from data"): StableRep with a teacher, small crops and
hidden patches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figment.learners.pretrain.dino import Prototypes
from figment.learners.pretrain.gather import gather
from figment.learners.pretrain.heads import mlp
from figment.learners.pretrain.loss import contrast
from figment.learners.pretrain.method import HIDDEN, Batch, Method, Setting, follow, rising, teacher_of
from figment.learners.pretrain.pieces import in_pieces
from figment.learners.pretrain.settings import SynCLRSettings
from figment.learners.pretrain.views import View, view_of
from figment.learners.pretrain.vit import needs_patches, through_blocks
from figment.learners.processes import Processes

LOCAL = (0.08, 0.32)  # of the area
TEACHER_WARMUP = 1 / 15  # of the training, over which the teacher's temperature rises
STUDENT_TEMPERATURE = 0.1  # of prototypes


class SynCLR(Method):
    """Section 3.3: the multi-positive loss against a teacher's features of other images of the caption, and iBOT's of hidden patches.

    Half of the large crops are seen with patches hidden. Small crops are enlarged to ``image_size``. For ViTs of timm.
    Raises FigmentError for another backbone.
    """

    s: SynCLRSettings

    def __init__(self, backbone: nn.Module, s: SynCLRSettings, to: Setting):
        super().__init__(backbone, s, to)
        vit = needs_patches(backbone, s.kind, s.backbone, to.image_size)
        self.size, self.n_patches = to.image_size, vit.patch_embed.num_patches
        hidden, features = s.projector[0], s.projector[-1]
        self.head = mlp([backbone.num_features, *s.projector], to.on, "layer", nn.GELU, norm_last=True)  # type: ignore[list-item]
        self.predictor = mlp([features, hidden, features], to.on, "layer", nn.GELU, norm_last=True)
        self.patch_head = nn.Sequential(
            mlp([vit.embed_dim, *s.patch_projector], to.on, norm=None, activation=nn.GELU),
            Prototypes(s.patch_projector[-1], s.prototypes),
        )
        self.hidden = nn.Parameter(torch.randn(vit.embed_dim) * 0.02)  # what stands in a hidden patch's place
        self.teacher = teacher_of(self.student)

    @property
    def student(self) -> nn.ModuleList:
        return nn.ModuleList([self.backbone, self.head, self.patch_head])

    def views(self) -> list[View]:
        """A large crop, with the mean of what BYOL's two views do to it, and small ones."""
        small = replace(view_of(self.s, self.size), crop_scale=LOCAL)
        blur = self.s.blur
        large = replace(view_of(self.s, self.size), blur=min(1.0, 1.1 * blur), solarize=0.1 if blur else 0.0)
        return [large, *[small] * self.s.local_views]

    def forward(self, batch: Batch) -> Tensor:
        large, small = batch.views[0], list(batch.views[1:])
        which, patches, share = self._hidden(len(large), large.device)
        targets, features = self._teach(large, which, patches)
        tokens = self._tokens(self.backbone, large, hide(which, patches, len(large), self.n_patches))
        student = self.predictor(self.head(pooled(self.backbone, tokens)))
        loss = self._contrast(student, features, batch.captions, itself=True)
        if small:
            student = self.predictor(self.head(self.encode(torch.cat(small))))
            loss = loss + self._contrast(student, features, batch.captions.repeat(len(small)), itself=False)
        return loss + patch_loss(self.patch_head(self._at(tokens, which, patches)), targets).sum() * share

    def _hidden(self, n: int, device: torch.device) -> tuple[Tensor, Tensor, float]:
        """What `draw_hidden` draws of the images of all processes, where it is of this one's ``n``, and the share of each in a loss whose
        mean over processes is the mean over images: of some processes there may be more."""
        with self.as_all_do(HIDDEN):
            which, patches = draw_hidden(n * self.on.world_size, self.n_patches, self.s.mask_ratio, device)
        own = which.div(n, rounding_mode="floor") == self.on.rank
        return which[own] - self.on.rank * n, patches[own], self.on.world_size / len(which)

    @torch.no_grad()
    def _teach(self, images: Tensor, which: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """What the teacher, from whom nothing is hidden, makes of the patches: (k, p, K); and of the images: (B, D)."""
        backbone, head, patch_head = self.teacher
        nothing = torch.zeros(len(images), self.n_patches, dtype=torch.bool, device=images.device)
        tokens = self._tokens(backbone, images, nothing)
        low, high = self.s.teacher_temperature
        temperature = low + (high - low) * min(1.0, self.done / TEACHER_WARMUP)
        scores = patch_head(self._at(tokens, which, patches))
        targets = sinkhorn(scores.flatten(0, 1), temperature, self.on).view_as(scores)
        return targets, head(pooled(backbone, tokens))

    def _tokens(self, vit: Any, images: Tensor, hidden: Tensor) -> Tensor:
        """Images and which patches are hidden, bool (B, P), to tokens (B, prefix + P, D)."""

        def see(images: Tensor, hidden: Tensor) -> Tensor:
            x = vit.patch_embed(images)  # (B, P, D), or (B, H, W, D) where a ViT takes any size
            x = torch.where(hidden.view(*x.shape[:-1], 1), self.hidden.to(x.dtype), x)
            return through_blocks(vit, vit._pos_embed(x))

        return in_pieces(see, vit, self.s.gradient_cache, images, hidden)

    def _at(self, tokens: Tensor, which: Tensor, patches: Tensor) -> Tensor:
        """The tokens (k, p, D) of the patches int64 (k, p) of the images int64 (k,)."""
        return tokens[:, -self.n_patches :][which[:, None], patches]

    def _contrast(self, student: Tensor, teacher: Tensor, captions: Tensor, itself: bool) -> Tensor:
        """Student's features, view after view, against the teacher's (B, D); ``itself``: not against that of the same crop."""
        rows, columns = F.normalize(student.float(), dim=-1), F.normalize(teacher.float(), dim=-1)
        own = torch.arange(len(rows), device=rows.device) + self.on.rank * len(rows) if itself else None
        of_columns = gather(captions[: len(columns)], self.on)
        return contrast(rows / self.s.temperature, gather(columns, self.on), captions, of_columns, self.on, own)

    def after_step(self, done: float) -> None:
        follow(self.teacher, self.student, rising(self.s.momentum, done))


def draw_hidden(n: int, n_patches: int, ratio: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Half of ``n`` images, int64 (k,), and which patches of each are hidden, int64 (k, p)."""
    which = torch.rand(n, device=device).argsort()[: n // 2]
    return which, torch.rand(len(which), n_patches, device=device).argsort(1)[:, : max(1, int(n_patches * ratio))]


def hide(which: Tensor, patches: Tensor, n: int, n_patches: int) -> Tensor:
    """The same as a mask, bool (n, P)."""
    hidden = torch.zeros(n, n_patches, dtype=torch.bool, device=which.device)
    hidden[which[:, None], patches] = True
    return hidden


def pooled(vit: Any, tokens: Tensor) -> Tensor:
    """The features (B, D) that the backbone makes of its tokens."""
    return vit.forward_head(tokens, pre_logits=True)


def sinkhorn(scores: Tensor, temperature: float, on: Processes, iterations: int = 3) -> Tensor:
    """Cosines to prototypes (B, K) as assignments (B, K): each row sums to 1, and the rows of all processes together use the
    prototypes nearly equally (Caron et al. 2020, SwAV, section 3.1)."""
    q = (scores.float() / temperature).exp()
    for _ in range(iterations):
        q = q / on.sum(q.sum(0, keepdim=True))
        q = q / q.sum(1, keepdim=True)
    return q


def patch_loss(student: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the student's scores (k, n, K) with the teacher's assignments (Zhou et al. 2022, iBOT, equation 2): (k,), the
    mean over each image's hidden patches."""
    return -(targets * (student / STUDENT_TEMPERATURE).log_softmax(-1)).sum(-1).mean(1)
