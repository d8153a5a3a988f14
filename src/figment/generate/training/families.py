"""The families of pipelines whose denoisers can be trained: which parts learn, and how the denoiser is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from figment.errors import FigmentError

UNET, TRANSFORMER = "unet", "transformer"
#: The attention's matrices: of a UNet, and of transformers those of the text as well, which takes part in it.
LAYERS = {
    UNET: ("to_q", "to_k", "to_v", "to_out.0"),
    TRANSFORMER: ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
}
TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)
class Trained:
    """``text_encoders`` are those that a LoRA may change: CLIP's, as diffusers loads no LoRA for a T5."""

    name: str  # as people call it
    denoiser: str  # the part of the pipeline
    text_encoders: tuple[str, ...]
    flow: bool = False  # rectified flow (Esser et al. 2024) in the place of diffusion
    logit_normal: bool = False  # its times are mostly in the middle (their section 3.1); else they are uniform
    packed: bool = False  # four latent pixels are one token, as in Flux
    only_lora: bool = False  # twelve billion weights are more than one GPU trains


TRAINED = {
    "StableDiffusionPipeline": Trained("Stable Diffusion 1 and 2, the starter", UNET, ("text_encoder",)),
    "StableDiffusionXLPipeline": Trained("SDXL", UNET, ("text_encoder", "text_encoder_2")),
    "StableDiffusion3Pipeline": Trained(
        "Stable Diffusion 3", TRANSFORMER, ("text_encoder", "text_encoder_2"), flow=True, logit_normal=True
    ),
    "FluxPipeline": Trained("Flux", TRANSFORMER, ("text_encoder",), flow=True, packed=True, only_lora=True),
}


def trained(pipeline: str, model: str = "") -> Trained:
    """That of a pipeline by its class. Raises FigmentError for one whose training is not known here."""
    if pipeline not in TRAINED:
        families = ", ".join(f"{name} ({family.name})" for name, family in TRAINED.items())
        raise FigmentError(
            f"The denoiser of a {pipeline} cannot be trained here{f', and {model} is one' if model else ''}. Choose a model of one of"
            f" these: {families}; or leave generate.finetune out."
        )
    return TRAINED[pipeline]


def denoiser_of(pipe: Any) -> Any:
    """The model of a pipeline that takes the noise away."""
    return getattr(pipe, trained(type(pipe).__name__).denoiser)


def predict(pipe: Any, noisy: Tensor, t: Tensor, told: dict[str, Any]) -> Tensor:
    """What the denoiser says of noisy latents (B, C, h, w) at times (B,), with `Conditions` as ``told``; of the same shape."""
    model = denoiser_of(pipe)
    x = noisy.to(model.dtype)
    if not trained(type(pipe).__name__).packed:
        return model(x, timestep=t, **told).sample
    return unpack(model(pack(x), timestep=t / 1000, **told).sample, *noisy.shape[2:])


def pack(latents: Tensor) -> Tensor:
    """(B, C, h, w) to Flux's tokens (B, h w / 4, 4 C), each of 2 x 2 latent pixels."""
    b, c, h, w = latents.shape
    return latents.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def unpack(tokens: Tensor, h: int, w: int) -> Tensor:
    """The way back, of latents of h x w."""
    b, _, c = tokens.shape
    return tokens.reshape(b, h // 2, w // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c // 4, h, w)
