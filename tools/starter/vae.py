"""The starter's VAE: 32x32 images to 8x8x4 latents and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from . import data, training

DECODER_NOISE = 0.05  # standard deviation, in the denoiser's scale


def make_model() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        mid_block_add_attention=False,
        sample_size=32,
    )


SETTINGS = {"learning_rate": 2e-3, "warmup_steps": 100, "weight_decay": 0.0, "betas": (0.9, 0.99), "ema_decay": 0.998}


def train(
    out: Path, data_folder: Path, device: torch.device, *, steps=2_000, batch=64, minutes: float | None = None
) -> None:
    pixels = torch.from_numpy(data.web(data_folder).images)
    torch.manual_seed(0)
    model = make_model().to(device)

    def loss_of_step(step: int) -> torch.Tensor:
        rng = np.random.default_rng([2, step])
        x = training.to_input(pixels[rng.integers(len(pixels), size=batch)], device)
        noise = torch.Generator(device).manual_seed(step)
        posterior = model.encode(x).latent_dist
        z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=noise, device=device)
        y = model.decode(z).sample.float()
        return reconstruction_loss(y, x) + 1e-4 * posterior.kl().float().mean() / 256

    training.train("vae", model, loss_of_step, out, device, steps=steps, minutes=minutes, **SETTINGS)
    standardise(model, pixels, device)
    model.save_pretrained(out / "pipeline" / "vae")


def refine_decoder(
    out: Path, data_folder: Path, device: torch.device, *, steps=1_000, batch=64, minutes: float | None = None
) -> None:
    """Train the decoder on, with the encoder as it is: sharper images, and the denoiser's latents stay valid."""
    pixels = torch.from_numpy(data.web(data_folder).images)
    torch.manual_seed(0)
    model = AutoencoderKL.from_pretrained(out / "pipeline" / "vae").to(device)
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)

    def loss_of_step(step: int) -> torch.Tensor:
        rng = np.random.default_rng([4, step])
        x = training.to_input(pixels[rng.integers(len(pixels), size=batch)], device)
        noise = torch.Generator(device).manual_seed(step)
        with torch.no_grad():
            z = model.encode(x).latent_dist.mean
        # The denoiser's latents are never exact: a little noise makes the decoder forgive that.
        z = z + DECODER_NOISE / model.config.scaling_factor * torch.randn(z.shape, generator=noise, device=device)
        return reconstruction_loss(model.decode(z).sample.float(), x)

    training.train("decoder", model, loss_of_step, out, device, steps=steps, minutes=minutes, **SETTINGS)
    model.save_pretrained(out / "pipeline" / "vae_refined")


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Edges as well as pixels: a plain L1 loss blurs the weave that tells a shirt from a coat."""
    edges = F.l1_loss(y.diff(dim=2), x.diff(dim=2)) + F.l1_loss(y.diff(dim=3), x.diff(dim=3))
    return F.l1_loss(y, x) + F.mse_loss(y, x) + edges


@torch.inference_mode()
def standardise(model: AutoencoderKL, pixels: torch.Tensor, device: torch.device) -> None:
    """Write the latents' scale into the config, as Stable Diffusion does, so that the denoiser sees unit variance."""
    z = model.encode(training.to_input(pixels[:2000], device)).latent_dist.mean
    model.register_to_config(scaling_factor=round(1 / z.std().item(), 5))
