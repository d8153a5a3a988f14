"""LoRAs that others made, merged into a pipeline when it is opened: afterwards it is a pipeline like any other, and as fast."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from figment import guard, hub, layout, weights
from figment.errors import FigmentError, missing_extra
from figment.generate.loras_settings import LoraSettings
from figment.models import HUB_ID, pinned

log = logging.getLogger(__name__)

#: The two matrices of a change, as diffusers, peft and kohya call them.
MATRIX = re.compile(r"lora[._](A|B|down|up)\b")
ADAPTER = "given"


@dataclass(frozen=True)
class GivenLora:
    """A file that is there, and how much of it is used."""

    path: Path
    name: str  # as the user wrote it
    scale: float
    digest: str

    @property
    def identity(self) -> list[Any]:
        """What an image depends on."""
        return [self.digest, self.scale]

    def here(self) -> GivenLora:
        """The same on this machine, as of models. Raises FigmentError where it cannot be had, or is another one."""
        if self.path.is_file():
            return self
        own = {"lora": pinned(self.name, self.path.parent), "weight_name": self.path.name, "scale": self.scale}
        (found,) = resolve_loras([own])
        if found.digest != self.digest:
            raise FigmentError(f"The LoRA {self.name} is another one on {platform.node()}. Copy the same file there.")
        return replace(found, name=self.name)


def resolve_loras(given: Sequence[LoraSettings | Mapping[str, Any] | str | Path]) -> tuple[GivenLora, ...]:
    """Find the files; a text alone is a LoRA at its full scale. Raises FigmentError for what is not there or not given as such."""
    if given and importlib.util.find_spec("peft") is None:
        raise missing_extra("peft", "finetune")
    found = []
    for one in given:
        if isinstance(one, str | Path):
            one = {"lora": str(one)}
        settings = one if isinstance(one, LoraSettings) else LoraSettings.model_validate(one)
        path = _file(settings)
        guard.check(path)
        found.append(GivenLora(path, settings.lora, settings.scale, _digest(path)))
    return tuple(found)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def merge(pipe: Any, loras: Sequence[GivenLora], model: str) -> None:
    """Change the weights of a pipeline by these, one after another. Raises FigmentError for one that it does not go with."""
    for lora in loras:
        if not hasattr(pipe, "load_lora_weights"):
            raise FigmentError(f"The {type(pipe).__name__} of {model} takes no LoRA. Leave generate.loras out.")
        what = f"The LoRA {lora.name}"
        matrices = _matrices(lora, what)
        try:
            pipe.load_lora_weights(
                str(lora.path.parent), weight_name=lora.path.name, adapter_name=ADAPTER, local_files_only=True
            )
        except Exception as error:  # other names, other shapes: each is another error of another library
            raise FigmentError(
                f"{what} does not go with the {type(pipe).__name__} {model}: {' '.join(str(error).split())[:300]}. {_advice(lora)}"
            ) from error
        changed = _changed(pipe)
        if not changed.total():  # of which diffusers only says that it is safe to ignore
            raise FigmentError(
                f"{what} changes nothing in the {type(pipe).__name__} {model}: none of its {matrices:,} matrices, such as"
                f" {_example(lora)}, is of a layer that there is. {_advice(lora)}"
            )
        if changed.total() < matrices:
            log.warning(
                "%s was made for another model: of its %d matrices %d fit %s", what, matrices, changed.total(), model
            )
        # Left to itself, diffusers leaves out the text encoder of some families, as Flux.
        pipe.fuse_lora(components=list(changed), lora_scale=lora.scale, adapter_names=[ADAPTER])
        pipe.unload_lora_weights()


def _matrices(lora: GivenLora, what: str) -> int:
    """How many a file has. Raises FigmentError for a file that is none of a LoRA, or holds what is no number."""
    try:
        digest, tensors = _digest(lora.path), safetensors.torch.load_file(lora.path)
    except Exception as error:
        raise FigmentError(
            f"{what} cannot be opened: {lora.path} is no safetensors file, or a damaged one ({error})."
        ) from error
    if digest != lora.digest:
        raise FigmentError(
            f"{what} is not the file any more that it was when the generator was made: {lora.path} was changed. Start again: its images"
            " are others."
        )
    found = [name for name in tensors if MATRIX.search(name)]
    if not found:
        raise FigmentError(
            f"{what} is none: no tensor in {lora.path} is called as those of a LoRA are. A whole model goes into generate.model, a UNet"
            " into generate.denoiser."
        )
    weights.refuse(what, len(tensors), {weights.NOT_FINITE: weights.not_finite(tensors)})
    return len(found)


def _changed(pipe: Any) -> Counter[str]:
    """The parts of a pipeline in which matrices of the adapter lie, and how many."""
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return Counter(part for part in parts for name, _ in parts[part].named_parameters() if MATRIX.search(name))


def _example(lora: GivenLora) -> str:
    with safetensors.safe_open(lora.path, "pt") as file:
        return next(name for name in file.keys() if MATRIX.search(name))[:120]  # noqa: SIM118


def _advice(lora: GivenLora) -> str:
    return f"Take one that was made for this model, set generate.model to the one that it was made for, or take {lora.name} out of generate.loras."


def _file(settings: LoraSettings) -> Path:
    """Where it lies, after a download if need be."""
    name, wanted = settings.lora, settings.weight_name
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix != ".safetensors":
            raise FigmentError(
                f"The LoRA {name} is no .safetensors file. Pickles can run code, and are not opened here."
            )
        return path.resolve()
    if path.is_dir():
        folder = path.resolve()
    elif match := HUB_ID.fullmatch(name):
        folder = hub.download(match[1], match[2], [wanted or layout.LORA])
    else:
        raise FigmentError(
            f"There is no LoRA {path}: it is a .safetensors file, the folder of one, or a Hub id, owner/name."
        )
    there = sorted(p.name for p in folder.glob("*.safetensors"))
    chosen = wanted or (layout.LORA if layout.LORA in there else there[0] if len(there) == 1 else None)
    if chosen not in there:
        shown = (
            f"it has {', '.join(there[:10])}"
            if there
            else f"no .safetensors file is there{'' if wanted else ' of the usual name'}"
        )
        raise FigmentError(
            f"The LoRA {name} has {f'no {wanted}' if wanted else 'no single file'}: {shown}. Set weight_name to the file that is meant."
        )
    return folder / str(chosen)
