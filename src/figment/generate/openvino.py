"""A denoiser by OpenVINO, on a CPU: converted once, and kept on this machine for later runs.

OpenVINO's own ``convert_model`` reports its use to its makers unless somebody has opted out, also where nobody was asked. What it does to a
model is done here without it: torch traces, OpenVINO's reader of traces converts, and nothing is sent.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils import _pytree as pytree  # what torch itself takes nested arguments apart with; it has no other

from figment import files
from figment.errors import FigmentError, missing_extra
from figment.records import fingerprint

PACKAGE = "openvino"
NAME = "denoiser.xml"  # and .bin, with the weights
#: What it computes in, by the pipeline's precision. Float16 is no CPU's.
PRECISIONS = {torch.bfloat16: "bf16"}


def version() -> str:
    """Raises FigmentError where it is not installed."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise missing_extra(PACKAGE, "openvino") from error


def cache_folder() -> Path:
    """Where converted models lie."""
    return files.cache_folder() / "openvino"


class Arguments:
    """How a call's arguments were nested, and what of them was no tensor."""

    def __init__(self, given: Sequence[Any], named: dict[str, Any]):
        leaves, self.nesting = pytree.tree_flatten((list(given), named))
        self.rest = [None if isinstance(leaf, torch.Tensor) else (leaf,) for leaf in leaves]
        self.tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        self.kinds = [(tensor.ndim, tensor.dtype) for tensor in self.tensors]

    def like(self, other: Arguments) -> bool:
        """Whether both calls are the same but for what the tensors hold, and how many rows they have."""
        told = lambda own: (own.nesting, own.rest, own.kinds, [tuple(t.shape[1:]) for t in own.tensors])
        return told(self) == told(other)

    def with_tensors(self, tensors: Sequence[torch.Tensor]) -> tuple[Sequence[Any], dict[str, Any]]:
        """The call with these in the place of its own."""
        left = iter(tensors)
        return pytree.tree_unflatten([next(left) if one is None else one[0] for one in self.rest], self.nesting)

    @property
    def shape(self) -> Any:
        """What a conversion depends on, JSON-able."""
        return [str(self.nesting), repr(self.rest), [[*map(str, kind)] for kind in self.kinds]]


class _Traced(torch.nn.Module):
    """A model's own forward, whatever stands in its place, as a function of tensors alone."""

    def __init__(self, model: torch.nn.Module, arguments: Arguments):
        super().__init__()
        self.model, self.arguments = model, arguments

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        given, named = self.arguments.with_tensors(tensors)
        output = type(self.model).forward(self.model, *given, **named)
        return output[0] if isinstance(output, tuple) else output.sample


class Converted:
    """Stands in for a forward: calls like the one it was converted for, in any number of rows, go to OpenVINO, others to ``plain``."""

    def __init__(self, compiled: Any, arguments: Arguments, plain: Callable[..., Any]):
        self.compiled, self.arguments, self.plain = compiled, arguments, plain

    def __call__(self, *given: Any, **named: Any) -> Any:
        own = Arguments(given, named)
        if not own.like(self.arguments):
            return self.plain(*given, **named)
        tensors = [_float32(tensor).contiguous().numpy() for tensor in own.tensors]
        found = torch.from_numpy(self.compiled(tensors)[0].copy())  # which the next call writes over
        output = found.to(next(t.dtype for t in own.tensors if t.is_floating_point()))
        return (output,) if named.get("return_dict") is False else SimpleNamespace(sample=output)


def converted(
    model: torch.nn.Module, given: Sequence[Any], named: dict[str, Any], plain: Callable[..., Any], weights: str
) -> Converted:
    """``model`` for calls like this one, which ``plain`` answers without OpenVINO. ``weights`` is a fingerprint of the model's.

    It computes in bfloat16 where the model does, else in float32. Raises FigmentError where OpenVINO is not installed or what it
    kept is damaged, and what tracing and converting raise.
    """
    names = [version(), importlib.metadata.version("torch"), importlib.metadata.version("diffusers")]
    arguments = Arguments(given, named)
    import openvino  # absolute: the package

    core = openvino.Core()
    folder = cache_folder() / fingerprint([*names, type(model).__name__, weights, str(_dtype(model)), arguments.shape])
    if not (folder / NAME).is_file():
        _keep(_convert(model, arguments), folder)
    options = {
        "INFERENCE_PRECISION_HINT": PRECISIONS.get(_dtype(model), "f32"),
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,  # one batch at a time
    }
    try:
        compiled = core.compile_model(core.read_model(folder / NAME), "CPU", options)
    except RuntimeError as error:
        raise FigmentError(
            f"OpenVINO cannot open what it converted before, {folder}: {' '.join(str(error).split())[:200]}. Delete that folder, and it"
            " is converted again"
        ) from error
    return Converted(compiled, arguments, plain)


def _convert(model: torch.nn.Module, arguments: Arguments) -> Any:
    """OpenVINO's model of it, in float32."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a trace holds for calls like this one, which Arguments.like sees to
        own = model if _dtype(model) == torch.float32 else _in_float32(model)
        example = tuple(_float32(tensor).clone() for tensor in arguments.tensors)
        traced = torch.jit.trace(_Traced(own, arguments), example, check_trace=False, strict=False)
        reader = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=example)  # which must outlive what reads it
        return reader.convert(reader.load(decoder))


def _keep(converted: Any, folder: Path) -> None:
    """Put it into the cache whole: of two processes that convert at once one is early, and the other's is thrown away."""
    import openvino

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        openvino.save_model(converted, new / NAME, compress_to_fp16=False)
        with suppress(OSError):  # not empty any more
            new.rename(folder)


def _in_float32(model: torch.nn.Module) -> torch.nn.Module:
    in_its_place = model.__dict__.pop("forward", None)  # what is tried just now is no part of the copy
    try:
        return deepcopy(model).float()
    finally:
        if in_its_place is not None:
            model.__dict__["forward"] = in_its_place


def _dtype(model: torch.nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
