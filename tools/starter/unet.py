"""The starter's denoiser: a small UNet on 8x8x4 latents, told by CLIP's text tower what to draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from . import captions, clip, data, training

DROP_CAPTION = 0.1  # classifier-free guidance needs a model that also knows the empty prompt
MIN_SNR_GAMMA = 5.0  # Hang et al. 2023: nearly clean latents teach little and would drown the rest

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


@torch.inference_mode()
def encode_images(vae: AutoencoderKL, pixels: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every image's latent, each ``(N, 4, 8, 8)``, in the denoiser's scale."""
    parts = []
    for chunk in pixels.split(500):
        with training.autocast(device):
            posterior = vae.encode(training.to_input(chunk, device)).latent_dist
        parts.append((posterior.mean.float().cpu(), posterior.std.float().cpu()))
    mean, std = (torch.cat(p) * vae.config.scaling_factor for p in zip(*parts, strict=True))
    return mean, std


def train(out: Path, data_folder: Path, device: torch.device, *, steps=12_000, batch=128, minutes: float) -> None:
    web = data.web(data_folder)
    captioner = captions.Captioner(web)
    vae = AutoencoderKL.from_pretrained(out / "pipeline" / "vae").to(device).eval()
    text_encoder = CLIPTextModel.from_pretrained(out / "clip").to(device).eval().requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(out / "clip")
    mean, std = encode_images(vae, torch.from_numpy(web.images), device)
    alpha_bar = DDPMScheduler(**SCHEDULE).alphas_cumprod.to(device)  # (1000,)
    torch.manual_seed(0)
    model = make_model().to(device, memory_format=torch.channels_last)

    def loss_of_step(step: int) -> torch.Tensor:
        rng, noise_rng = np.random.default_rng([3, step]), torch.Generator().manual_seed(step)
        index = rng.integers(len(mean), size=batch)
        prompts = ["" if rng.random() < DROP_CAPTION else captioner(i, rng) for i in index]
        ids = clip.tokens(tokenizer, prompts, padding="max_length").to(device)
        z = (mean[index] + std[index] * torch.randn(mean[index].shape, generator=noise_rng)).to(device)  # (B, 4, 8, 8)
        noise = torch.randn(z.shape, generator=noise_rng).to(device)
        t = torch.randint(1000, (batch,), generator=noise_rng).to(device)
        a = alpha_bar[t][:, None, None, None]
        noisy = a.sqrt() * z + (1 - a).sqrt() * noise
        velocity = a.sqrt() * noise - (1 - a).sqrt() * z
        with training.autocast(device):
            with torch.no_grad():
                context = text_encoder(ids).last_hidden_state  # (B, L, D)
            predicted = model(noisy.contiguous(memory_format=torch.channels_last), t, context).sample
        snr = (a / (1 - a)).flatten()
        weight = snr.clamp(max=MIN_SNR_GAMMA) / (snr + 1)  # (B,)
        return (weight * (predicted.float() - velocity).square().mean((1, 2, 3))).mean()

    average = training.train(
        "unet",
        model,
        loss_of_step,
        steps=steps,
        lr=7e-4,
        warmup=200,
        weight_decay=0.01,
        betas=(0.9, 0.99),
        out=out,
        minutes=minutes,
    )
    average.save_pretrained(out / "pipeline" / "unet")
