"""CoOp (Zhou et al. 2022): the words around a class name are learnt, as vectors, from the shots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from figment.encoders import Towers
from figment.errors import FigmentError
from figment.learners.clip_head.head import Head

N_CONTEXT = 16
WARMUP_RATE = 1e-5
FILLER = "x"  # one token in any CLIP vocabulary; its place is taken by a learnt vector


def epochs_for(shots: int) -> int:
    """The authors' training length: 50 epochs for 1 shot, 100 for 2 and 4, 200 for more."""
    return 50 if shots <= 1 else 100 if shots <= 4 else 200


def learning_rates(epochs: int, highest: float) -> list[float]:
    """Of each epoch: one of warm-up at 1e-5, then a half cosine over ``epochs`` from its highest on. The authors' cosine does not
    count the warm-up, so it stops two epochs short of 0."""
    return [WARMUP_RATE, *(0.5 * highest * (1 + math.cos(math.pi * k / epochs)) for k in range(epochs - 1))]


def coop(
    encoder: Towers,
    class_names: Sequence[str],
    features: np.ndarray,
    labels: np.ndarray,
    seed: int,
    *,
    n_context: int = N_CONTEXT,
    epochs: int | None = None,
    learning_rate: float = 2e-3,
    batch_size: int = 32,
) -> Head:
    """Learn ``n_context`` vectors that all classes share, placed before the class name, and return the classifier they make.

    SGD with momentum 0.9 and weight decay 5e-4, the rates of `learning_rates`; random vectors of
    standard deviation 0.02 to start with: the authors' settings. Features float (n, D) and labels int (n,) are those of
    the shots in one view, where the authors crop at random in every epoch. The encoder stays as it is.
    """
    texts = _Texts(encoder, class_names, n_context)
    generator = torch.Generator().manual_seed(seed)
    width = encoder.token_embedding.embedding_dim
    context = (0.02 * torch.randn(n_context, width, generator=generator)).to(encoder.device).requires_grad_()
    x = F.normalize(torch.tensor(features, dtype=torch.float32, device=encoder.device), dim=-1)
    y = torch.tensor(labels, device=encoder.device)
    epochs = epochs or epochs_for(int(np.bincount(labels).max()))
    optimizer = torch.optim.SGD([context], lr=learning_rate, momentum=0.9, weight_decay=5e-4)
    for rate in learning_rates(epochs, learning_rate):
        optimizer.param_groups[0]["lr"] = rate
        for batch in torch.randperm(len(x), generator=generator).split(batch_size):
            logits = encoder.logit_scale * x[batch] @ texts(context).T  # (B, N)
            (context.grad,) = torch.autograd.grad(F.cross_entropy(logits, y[batch]), context)
            optimizer.step()
    with torch.no_grad():
        return Head.from_texts(texts(context).cpu().numpy(), encoder.logit_scale)


def check_coop(encoder: Towers, class_names: Sequence[str], n_context: int = N_CONTEXT) -> None:
    """Raise FigmentError where `coop` cannot work: an encoder with other tokens, or names that do not fit behind the vectors."""
    _Texts(encoder, class_names, n_context)


class _Texts:
    """``<start> [V]1 ... [V]M class name. <end>`` through the text tower, with the vectors put in for the fillers."""

    def __init__(self, encoder: Towers, class_names: Sequence[str], n_context: int):
        self.tower, self.embedding = encoder.text_tower, encoder.token_embedding
        texts = [" ".join([FILLER] * n_context) + f" {name}." for name in class_names]
        self.tokens = encoder.tokens(texts)  # (N, L)
        fillers = self.tokens[:, 1 : 1 + n_context]
        if fillers.shape[1] < n_context or bool((fillers != fillers[0, 0]).any()):
            raise FigmentError(
                f"CoOp cannot put {n_context} learnt vectors into the texts of {encoder.name}: its tokenizer does not make a"
                f" start token and then one token of each {FILLER!r}, or reads fewer tokens. Choose another encoder or baseline."
            )
        cut = [name for name, text in zip(class_names, texts, strict=True) if encoder.count_cut([text])]
        if cut:
            raise FigmentError(
                f"CoOp puts {n_context} learnt vectors before the class name, and with them {encoder.name} does not read to the"
                f" end of {len(cut):,} of the {len(texts):,} names: {', '.join(name[:40] for name in cut[:3])}. Shorten the names,"
                " or choose another baseline."
            )

    def __call__(self, context: Tensor) -> Tensor:
        """Unit text features, float32 (N, D), of the context (M, width); gradients reach the context alone."""

        def put_in(module: Any, arguments: Any, embedded: Tensor) -> Tensor:
            own = context.to(embedded.dtype).expand(len(embedded), -1, -1)
            return torch.cat([embedded[:, :1], own, embedded[:, 1 + context.shape[0] :]], dim=1)

        hook = self.embedding.register_forward_hook(put_in)
        try:
            features = self.tower(self.tokens)
        finally:
            hook.remove()
        return F.normalize(features.float(), dim=-1)
