"""Whether a model has all of its weights and no others: the one rule for every library that opens a checkpoint.

The libraries say what did not fit, if anybody asks, and go on with random numbers in its place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from figment.errors import FigmentError
from figment.models import variant_of

#: Tensors that older versions of the libraries wrote and today's compute. (Those that are tied to others no library calls missing.)
HARMLESS = re.compile(r"(^|\.)(position_ids|inv_freq|masked_bias|num_batches_tracked)$")
TOLD = 3  # names in a message
MISSING, SHAPES, NAMES, NOT_FINITE = (
    "are missing",
    "have another shape",
    "have names that it does not know",
    "hold NaN or infinity",
)


def load(kind: Any, folder: Path, what: str, *, allow_pickle: bool = False, **options: Any) -> Any:
    """``kind.from_pretrained(folder)``, of a class of transformers or diffusers, with weights that are all its own.

    ``what`` names the model in messages. Weights of which there is only a variant in half precision are opened too. Raises
    FigmentError as `check` does, and whatever the library raises.
    """
    own = {"local_files_only": True, "use_safetensors": None if allow_pickle else True, "variant": variant_of(folder)}
    told = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # else they are an error that names none
    with _silent():
        module, said = kind.from_pretrained(folder, **own, **told, **options)
    check(module, what, said)
    return module


def tensors(path: Path, what: str) -> dict[str, torch.Tensor]:
    """Name -> tensor of a ``.safetensors`` file, or of one that ``torch.save`` wrote, from which nothing but tensors is taken: no code in
    it is run. Raises FigmentError where it is not there, cannot be read, or holds something else."""
    if not path.is_file():
        raise FigmentError(f"{what}: there is no such file. Name one with the weights: .safetensors, .pth or .pt.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each library below has its own
        reason = " ".join(str(error).split())[:200]
        raise FigmentError(
            f"{what} cannot be read: {reason}. It must be a .safetensors file, or hold tensors and nothing else, as"
            " torch.save(model.state_dict(), path) writes it."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(t, torch.Tensor) for t in found.values()):
        raise FigmentError(
            f"{what}: the file holds {type(found).__name__}s of other things than tensors. Save the weights alone:"
            " torch.save(model.state_dict(), path)."
        )
    return dict(found)


def check(module: nn.Module, what: str, said: Mapping[str, Collection[Any]] | None = None) -> None:
    """Raise FigmentError for a module whose checkpoint lacks tensors, or has some of other shapes, of other names, or with NaN.

    ``said`` is the loading information of transformers and diffusers: ``missing_keys``, ``unexpected_keys`` and
    ``mismatched_keys``. Tensors of whole parts that the module has not, such as the other tower of a CLIP, are no mistake.
    """
    state, said = module.state_dict(), said or {}
    missing = {*said.get("missing_keys", ()), *(name for name, tensor in state.items() if tensor.is_meta)}
    parts = {name.partition(".")[0] for name in state}
    found = {
        MISSING: missing,
        SHAPES: {f"{name} {tuple(a)} for {tuple(b)}" for name, a, b in said.get("mismatched_keys", ())},
        NAMES: {name for name in said.get("unexpected_keys", ()) if missing or name.partition(".")[0] in parts},
    }
    found = {problem: {n for n in names if not HARMLESS.search(n)} for problem, names in found.items()}
    if not any(found.values()):
        found = {NOT_FINITE: not_finite(state)}
    refuse(what, len(state), found)


def refuse(what: str, n: int, found: Mapping[str, Collection[str]]) -> None:
    """Raise FigmentError if any of a model's ``n`` tensors was found wrong: problem -> the names of its tensors."""
    problems = [f"{len(names):,} {problem} ({_some(names)})" for problem, names in found.items() if names]
    if not problems:
        return
    advice = "Fetch it again, or save it again from the model that was trained."
    foreign = found.get(NAMES, ())
    if foreign and all(name.startswith("module.") for name in foreign):
        advice = (
            "It was saved from inside a DataParallel, whose names begin with 'module.': save it again with"
            " model.module.save_pretrained(folder)."
        )
    raise FigmentError(
        f"{what} has the wrong weights: of {n:,} tensors, {'; '.join(problems)}. Random numbers, or worse, would stand in their"
        f" place. {advice}"
    )


def not_finite(tensors: Mapping[str, torch.Tensor]) -> set[str]:
    """The names of those with a NaN or an infinity. (Least and greatest take no copy, as a mask of a large tensor would.)"""
    floats = {name: t for name, t in tensors.items() if t.is_floating_point() and t.numel()}
    return {name for name, t in floats.items() if not all(bool(v.isfinite()) for v in t.detach().aminmax())}


@contextmanager
def _silent() -> Iterator[None]:
    """Without the bars of transformers, and its table of what did not fit, of which `check` says in a sentence what matters."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:TOLD]) + (", ..." if len(names) > TOLD else "")
