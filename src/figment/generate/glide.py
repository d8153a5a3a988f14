"""GLIDE's released models (Nichol et al. 2021, filtered), through their own package: 64 pixels from text, enlarged to 256."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from figment import records
from figment.device import check_device, choose_device, free_memory, put
from figment.errors import FigmentError
from figment.files import as_path
from figment.generate.seeds import stage_seed
from figment.weights import tensors

PACKAGE = "glide_text2im"
REPOSITORY = "https://github.com/openai/glide-text2im"
CHECKPOINTS = "https://openaipublic.blob.core.windows.net/diffusion/dec-2021"
BASE, UPSAMPLER = "base.pt", "upsample.pt"
OPENED = ("base", "upsampler")  # attributes that hold the models
UPSAMPLER_STEPS, UPSAMPLER_TEMPERATURE = "fast27", 0.997  # 27 steps of DDIM, unguided, from a little less noise


class GlideGenerator:
    """He et al. 2023's generator, sampled as their program does: ancestral DDPM at 64 pixels, then DDIM in 27 steps at 256.

    ``weights`` is a folder with ``base.pt`` and ``upsample.pt``. ``guidance_scale`` <= 1 means no guidance and half the work; it is of the
    first stage. An image depends on its prompt, its seed and the settings alone, up to rounding; in half precision on a GPU. Raises
    FigmentError where the package or the weights are not there.
    """

    def __init__(
        self,
        *,
        weights: Path | str = "glide_model_cache",
        guidance_scale: float = 3.0,
        num_inference_steps: int = 100,
        device: str = "auto",
        batch_size: int = 16,
    ):
        if importlib.util.find_spec(PACKAGE) is None:
            raise FigmentError(f"GLIDE is made with the package of its authors: pip install git+{REPOSITORY}")
        self.weights, self.guidance_scale, self.num_inference_steps = (
            as_path(weights),
            guidance_scale,
            num_inference_steps,
        )
        self.batch_size, self._device_name = batch_size, check_device(device)
        for name in (BASE, UPSAMPLER):
            if not (self.weights / name).is_file():
                raise FigmentError(
                    f"There is no {name} in {self.weights}. Download it from {CHECKPOINTS}/{name}, or say in generate.weights where it is."
                )

    @property
    def settings(self) -> dict[str, Any]:
        return {"guidance_scale": self.guidance_scale, "num_inference_steps": self.num_inference_steps}

    @cached_property
    def model_fingerprint(self) -> str:
        """Of both checkpoints' bytes."""
        sums = []
        for name in (BASE, UPSAMPLER):
            with (self.weights / name).open("rb") as file:
                sums.append(hashlib.file_digest(file, "sha256").hexdigest())
        return records.fingerprint(sums)

    @property
    def fingerprint(self) -> str:
        return records.fingerprint(["glide", 1, self.model_fingerprint, self.settings])

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in (*OPENED, "device")}

    def close(self) -> None:
        """Let go of both models; the next call opens them again."""
        if not self.__dict__.keys() & set(OPENED):
            return  # images that are there already may be of a device that is not
        for name in OPENED:
            self.__dict__.pop(name, None)
        free_memory(self.device)

    @cached_property
    def device(self) -> torch.device:
        return choose_device(self._device_name)

    @cached_property
    def base(self) -> tuple[Any, Any, int]:
        from glide_text2im.model_creation import model_and_diffusion_defaults

        return self._open(model_and_diffusion_defaults(), str(self.num_inference_steps), BASE)

    @cached_property
    def upsampler(self) -> tuple[Any, Any, int]:
        from glide_text2im.model_creation import model_and_diffusion_defaults_upsampler

        return self._open(model_and_diffusion_defaults_upsampler(), UPSAMPLER_STEPS, UPSAMPLER)

    def _open(self, options: dict[str, Any], steps: str, name: str) -> tuple[Any, Any, int]:
        """A model with its weights, its diffusion, and the side of its images in pixels."""
        from glide_text2im.model_creation import create_model_and_diffusion

        half = self.device.type == "cuda"
        model, diffusion = create_model_and_diffusion(**{**options, "use_fp16": half, "timestep_respacing": steps})
        try:
            model.load_state_dict(tensors(self.weights / name, str(self.weights / name)))
        except RuntimeError as error:  # some are missing, or of another model
            reason = " ".join(str(error).split())[:200]
            raise FigmentError(
                f"{name} in {self.weights} is not GLIDE's: {reason}. Download it again: {CHECKPOINTS}/{name}."
            ) from error
        if half:
            model.convert_to_fp16()
        return put(model.eval(), self.device, f"GLIDE's {name}"), diffusion, options["image_size"]

    def __call__(
        self, prompts: Sequence[str], seeds: Sequence[int], init: np.ndarray | None = None
    ) -> list[np.ndarray | None]:
        """One ``uint8 (256, 256, 3)`` image for each prompt and seed, in order; None where a model gave NaN or infinity."""
        if init is not None:
            raise FigmentError("GLIDE takes no start images (init) here. Leave real guidance out.")
        images: list[np.ndarray | None] = []
        with torch.inference_mode():
            for i in range(0, len(prompts), self.batch_size):
                some, own = prompts[i : i + self.batch_size], seeds[i : i + self.batch_size]
                images += [_image(x) for x in self._enlarge(some, own, self._small(some, own))]
        return images

    def _small(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """The first stage's images, float32 (B, 3, h, w) in [-1, 1]. The package's own loop draws a batch's noise together; here each
        image has its own."""
        model, diffusion, side = self.base
        guided = self.guidance_scale > 1
        text = self._text(model, [*prompts, *([""] * len(prompts) if guided else [])])

        def predict(x: Tensor, t: Tensor, **text: Tensor) -> Tensor:
            if not guided:
                return model(x, t, **text)
            said = model(torch.cat([x, x]), torch.cat([t, t]), **text)
            with_text, without = said[:, :3].chunk(2)
            return torch.cat([without + self.guidance_scale * (with_text - without), said[: len(x), 3:]], 1)

        draws = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        x = self._noise(draws, side)
        for i in reversed(range(diffusion.num_timesteps)):
            t = torch.full((len(x),), i, device=self.device)
            step = diffusion.p_mean_variance(predict, x, t, clip_denoised=True, model_kwargs=text)
            x = step["mean"]
            if i:
                x = x + (step["log_variance"] / 2).exp() * self._noise(draws, side)
        return x

    def _enlarge(self, prompts: Sequence[str], seeds: Sequence[int], small: Tensor) -> Tensor:
        """float32 (B, 3, H, W) in [-1, 1]. What is enlarged has 8 bits, as in training."""
        model, diffusion, side = self.upsampler
        draws = [torch.Generator().manual_seed(stage_seed(int(seed), 1)) for seed in seeds]
        noise = UPSAMPLER_TEMPERATURE * self._noise(draws, side)
        told = {**self._text(model, prompts), "low_res": ((small + 1) * 127.5).round() / 127.5 - 1}
        return diffusion.ddim_sample_loop(
            model, tuple(noise.shape), noise=noise, device=self.device, clip_denoised=True, model_kwargs=told
        )

    def _noise(self, draws: Sequence[torch.Generator], side: int) -> Tensor:
        """float32 (B, 3, side, side)."""
        return torch.stack([torch.randn(3, side, side, generator=own) for own in draws]).to(self.device)

    def _text(self, model: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``tokens`` int64 (B, L) and ``mask`` bool (B, L)."""
        tokenizer = model.tokenizer
        padded = [tokenizer.padded_tokens_and_mask(tokenizer.encode(text), model.text_ctx) for text in prompts]
        tokens, mask = (torch.tensor(rows, device=self.device) for rows in zip(*padded, strict=True))
        return {"tokens": tokens, "mask": mask}

    def describe(self) -> dict[str, Any]:
        """For the dataset card."""
        sampler = (
            f"DDPM, {self.num_inference_steps} steps, guidance {self.guidance_scale:g}; then DDIM, {UPSAMPLER_STEPS}"
        )
        return {
            "model": "GLIDE (filtered)",
            "model_fingerprint": self.model_fingerprint,
            "licence": "MIT",
            "sampler": sampler,
            **self.settings,
            "device": str(self.device),
        }


def _image(x: Tensor) -> np.ndarray | None:
    """``float32 (3, H, W)`` in [-1, 1] to ``uint8 (H, W, 3)``."""
    if not bool(x.isfinite().all()):
        return None
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(0, 2).cpu().numpy()
