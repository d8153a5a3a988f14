"""What figment uses of GLIDE's package, tiny: two models of 8 and 16 pixels with its tokenizer's and its diffusion's methods."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SIDES = {"base": 8, "upsampler": 16}
CONTEXT = 6
ALL_STEPS = 1_000


class Tokenizer:
    def encode(self, text: str) -> list[int]:
        return [ord(c) % 50 + 1 for c in text]

    def padded_tokens_and_mask(self, tokens: list[int], text_ctx: int) -> tuple[list[int], list[bool]]:
        tokens = tokens[:text_ctx]
        padding = text_ctx - len(tokens)
        return tokens + [0] * padding, [True] * len(tokens) + [False] * padding


class Model(nn.Module):
    """Noise and variance from an image, its time, and the mean of the tokens that are not masked."""

    def __init__(self, super_res: bool):
        super().__init__()
        self.tokenizer, self.text_ctx = Tokenizer(), CONTEXT
        self.words = nn.Embedding(51, 6)
        self.net = nn.Conv2d(6 if super_res else 3, 6, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor, mask: Tensor, low_res: Tensor | None = None) -> Tensor:
        if low_res is not None:
            larger = nn.functional.interpolate(low_res, x.shape[2:], mode="bilinear", align_corners=False)
            x = torch.cat([x, larger], 1)
        text = (self.words(tokens) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        told = (text + t[:, None] / ALL_STEPS)[..., None, None]  # (B, 6, 1, 1)
        return torch.tanh(self.net(x) + told)

    def convert_to_fp16(self) -> None:
        raise AssertionError("only on a GPU")


def timesteps(respacing: str) -> list[int]:
    """Of training, in order: each section evenly spaced, rounded."""
    sections = [10, 10, 3, 2, 2] if respacing == "fast27" else [int(respacing)]
    size = ALL_STEPS // len(sections)
    steps = [s * size + round(i * (size - 1) / (n - 1)) for s, n in enumerate(sections) for i in range(n)]
    return [*steps[:-1], 997] if respacing == "fast27" else steps


class Diffusion:
    """Diffusion over some of the steps, each with the beta of all that it skips (Nichol and Dhariwal 2021, section 4)."""

    def __init__(self, kept: np.ndarray, respacing: str):
        self.steps = timesteps(respacing)
        self.num_timesteps = len(self.steps)
        own = kept[self.steps]
        before = np.append(1.0, own[:-1])
        self.beta, self.kept, self.before = 1 - own / before, own, before

    def p_mean_variance(self, model: Any, x: Tensor, t: Tensor, clip_denoised: bool, model_kwargs: dict) -> dict:
        said = model(x, torch.tensor(self.steps)[t], **model_kwargs)
        noise, share = said[:, :3], (said[:, 3:] + 1) / 2
        i = int(t[0])
        beta, kept, before = self.beta[i], self.kept[i], self.before[i]
        x0 = ((x - (1 - kept) ** 0.5 * noise) / kept**0.5).clamp(-1, 1)
        mean = before**0.5 * beta / (1 - kept) * x0 + (1 - beta) ** 0.5 * (1 - before) / (1 - kept) * x
        least = np.log(max(beta * (1 - before) / (1 - kept), 1e-20))
        return {"mean": mean, "log_variance": share * np.log(beta) + (1 - share) * least, "pred_xstart": x0}

    def ddim_sample_loop(
        self, model: Any, shape: tuple, noise: Tensor, device: Any, clip_denoised: bool, model_kwargs: dict
    ):
        x = noise
        for i in reversed(range(self.num_timesteps)):
            t = torch.full((shape[0],), i)
            x0 = self.p_mean_variance(model, x, t, clip_denoised, model_kwargs)["pred_xstart"]
            left = (x - self.kept[i] ** 0.5 * x0) / (1 - self.kept[i]) ** 0.5
            x = self.before[i] ** 0.5 * x0 + (1 - self.before[i]) ** 0.5 * left
        return x


def kept_signal(schedule: str) -> np.ndarray:
    if schedule == "linear":
        return np.cumprod(1 - np.linspace(1e-4, 0.02, ALL_STEPS))
    angle = (np.arange(ALL_STEPS + 1) / ALL_STEPS + 0.008) / 1.008 * np.pi / 2
    signal = np.cos(angle) ** 2
    return np.cumprod(1 - np.minimum(1 - signal[1:] / signal[:-1], 0.999))


def package() -> dict[str, ModuleType]:
    """The modules, as ``sys.modules`` would have them."""
    whole, creation = ModuleType("glide_text2im"), ModuleType("glide_text2im.model_creation")
    whole.__spec__ = ModuleSpec("glide_text2im", None, is_package=True)
    base = {
        "image_size": SIDES["base"],
        "noise_schedule": "squaredcos_cap_v2",
        "super_res": False,
        "use_fp16": True,
        "timestep_respacing": "",
    }
    upper = {**base, "image_size": SIDES["upsampler"], "noise_schedule": "linear", "super_res": True}
    creation.model_and_diffusion_defaults = lambda: dict(base)  # type: ignore[attr-defined]
    creation.model_and_diffusion_defaults_upsampler = lambda: dict(upper)  # type: ignore[attr-defined]
    creation.create_model_and_diffusion = created  # type: ignore[attr-defined]
    return {"glide_text2im": whole, "glide_text2im.model_creation": creation}


def created(
    image_size: int, noise_schedule: str, super_res: bool, use_fp16: bool, timestep_respacing: str
) -> tuple[Model, Diffusion]:
    return Model(super_res), Diffusion(kept_signal(noise_schedule), timestep_respacing)


def installed(monkeypatch: Any) -> None:
    for name, module in package().items():
        monkeypatch.setitem(sys.modules, name, module)
