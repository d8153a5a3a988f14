"""Weight-space ensembles (Wortsman et al. 2022): between the classifier before tuning and the one after it."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def interpolate(before: M, after: M, alpha: float) -> M:
    """A model with the weights ``(1 - alpha) * before + alpha * after``; alpha lies in [0, 1], the paper's default is 0.5.

    Both must have the same parameters; buffers are those of ``after``.
    """
    mixed = copy.deepcopy(after)
    start = dict(before.named_parameters())
    for name, parameter in mixed.named_parameters():
        parameter.copy_((1 - alpha) * start[name] + alpha * parameter)
    return mixed
