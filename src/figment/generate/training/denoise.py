"""The loss of a latent-diffusion pipeline on images and captions, and a training of its whole denoiser on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from figment.generate.seeds import sample_seed
from figment.generate.training.conditions import Conditions
from figment.generate.training.families import denoiser_of, predict, trained
from figment.generate.training.flow import Flow
from figment.generate.training.latents import Latents, StoredLatents
from figment.generate.training.loop import Advice, Share, Training
from figment.generate.training.noise import Noise
from figment.generate.training.settings import DenoiserSettings

#: The caption of an image by its number; one that has several draws from the generator it is given.
Captions = Callable[[int, np.random.Generator], str] | Sequence[str]


class Denoising:
    """The loss: the error of what the denoiser predicts at random times on noised latents, told their captions.

    Args:
        pipe: of a family of `families.TRAINED`; of its VAE only the scale of latents is read.
        latents: from `latents.encode_images` or `latents.store_latents`.
        captions: of each of them.
        size: height and width of the images in pixels, which SDXL and Flux are told.
        caption_dropout: share of the captions that are left empty.
        min_snr_gamma: see `Noise.weights`.
        text_learns: whether gradients reach the text encoders.
    """

    def __init__(
        self,
        pipe: Any,
        latents: Latents | StoredLatents,
        captions: Captions,
        size: tuple[int, int],
        *,
        caption_dropout: float = 0.0,
        min_snr_gamma: float | None = None,
        text_learns: bool = False,
        model: str = "the pipeline",
    ):
        self.pipe, self.latents, self.captions = pipe, latents, captions
        self.caption_dropout, self.min_snr_gamma = caption_dropout, min_snr_gamma
        family = trained(type(pipe).__name__)
        self.noise: Noise | Flow = (
            Flow.of(pipe.scheduler, family.logit_normal, model) if family.flow else Noise.of(pipe.scheduler, model)
        )
        self.conditions = Conditions(pipe, size, text_learns)

    def __call__(self, index: np.ndarray, seed: int) -> Tensor:
        """The mean () over the images ``index`` (B,), with noise, times and coins from ``seed``."""
        return next(self.parts(index, seed, 1))

    def parts(self, index: np.ndarray, seed: int, n: int, own: slice = slice(None)) -> Iterator[Tensor]:
        """The same mean in ``n`` parts that add up to it, each of a share of the images; ``own`` are those that are wanted."""
        draws = torch.Generator().manual_seed(seed)
        mirrored = torch.randint(self.latents.views, (len(index),), generator=draws)
        mean, std = self.latents.of(mirrored, index)  # (B, C, h, w)
        latents = mean + std * torch.randn(mean.shape, generator=draws)
        noise = torch.randn(mean.shape, generator=draws)
        t = self.noise.draw(len(index), draws)
        dropped = torch.rand(len(index), generator=draws) < self.caption_dropout
        config, texts = self.pipe.vae.config, self._texts(index, dropped, seed)
        latents = (latents - (getattr(config, "shift_factor", None) or 0)) * config.scaling_factor
        for some in np.array_split(np.arange(len(index)), min(n, len(index)))[own]:
            yield self._error(latents[some], noise[some], t[some], [texts[i] for i in some]) * (len(some) / len(index))

    def _error(self, latents: Tensor, noise: Tensor, t: Tensor, texts: Sequence[str]) -> Tensor:
        """The mean () over some images."""
        device = denoiser_of(self.pipe).device
        latents, noise, t = latents.to(device), noise.to(device), t.to(device)
        noisy = self.noise.add(latents, noise, t)
        predicted = predict(self.pipe, noisy, self.noise.told(t), self.conditions(texts))
        error = (predicted.float() - self.noise.target(latents, noise, t)).square().mean((1, 2, 3))  # (b,)
        return (error * self.noise.weights(t, self.min_snr_gamma)).mean()

    def _texts(self, index: np.ndarray, dropped: Tensor, seed: int) -> list[str]:
        rng, own = np.random.default_rng(seed), self.captions
        said = [own(int(i), rng) if callable(own) else own[i] for i in index]
        return ["" if drop else text for drop, text in zip(dropped, said, strict=True)]


def denoiser_training(
    pipe: Any,
    latents: Latents | StoredLatents,
    captions: Captions,
    settings: DenoiserSettings,
    *,
    size: tuple[int, int],
    seed: int = 0,
    on: Share | None = None,
) -> Training:
    """A training of all weights of a pipeline's denoiser, at its start.

    ``pipe`` is of a family of `families.TRAINED`, and its denoiser in float32, trained or not; it is trained in place, on
    the device it lies on. Go through it with `loop.resume`, and end with ``use_average()``. With ``on`` each of many processes takes its
    share of every batch, and all have the weights that one would have, up to rounding.
    """
    denoiser = denoiser_of(pipe)
    denoiser.train()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(part is denoiser)
    loss = Denoising(
        pipe,
        latents,
        captions,
        size,
        caption_dropout=settings.caption_dropout,
        min_snr_gamma=settings.min_snr_gamma,
    )
    mend = "Lower learning_rate, raise warmup_steps, or use precision: float32."
    memory = f"training the denoiser on {settings.batch_size} images at a time. Lower batch_size."
    advice = Advice("Training the denoiser", mend, memory, steps_an_epoch(len(latents), settings.batch_size))
    everything = np.arange(len(latents))

    rank, world_size = (0, 1) if on is None else (on.rank, on.world_size)

    def loss_of(step: int) -> Iterator[Tensor]:
        index = batch_of(everything, settings.batch_size, step, seed)
        return loss.parts(index, sample_seed(seed, "denoiser", step), world_size, slice(rank, None, world_size))

    return Training(dict(denoiser.named_parameters()), loss_of, settings, advice, on=on)


def steps_an_epoch(n: int, batch_size: int) -> int:
    return -(-n // batch_size)


def batch_of(own: np.ndarray, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Those of ``own`` that a step sees: each once an epoch, in an order of the epoch's own."""
    epoch, batch = divmod(step, steps_an_epoch(len(own), batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(own)
    return order[batch * batch_size : (batch + 1) * batch_size]
