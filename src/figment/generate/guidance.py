"""What ``guidance_scale`` is to each pipeline of diffusers, and what a pipeline is told so that it means one thing here.

Ours is that of Ho & Salimans 2022 as Stable Diffusion has it, ``uncond + scale * (cond - uncond)``: 1 or less is none, and costs one row
of the denoiser for each image and step. Pipelines that count otherwise are told another number; those that cannot be told are refused
by name. Each row was read in diffusers 0.42's source; ``docs/guidance.md`` is written from them, and says which ones tests count.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers

from figment.errors import FigmentError
from figment.files import load_json

PRIOR_STEPS = "prior_num_inference_steps"
LEAST_PRIOR_STEPS = 2  # UnCLIPScheduler divides by one less


@dataclass(frozen=True)
class Guidance:
    """``arguments`` are those that take the scale; none = a model that is not guided. The first one's default is the pipeline's own."""

    arguments: tuple[str, ...] = ("guidance_scale",)
    offset: float = 0.0  # what its number is less than ours: 1 where scale * (cond - uncond) is added to cond
    from_one: bool = False  # what is below 1 is not "none" to it, but another scale, or an error
    unguided_to: float = 1.0  # what is above 1 and up to here it takes for no guidance
    told: bool = False  # a number among the inputs of a distilled denoiser, which takes no second pass at any scale
    always: bool = False  # it takes the second pass at every scale
    needs_negative: bool = False  # without a negative prompt, be it empty, it is not guided
    prior: bool = False  # another model goes before, in steps of its own
    known: bool = True
    refused: str = ""  # why it is, as the rest of a sentence that begins with its name
    name: str = ""  # of the pipeline's class

    def check(self, asked: float | None, scale: float, model: str) -> None:
        """Raise FigmentError for a scale that the pipeline cannot honour. ``asked`` is None where ``scale`` is its own."""
        the = f"The {self.name} of {model}"
        if not self.known and asked is not None:
            raise FigmentError(
                f"{the} is of a class that figment does not know: whether {scale:g} is guidance, and how much, it cannot tell. Set"
                " guidance_scale: null for the pipeline's own."
            )
        if not self.arguments and scale > 1:
            raise FigmentError(
                f"{the} was distilled, and takes no guidance: guidance_scale {scale:g} would change nothing. Set guidance_scale: 1, or null."
            )
        if self.always and scale <= 1:
            raise FigmentError(
                f"{the} takes a second pass without the text at every scale, so guidance_scale {scale:g} would not save it. Set"
                " guidance_scale above 1, or choose another model."
            )
        if 1 < scale <= self.unguided_to:
            raise FigmentError(
                f"{the} is guided from above {self.unguided_to:g} on, and guidance_scale is {scale:g}. Set guidance_scale: 1 for none, or"
                f" above {self.unguided_to:g}."
            )

    def own(self) -> float:
        """The scale that the pipeline's class has for its own, as ours. Raises FigmentError where it has none, or several."""
        if not self.arguments:
            return 1.0
        defaults = {defaults_of(self.name).get(argument) for argument in self.arguments}
        (own,) = defaults if len(defaults) == 1 else (None,)
        if own is None:
            raise FigmentError(f"The {self.name} has no guidance_scale of its own. Set guidance_scale to a number.")
        return float(own) + self.offset

    def tells(self, scale: float, num_inference_steps: int) -> dict[str, float]:
        """What the pipeline is called with, of its guidance and of the prior's steps: argument -> number.

        A prior takes the share of its own steps that is asked of the pipeline's own: Kandinsky 2.2's 5 of 25 where it is 20 of 100.
        """
        scale = max(scale, 1.0) if self.from_one or self.offset else scale
        told: dict[str, float] = dict.fromkeys(self.arguments, scale - self.offset)
        if self.prior:
            own = defaults_of(self.name)
            share = min(1.0, num_inference_steps / own["num_inference_steps"])
            told[PRIOR_STEPS] = max(LEAST_PRIOR_STEPS, round(share * own[PRIOR_STEPS]))
        return told


def defaults_of(name: str) -> dict[str, Any]:
    """What a pipeline's arguments are where nobody says, by its class; none of a class that this diffusers lacks."""
    kind = getattr(diffusers, name, None)
    arguments = inspect.signature(kind.__call__).parameters if kind else {}
    return {argument: told.default for argument, told in arguments.items()}


_PLAIN = Guidance()
_FROM_ONE = Guidance(from_one=True)
_ADDED = Guidance(offset=1)
_ADDED_ABOVE_ONE = Guidance(offset=1, unguided_to=2)
_TOLD = Guidance(told=True, from_one=True)
_NONE = Guidance(arguments=())
_TRUE_CFG = Guidance(arguments=("true_cfg_scale",), needs_negative=True)
_ALWAYS = Guidance(always=True)
_BOTH = Guidance(arguments=("guidance_scale", "prior_guidance_scale"), prior=True)
_PRIOR = Guidance(arguments=("prior_guidance_scale",), prior=True)  # its decoder's own scale is 0: none
_GUIDER = Guidance(refused="is guided by a component of its own, in ways that guidance_scale says nothing of")
_SCHEDULED = Guidance(refused="is guided by a second model at every step, by a list of scales")
_PERTURBED = Guidance(
    refused="is also guided by its own attention, at guidance_scale 1 too, which figment has no field for"
)
_ONE_AT_A_TIME = Guidance(refused="makes one image a call")
_ONE_SEED = Guidance(refused="draws all noise of a batch from one seed, so that an image would depend on its batch")
_ONNX = Guidance(refused="runs on onnxruntime, not on torch")
_UNCLIP = Guidance(refused="has three numbers of steps and two scales, guided together or not at all")

