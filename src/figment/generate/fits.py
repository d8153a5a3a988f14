"""Whether what is asked of a generator is what its pipeline can do: found out by names before anything is opened, then by looking."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers

from figment.errors import FigmentError
from figment.generate import samplers
from figment.generate.families import FAMILIES
from figment.generate.guidance import GUIDANCE, Guidance, config_of
from figment.generate.opening import read_index

if TYPE_CHECKING:
    from figment.generate.diffusers import DiffusersGenerator
    from figment.generate.real_guidance_settings import RealGuidanceSettings

# These go wrong when they start in the middle: with a perfect model they end far from the image, in diffusers 0.42.
FROM_THE_START_ONLY = ("PNDMScheduler", "LMSDiscreteScheduler", "EDMEulerScheduler")
EVEN = 8  # what diffusers' pipelines want sides to be divisible by, whatever their VAE
#: Of classes in diffusers that take a text and make something else from it, or take more than a text: what their names have.
_OTHERS = re.compile(
    "Img2Img|ImageToImage|I2I|Emb2Emb|Inpaint|Edit|Control|Adapter|Fill|Layered|Refiner|Pix2Pix|Depth2Img|GLIGEN|LatentUpscale"
    "|CycleDiffusion|Prior|Decoder|Video|Audio|Music|ShapE|LDM3D|UniDiffuser|DiffusionGemma|LLaDA"
)
_OTHER_OUTPUTS = (
    "num_frames",
    "frames",
    "video_length",
    "audio_length_in_s",
    "audio_duration",
    "audio_duration_s",
    "audio_end_in_s",
)


def check_class(name: str, model: str) -> None:
    """Raise FigmentError for a pipeline that, by its class in diffusers, does not make images from text alone.

    Those that enlarge images (families with ``pixels``) are stages of a cascade, and pass. So does a class that this diffusers lacks,
    which opening it tells. Raises it too for one whose packages are not installed: in its place diffusers has a stand-in that does nothing.
    """
    kind, family = getattr(diffusers, name, None), FAMILIES.get(name)
    lacking = [package for package in getattr(kind, "_backends", ()) if importlib.util.find_spec(package) is None]
    if lacking:
        raise FigmentError(
            f"The {name} of {model} needs what is not installed here: {', '.join(lacking)}. Run: pip install {' '.join(lacking)}"
        )
    if refused := GUIDANCE.get(name, Guidance()).refused:
        raise FigmentError(f"The {name} of {model} {refused}. Choose another model.")
    if kind is None or family is not None:
        return
    arguments = inspect.signature(kind.__call__).parameters
    needed = [
        argument
        for argument, told in arguments.items()
        if told.default is told.empty and told.kind is told.POSITIONAL_OR_KEYWORD and argument not in ("self", "prompt")
    ]
    others = _OTHERS.search(name) or any(argument in arguments for argument in _OTHER_OUTPUTS)
    if "prompt" not in arguments or "generator" not in arguments or needed or others:
        raise FigmentError(
            f"The model {model} is a {name}, which makes no images from text alone. Choose a text-to-image model."
        )


def check_names(g: DiffusersGenerator, name: str, scheduler: str) -> None:
    """Raise FigmentError for settings that this pipeline, by its class, or this scheduler cannot honour."""
    family, model = FAMILIES.get(name), g.folder.name
    if g.real_guidance and not (family and family.schedule):
        allowed = ", ".join(n for n, f in FAMILIES.items() if f.schedule)
        raise FigmentError(
            f"Real guidance needs an image-to-image pipeline of the same weights. There is one for {allowed}, and none for the"
            f" {name} of {model}. Choose another model, or leave real_guidance out."
        )
    if g.real_guidance and scheduler in FROM_THE_START_ONLY:
        raise FigmentError(
            f"The {scheduler} cannot start in the middle of its schedule, as real guidance does. Set"
            " scheduler: DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler or UniPCMultistepScheduler."
        )
    if g.sampling.scheduler and name.endswith(
        "CombinedPipeline"
    ):  # which keeps it, and samples with those it was opened with
        raise FigmentError(f"The {name} of {model} samples with schedulers of its own. Leave scheduler out.")
    if g.lora and not family:
        raise FigmentError(f"The {name} of {model} takes no LoRA here. Leave lora out.")
    if not g.sampling.interval.whole and not (family and family.doubled):
        allowed = ", ".join(n for n, f in FAMILIES.items() if f.doubled)
        raise FigmentError(
            f"guidance_start above 0 and guidance_stop below 1 work with {allowed}, not with the {name} of {model}."
            " Set guidance_start: 0 and guidance_stop: 1."
        )
    if g.sampling.log_variance is not None and not 0 <= g.sampling.log_variance <= 1:
        raise FigmentError(f"log_variance is {g.sampling.log_variance}; it lies between 0 (least noise) and 1 (most).")
    if g.sampling.log_variance is not None and not scheduler.endswith("DDPMScheduler"):
        raise FigmentError(
            f"log_variance is {g.sampling.log_variance:g}, which is a setting of ancestral sampling (DDPM), and the scheduler is {scheduler}."
            " Set scheduler: DDPMScheduler, or leave log_variance out."
        )
    if g.sampling.noise_level is not None and not (family and family.pixels):
        allowed = ", ".join(n for n, f in FAMILIES.items() if f.pixels)
        raise FigmentError(
            f"noise_level is of pipelines that enlarge images ({allowed}), and the {name} of {model} does not. Leave it out."
        )


def check_resolved(real_guidance: RealGuidanceSettings | None) -> None:
    """Raise FigmentError where it is asked for and does not say how much noise it starts with."""
    if real_guidance and real_guidance.alpha_bar is None and real_guidance.t_star is None:
        raise FigmentError(
            "real_guidance does not say how much noise it starts with. Give t_star or alpha_bar, or the paper's for the"
            " number of shots a class: RealGuidanceSettings().resolved(16)."
        )


def check_size(g: DiffusersGenerator, name: str) -> None:
    """Raise FigmentError for sides that a pipeline, by its class, cannot make. Flux would make others, and only log it."""
    family, levels = FAMILIES.get(name), config_of(g.folder.path / "vae").get("block_out_channels")
    if not g.height or not g.width or family is None or not isinstance(levels, list):
        return
    side = lcm(EVEN, 2 ** (len(levels) - 1) * family.patch)
    if g.height % side or g.width % side:
        height, width = (max(side, round(own / side) * side) for own in (g.height, g.width))
        raise FigmentError(
            f"Images of {g.width}x{g.height} pixels cannot be made by {g.folder.name}: height and width must be divisible by {side}."
            f" Set generate.height: {height} and generate.width: {width}."
        )


def check_folder(model: str) -> Callable[[Path], None]:
    """`check_class` of a model's folder, whose weights need not be there yet."""

    def check(folder: Path) -> None:
        if (index := read_index(folder)) is not None:
            check_class(index["_class_name"], model)

    return check


