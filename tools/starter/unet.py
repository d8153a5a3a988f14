"""The starter's denoiser: a small UNet on 8x8x4 latents, told by a text tower of its own what to draw; and its student, which needs few steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from figment.generate.training.denoise import denoiser_training
from figment.generate.training.latents import encode_images
from figment.generate.training.settings import DenoiserSettings

from . import captions, data, training

SIZE = (32, 32)
START = "start"  # folder of the working folder: a denoiser to begin with, in place of a new one
#: Made for latents this small: Stable Diffusion's own schedule would leave an 8x8 latent too clean for too long.
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def make_model() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(128, 192),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=192,
        attention_head_dim=4,  # diffusers' name for the number of heads
    )


def sampler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        **SCHEDULE, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="trailing"
    )


def pipeline(out: Path, unet: UNet2DConditionModel, vae: str) -> StableDiffusionPipeline:
    """Of what was trained so far: ``vae`` is a folder of the working pipeline."""
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(out / "pipeline" / vae),
        text_encoder=CLIPTextModel.from_pretrained(out / "pipeline" / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(out / "pipeline" / "tokenizer"),
        unet=unet,
        scheduler=sampler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def train(
    out: Path, data_folder: Path, device: torch.device, *, steps=6_000, batch=128, minutes: float | None = None
) -> None:
    web = data.web(data_folder)
    torch.manual_seed(0)
    start = out / START
    model = UNet2DConditionModel.from_pretrained(start) if start.is_dir() else make_model()
    pipe = pipeline(out, model, "vae").to(device)
    settings = DenoiserSettings(
        steps=steps,
        minutes=minutes,
        batch_size=batch,
        learning_rate=7e-4,
        warmup_steps=200,
        betas=(0.9, 0.99),
        ema_decay=0.999,
        caption_dropout=0.1,
        min_snr_gamma=5.0,
        precision=training.precision(device),
    )

    def batches() -> Iterator[Tensor]:
        return (training.to_input(part, device) for part in torch.from_numpy(web.images).split(500))

    latents = encode_images(pipe.vae, batches())
    learning = denoiser_training(pipe, latents, captions.Captioner(web), settings, size=SIZE)
    training.to_its_end("unet", learning, out)
    pipe.unet.eval().save_pretrained(out / "pipeline" / "unet")
