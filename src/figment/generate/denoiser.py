"""A denoiser in the place of a pipeline's own: fine-tuned as a whole, or distilled to few steps.

The folder is as diffusers writes one: ``unet/``, or ``transformer/`` of Stable Diffusion 3, with its configuration and weights, and
``scheduler/`` where it is sampled in another way. ``UNet2DConditionModel.from_pretrained(folder, subfolder="unet")`` opens it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from figment import records
from figment.errors import FigmentError
from figment.files import load_json, read_text
from figment.generate.training.families import TRANSFORMER, UNET
from figment.models import ModelFolder, resolve

#: Part of a pipeline -> the class of diffusers that it is here.
KINDS = {UNET: "UNet2DConditionModel", TRANSFORMER: "SD3Transformer2DModel"}
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"


@dataclass(frozen=True)
class Distilled:
    """What a student has learnt, as its record says; other things it was never shown."""

    guidance: tuple[float, float]  # the least and the greatest scale
    steps: tuple[int, ...]  # the numbers that it samples in

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Distilled:
        """From the settings that it was distilled with."""
        low, high = settings["guidance"]
        points = settings["points"]
        progressive = settings["method"] == "progressive"
        return cls((low, high), (points,) if progressive else tuple(n for n in range(1, points + 1) if points % n == 0))


@dataclass(frozen=True)
class Denoiser:
    """Where it lies, and a fingerprint that changes with its weights; a trained one has that of its training, before there are any."""

    folder: Path
    fingerprint: str
    model: str | None = None  # the fingerprint of the only model that it goes with, if that is known
    scheduler: str | None = None  # the class of the one that it brings along; None where the pipeline's own stays
    distilled: Distilled | None = None
    tuned: bool = False  # on real images
    part: str = UNET  # of the pipeline, one of `KINDS`

    @property
    def kind(self) -> str:
        """Its class in diffusers."""
        return KINDS[self.part]

    def fits(self, index: Mapping[str, Any]) -> bool:
        """Whether the pipeline of a model_index.json has such a part."""
        return index.get(self.part) == ["diffusers", self.kind]

    def check_goes_with(
        self, model: ModelFolder, num_inference_steps: int, guidance_scale: float, scheduler: str | None
    ) -> None:
        """Raise FigmentError for another model than it was trained from, and for settings that it was not distilled for."""
        if self.model not in (None, model.fingerprint):
            raise FigmentError(f"The denoiser in {self.folder} was trained from another model than {model.name}.")
        if self.distilled is None:
            return
        steps, (low, high) = self.distilled.steps, self.distilled.guidance
        if num_inference_steps not in steps:
            numbers = " or ".join(str(n) for n in steps)
            raise FigmentError(
                f"num_inference_steps is {num_inference_steps}, and the denoiser in {self.folder} was distilled for"
                f" {numbers}: in others it makes no good images. Set num_inference_steps: {numbers}."
            )
        if scheduler not in (None, self.scheduler):
            raise FigmentError(
                f"scheduler is {scheduler}, and the denoiser in {self.folder} was distilled for the {self.scheduler} that lies"
                " with it: the steps of others do not end where it learnt to go. Leave scheduler out."
            )
        if not low <= guidance_scale <= high:
            raise FigmentError(
                f"guidance_scale is {guidance_scale:g}, and the denoiser in {self.folder} was distilled for {low:g} to {high:g}: it"
                " is told the scale as a number, and knows no others. Set guidance_scale to one of these."
            )

    def described(self) -> str:
        """For the data set's card, after the sampler: whose images these are as well, which the model's name does not tell."""
        if self.tuned:
            return ", denoiser fine-tuned on real images"
        return f", another denoiser ({self.folder.name}{', distilled' if self.distilled else ''})"

    def check(self) -> None:
        """Raise FigmentError where one that a record vouches for is not finished, or not as it was written."""
        found = records.read(self.folder)
        if found.state == "none":
            if not self.tuned and self.distilled is None:  # nobody vouches for it
                return
            what = "fine-tuned" if self.tuned else "distilled"
            raise FigmentError(
                f"The generator is not {what} yet: there is no {self.folder / records.NAME}. {self._made_anew()}"
            )
        changed = records.problems(found)
        if changed or found.state == "damaged":
            what = f"{', '.join(changed)} changed" if changed else found.problem
            raise FigmentError(f"The denoiser in {self.folder} cannot be used: {what}. {self._made_anew()}")

    def _made_anew(self) -> str:
        """What is to be done for another in its place."""
        if self.tuned:
            return f"Move {self.folder} away and run the same command again: the generator is then fine-tuned anew."
        if self.distilled is not None:
            return f"Move {self.folder} away and distil it again, or leave generate.denoiser out."
        return f"Move {self.folder} away and make it again with what it came from, or leave generate.denoiser out."


def open_denoiser(folder: Path | str) -> Denoiser:
    """The one in a folder. Raises FigmentError where there is none, and for weights that are pickles."""
    folder = Path(folder).expanduser().resolve()
    part = next((part for part in KINDS if (folder / part / CONFIG).is_file()), None)
    if part is None:
        raise FigmentError(
            f"{folder} holds no denoiser: there is no {' and no '.join(f'{part}/{CONFIG}' for part in KINDS)} in it. Name a folder with"
            " the unet/ or transformer/ of a diffusers pipeline, as generate.finetune with method: full and distil leave one."
        )
    of = records.read(folder)
    if of.state == "finished" and of.data["kind"] == "finetune":
        return Denoiser(folder, of.data["fingerprint"], of.data["inputs"]["model"], tuned=True, part=part)
    text = read_text(folder / SCHEDULER, "model configuration") if (folder / SCHEDULER).is_file() else None
    own = records.fingerprint([resolve(str(folder / part)).fingerprint, text])
    scheduler = None if text is None else _scheduler(folder / SCHEDULER)
    if of.state != "finished" or of.data["kind"] != "distil":
        return Denoiser(folder, own, scheduler=scheduler, part=part)
    distilled = Distilled.of(of.data["settings"]["distil"])
    # Where the teacher had a denoiser of its own, inputs.model is a fingerprint of both.
    return Denoiser(folder, own, of.data.get("goes_with", of.data["inputs"]["model"]), scheduler, distilled)


def _scheduler(path: Path) -> str | None:
    """The class that a scheduler's configuration names, if it does. Raises FigmentError for what is no configuration."""
    try:
        told = load_json(path, "model configuration")
    except ValueError:
        told = None
    name = told.get("_class_name") if isinstance(told, dict) else 0
    if name is not None and not isinstance(name, str):
        raise FigmentError(
            f"{path} is no configuration of a scheduler: diffusers writes a JSON object with the name of its class. Take the file"
            " away, and the model's own scheduler is used, or put there what the denoiser came with."
        )
    return name


def pack(denoiser: torch.nn.Module, part: str = UNET) -> dict[str, bytes]:
    """The files of a denoiser by their names in the folder, as diffusers reads them."""
    import safetensors.torch

    model: Any = denoiser
    weights = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    config = model.to_json_string().encode()
    return {f"{part}/{CONFIG}": config, f"{part}/{WEIGHTS}": safetensors.torch.save(weights, {"format": "pt"})}
