"""Texts sampled from a model of ``transformers``, each from a seed of its own, whatever else is in the batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from figment import weights
from figment.device import choose_device, put
from figment.errors import FigmentError
from figment.models import ModelFolder
from figment.records import fingerprint


def seed_of(*parts: Any) -> int:
    """A 64-bit seed from anything JSON-able, the same on every machine."""
    return int(fingerprint(parts), 16)


class Draw(LogitsProcessor):
    """Picks each row's next token with that row's own random numbers, and leaves no other token to choose.

    ``generate`` draws from one stream for the whole batch, so that a sentence would depend on its neighbours. Here row
    ``i`` takes the first token at which the cumulated probability exceeds the next number of ``seeds[i]``.
    """

    def __init__(self, seeds: Sequence[int]):
        self.rngs = [np.random.default_rng(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        cumulated = scores.double().softmax(-1).cumsum(-1)  # (B, V)
        numbers = torch.tensor([[rng.random()] for rng in self.rngs], dtype=torch.float64, device=scores.device)
        # As a share of the sum, which is not quite 1.
        token = torch.searchsorted(cumulated, numbers * cumulated[:, -1:], right=True)  # (B, 1)
        token = token.clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


@torch.inference_mode()
def sample(
    model: Any,
    tokenizer: Any,
    inputs: dict[str, torch.Tensor],
    seeds: Sequence[int],
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    **lengths: int,
) -> list[str]:
    """One text for each row of ``inputs``: pure sampling, one beam. ``top_k`` 0 and ``top_p`` 1 leave every token in.

    ``lengths`` are ``generate``'s, such as ``max_length``, in tokens; without any the model's own configuration counts.
    """
    steps: list[Any] = [TemperatureLogitsWarper(float(temperature))]
    steps += [TopKLogitsWarper(top_k)] if top_k else []
    steps += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    tokens = model.generate(
        **{name: tensor.to(model.device) for name, tensor in inputs.items()},
        do_sample=False,  # what is left to choose is one token
        num_beams=1,
        logits_processor=LogitsProcessorList([*steps, Draw(seeds)]),
        **lengths,
    )
    return tokenizer.batch_decode(tokens, skip_special_tokens=True)


def open_model(kind: Any, folder: ModelFolder, allow_pickle: bool) -> Any:
    """A model of one of transformers' ``Auto`` classes, in float32, on the GPU where there is one. Raises FigmentError."""
    try:
        what = f"The model {folder.name}"
        model = weights.load(kind, folder.path, what, allow_pickle=allow_pickle, dtype=torch.float32)
        return put(model, choose_device(), what).eval()
    except FigmentError:
        raise
    except Exception as error:  # damaged files, other kinds of models: each has an exception of its own
        raise _cannot_be_opened(folder, kind.__name__, error) from error


def open_part(kind: Any, folder: ModelFolder) -> Any:
    """A tokenizer or image processor. Raises FigmentError."""
    try:
        return kind.from_pretrained(folder.path, local_files_only=True)
    except Exception as error:
        raise _cannot_be_opened(folder, kind.__name__, error) from error


def _cannot_be_opened(folder: ModelFolder, kind: str, error: Exception) -> FigmentError:
    return FigmentError(
        f"The model {folder.name} cannot be opened by transformers {transformers.__version__} as {kind}:"
        f" {' '.join(str(error).split())[:300]}"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No loading bars and no hints: they would stand in the middle of the run's own lines."""
    log = transformers.utils.logging
    verbosity, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice on settings that are meant as they are
            yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()