#: Pipeline's class -> what guidance is to it. Every class of diffusers that makes images from text has a row.
GUIDANCE = {
    **dict.fromkeys(
        [
            "AltDiffusionPipeline",
            "AuraFlowPipeline",
            "BriaFibo2Pipeline",
            "BriaFiboPipeline",
            "BriaPipeline",
            "ChromaPipeline",
            "CogView3PlusPipeline",
            "CogView4Pipeline",
            "ErnieImagePipeline",
            "Flux2KleinPipeline",
            "GlmImagePipeline",
            "HiDreamImagePipeline",
            "HunyuanDiTPipeline",
            "IFPipeline",
            "IFSuperResolutionPipeline",
            "Kandinsky5T2IPipeline",
            "KolorsPipeline",
            "LongCatImagePipeline",
            "Lumina2Pipeline",
            "LuminaPipeline",
            "NucleusMoEImagePipeline",
            "OvisImagePipeline",
            "PixArtAlphaPipeline",
            "PixArtSigmaPipeline",
            "SanaPipeline",
            "SemanticStableDiffusionPipeline",
            "StableDiffusion3Pipeline",
            "StableDiffusionPanoramaPipeline",
            "StableDiffusionParadigmsPipeline",
            "StableDiffusionPipeline",
            "StableDiffusionUpscalePipeline",
            "StableDiffusionXLPipeline",
            "VersatileDiffusionTextToImagePipeline",
        ],
        _PLAIN,
    ),
    **dict.fromkeys(["LDMTextToImagePipeline", "PRXPipeline", "PRXPixelPipeline"], _FROM_ONE),
    **dict.fromkeys(["Krea2Pipeline", "ZImagePipeline", "ZImageOmniPipeline"], _ADDED),
    **dict.fromkeys(["Cosmos2TextToImagePipeline", "Kandinsky3Pipeline"], _ADDED_ABOVE_ONE),
    **dict.fromkeys(
        [
            "Flux2Pipeline",
            "FluxKontextPipeline",
            "FluxPipeline",
            "LatentConsistencyModelPipeline",
            "SanaSprintPipeline",
        ],
        _TOLD,
    ),
    "Flux2KleinKVPipeline": _NONE,
    **dict.fromkeys(["QwenImage21Pipeline", "QwenImagePipeline"], _TRUE_CFG),
    "OmniGenPipeline": _ALWAYS,
    **dict.fromkeys(["KandinskyCombinedPipeline", "KandinskyV22CombinedPipeline", "StableUnCLIPPipeline"], _BOTH),
    **dict.fromkeys(["StableCascadeCombinedPipeline", "WuerstchenCombinedPipeline"], _PRIOR),
    "HunyuanImagePipeline": _GUIDER,
    "Ideogram4Pipeline": _SCHEDULED,
    **dict.fromkeys(
        [
            "HunyuanDiTPAGPipeline",
            "KolorsPAGPipeline",
            "PixArtSigmaPAGPipeline",
            "SanaPAGPipeline",
            "StableDiffusion3PAGPipeline",
            "StableDiffusionPAGPipeline",
            "StableDiffusionSAGPipeline",
            "StableDiffusionXLPAGPipeline",
        ],
        _PERTURBED,
    ),
    **dict.fromkeys(["DreamLiteMobilePipeline", "DreamLitePipeline"], _ONE_AT_A_TIME),
    **dict.fromkeys(["AmusedPipeline", "VQDiffusionPipeline"], _ONE_SEED),
    **dict.fromkeys(
        ["OnnxStableDiffusionPipeline", "StableDiffusionOnnxPipeline"], _ONNX
    ),  # there with onnxruntime alone
    "UnCLIPPipeline": _UNCLIP,
}


def guidance_of(index: Mapping[str, Any], folder: Path) -> Guidance:
    """Of a pipeline by its model_index.json and, of models with and without an input for the scale, by the denoiser's configuration."""
    name = index["_class_name"]
    if name not in GUIDANCE:
        scales = [one for one in ("true_cfg_scale", "guidance_scale") if one in defaults_of(name)]
        return Guidance(tuple(scales[:1]), needs_negative="true_cfg_scale" in scales, known=False, name=name)
    own = GUIDANCE[name]
    takes_no_number = own.told and config_of(folder / "transformer").get("guidance_embeds") is False  # FLUX.1-schnell
    distilled = name == "Flux2KleinPipeline" and index.get("is_distilled") is True  # Krea 2's is guided all the same
    return replace(_NONE if takes_no_number or distilled else own, name=name)


def config_of(folder: Path) -> dict[str, Any]:
    """Of a part of a pipeline; empty where it cannot be read, which opening the model tells."""
    try:
        told = load_json(folder / "config.json", "model configuration")
    except (OSError, ValueError, FigmentError):
        return {}
    return told if isinstance(told, dict) else {}
