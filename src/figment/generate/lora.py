"""A LoRA that is finished: how it lies on disk, and how it works in a pipeline.

The files are those of diffusers, ``pytorch_lora_weights.safetensors``, so ``pipe.load_lora_weights(folder)`` opens them.
Here they are applied in another way: a batch holds images of many classes, and where each class has weights of its own,
each image gets its own by one batched matrix product. The batch stays whole, and peft is not needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from figment import layout, records, weights
from figment.errors import FigmentError
from figment.files import as_path, read_bytes, read_json
from figment.generate.placing import computes_on

WEIGHTS = layout.LORA
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Lora:
    """Where the weights lie, what they were trained on, and the share of them that is used."""

    folder: Path
    model: str  # fingerprint of the model that they change
    per_class: bool
    trained: str  # fingerprint of everything they were trained with
    scale: float = 1.0

    @property
    def fingerprint(self) -> str:
        return records.fingerprint([self.trained, self.scale])

    def file(self, label: int) -> Path:
        """The weights for images of a class."""
        return self.folder / f"{label:05d}" / WEIGHTS if self.per_class else self.folder / WEIGHTS

    def read(self, label: int) -> dict[str, torch.Tensor]:
        """The weights for images of a class by their names. Raises FigmentError where they are not as they were written."""
        path = self.file(label)
        again = f"Move {self.folder} away and run the same command again: the generator is then fine-tuned anew."
        found = records.read(self.folder)
        if found.state == "none":
            raise FigmentError(
                f"The generator is not fine-tuned yet: there is no {self.folder / records.NAME}. {again}"
            )
        told = found.files.get(path.relative_to(self.folder).as_posix())
        if told is None:
            problem = found.problem or f"it knows no class {label}"
            raise FigmentError(f"The LoRA in {self.folder} cannot be used: {problem}. {again}")
        data = read_bytes(path) if path.is_file() else b""
        if not told.is_of(data):
            raise FigmentError(f"{path} is not the file that {records.NAME} has the checksum of. {again}")
        return safetensors.torch.load(data)


def open_lora(folder: Path | str, scale: float = 1.0) -> Lora:
    """The LoRA that :func:`figment.generate.finetune.finetune` left in a folder. Raises FigmentError where there is none."""
    folder = as_path(folder)
    if not (folder / "stage.json").is_file():
        raise FigmentError(
            f"{folder} holds no finished LoRA: it has no stage.json. Name the folder that finetune returned."
        )
    record = read_json(folder / "stage.json")
    try:
        model, per_class = record["inputs"]["model"], record["settings"]["finetune"]["per_class"]
    except (KeyError, TypeError) as error:
        raise FigmentError(
            f"{folder} holds no LoRA but another stage. Name the folder that finetune returned."
        ) from error
    return Lora(folder, model, per_class, record["fingerprint"], scale)


def pack(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A file that diffusers reads. ``tensors`` are called as in the pipeline: ``unet.mid_block...to_q.lora_A.weight``."""
    named = {_name_on_disk(name): tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    return safetensors.torch.save(named, {"format": "pt"})


def _name_on_disk(name: str) -> str:
    """CLIP's layers lie in ``text_model`` or, in newer transformers, do not; every reader understands the older name."""
    part, _, rest = name.partition(".")
    if part.startswith("text_encoder") and not rest.startswith("text_model."):
        return f"{part}.text_model.{rest}"
    return name


def _module(pipe: Any, name: str) -> torch.nn.Module:
    """The layer that ``unet.mid_block...to_q`` names."""
    part, _, rest = name.partition(".")
    model = getattr(pipe, part)
    if part.startswith("text_encoder") and not hasattr(model, "text_model"):
        rest = rest.removeprefix("text_model.")
    return model.get_submodule(rest)


def _check(tensors: Mapping[str, torch.Tensor], pipe: Any, what: str) -> None:
    """Raise FigmentError for a LoRA that changes nothing in this pipeline, not what it should, or with what is no number."""
    layer = lambda name: name.removesuffix(DOWN).removesuffix(UP)
    sizes: dict[str, tuple[int, ...]] = {}  # layer -> its features out and in
    for name in map(layer, tensors):
        with suppress(AttributeError):
            weight: Any = _module(pipe, name).weight
            sizes[name] = tuple(weight.shape)
    found: dict[str, Collection[str]] = {
        weights.NAMES: [n for n in tensors if layer(n) not in sizes],
        weights.MISSING: [n + end for n in sizes for end in (DOWN, UP) if n + end not in tensors],
    }
    if not any(found.values()):
        fits = lambda n: (tensors[n + UP].shape[0], tensors[n + DOWN].shape[1]) == sizes[n]
        found = {weights.SHAPES: [n for n in sizes if not fits(n)], weights.NOT_FINITE: weights.not_finite(tensors)}
    if not tensors:
        raise FigmentError(f"{what} is empty: it would change nothing. Fine-tune the generator again.")
    weights.refuse(what, len(tensors), found)


class Applied:
    """A LoRA in an opened pipeline: adds to each layer's output what the weights of each image's class say."""

    def __init__(self, lora: Lora, pipe: Any):
        self.lora, self.pipe = lora, pipe
        self.hooked = False
        self.present: list[int] = []  # labels of the weights in memory
        self.index = torch.zeros(1, dtype=torch.long)  # (B,) which of them each image has
        self.down: dict[str, torch.Tensor] = {}  # layer -> (K, rank, in)
        self.up: dict[str, torch.Tensor] = {}  # layer -> (K, out, rank)

    def choose(self, labels: Sequence[int]) -> None:
        """Get ready for a batch of these classes, one label an image, or one for all of it."""
        wanted = sorted(set(labels)) if self.lora.per_class else [0]
        if not set(wanted) <= set(self.present):
            self._load(wanted)
        place = {label: i for i, label in enumerate(self.present)}
        index = [place[label] for label in labels] if self.lora.per_class else [0]
        self.index = torch.tensor(index, device=computes_on(self.pipe))

    def _load(self, labels: list[int]) -> None:
        read = [self.lora.read(label) for label in labels]
        for label, tensors in zip(labels, read, strict=True):
            _check(tensors, self.pipe, f"The LoRA in {self.lora.file(label)}")
        place = {"device": computes_on(self.pipe), "dtype": self.pipe.dtype}
        names = [name.removesuffix(DOWN) for name in read[0] if name.endswith(DOWN)]
        self.down = {n: torch.stack([w[n + DOWN] for w in read]).to(**place) for n in names}
        self.up = {n: (torch.stack([w[n + UP] for w in read]) * self.lora.scale).to(**place) for n in names}
        self.present = labels
        if not self.hooked:  # each class's weights are of the same layers
            for name in names:
                _module(self.pipe, name).register_forward_hook(partial(self._add, name))
            self.hooked = True

    def _add(self, name: str, module: torch.nn.Module, arguments: tuple, output: torch.Tensor) -> torch.Tensor:
        x = arguments[0]  # (b, tokens, in)
        down, up = self.down[name], self.up[name]
        if len(down) > 1:  # with guidance b is 2 B: the whole batch without its text, then the whole batch with it
            own = self.index.repeat(len(x) // len(self.index))  # (b,)
            down, up = down[own], up[own]
        return output + (x @ down.mT) @ up.mT