def check_opened(g: DiffusersGenerator, pipe: Any) -> None:
    """Raise FigmentError for settings that an opened pipeline cannot honour."""
    name, model = type(pipe).__name__, g.folder.name
    arguments = inspect.signature(pipe.__call__).parameters
    check_class(name, model)
    check_names(g, name, type(pipe.scheduler).__name__)
    family = FAMILIES.get(name)
    if g.height and "height" not in arguments:
        raise FigmentError(f"The {name} of {model} has a size of its own. Leave height and width out.")
    check_sampler(g, name, pipe.scheduler)
    if getattr(getattr(pipe, "unet", None), "config", {}).get("time_cond_proj_dim") is not None:
        _check_one_pass(g)
    if g.sampling.negative_prompt and not (
        family.guided if family else "negative_prompt" in arguments and not g.guidance.told
    ):
        raise FigmentError(f"The {name} of {model} takes no negative prompt. Leave negative_prompt empty.")


def check_sampler(g: DiffusersGenerator, name: str, scheduler: Any) -> None:
    """Raise FigmentError where the images to enlarge would be scaled with the noisy ones, as diffusers 0.42 does."""
    if name != "IFSuperResolutionPipeline":
        return
    scheduler.set_timesteps(g.sampling.num_inference_steps)
    if samplers.scales_input(scheduler):
        raise FigmentError(
            f"The {type(scheduler).__name__} scales what a model is shown, and the IFSuperResolutionPipeline of {g.folder.name} would scale"
            " the images that it enlarges with it: they would be lost. Set scheduler: DDPMScheduler, DDIMScheduler or"
            " DPMSolverMultistepScheduler."
        )


def _check_one_pass(g: DiffusersGenerator) -> None:
    """Raise FigmentError for what takes a pass without the text, of which a distilled denoiser has none."""
    given = {
        "negative_prompt": bool(g.sampling.negative_prompt),
        "guidance_start": g.sampling.interval.start > 0,
        "guidance_stop": g.sampling.interval.stop < 1,
    }
    asked = " and ".join(name for name, is_given in given.items() if is_given)
    if asked:
        raise FigmentError(
            f"The denoiser of {g.folder.name} was distilled: it is told its guidance scale, and takes no second pass. Leave"
            f" {asked} out."
        )
