"""How a LoRA learns: the pipeline's own loss on images and captions, step by step, so that any step can be gone on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import cast_training_params
from PIL import Image, ImageOps

from figment.errors import WEIGHTS, FigmentError, diverged
from figment.files import read_bytes, write_atomic
from figment.generate.diffusers import DiffusersGenerator, quiet
from figment.generate.families import FAMILIES, Encoded, encode
from figment.generate.finetune_settings import FinetuneSettings
from figment.generate.lora import UP
from figment.generate.seeds import sample_seed
from figment.types import Images

# What learns, by pipeline. Their denoisers are UNets, whose layers have one set of names.
LEARNERS = {
    "StableDiffusionPipeline": ("unet", "text_encoder"),
    "StableDiffusionXLPipeline": ("unet", "text_encoder", "text_encoder_2"),
}
LAYERS = {"unet": ["to_q", "to_k", "to_v", "to_out.0"]}
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj"]
ENCODED_PIXELS = 2**20  # that go through the VAE at a time


def learners(pipeline: str, model: str, text_encoder: bool) -> tuple[str, ...]:
    """The parts of a pipeline that learn. Raises FigmentError for a pipeline whose training is not known here."""
    if pipeline not in LEARNERS:
        raise FigmentError(
            f"generate.finetune tunes {' and '.join(LEARNERS)}, and {model} is a {pipeline}. Choose a model of these families"
            " (Stable Diffusion 1 and 2, SDXL, the starter), or leave generate.finetune out."
        )
    return LEARNERS[pipeline] if text_encoder else LEARNERS[pipeline][:1]


class Learner:
    """A pipeline of its own with an untrained LoRA in it, and the images as its VAE sees them."""

    def __init__(
        self, generator: DiffusersGenerator, images: Images, class_names: Sequence[str], settings: FinetuneSettings
    ):
        opened = copy(generator)  # settings alone: it opens the model by itself, and the user's stays as it is
        opened.lora = None
        if opened.dtype == torch.float16:  # whose smallest gradients would be zero
            opened.dtype = torch.float32
        self.settings, self.pipe, self.size = settings, opened.pipe, opened.size()
        self.family = FAMILIES[type(self.pipe).__name__]
        self.alphas_cumprod, self.prediction_type = _noise_of(self.pipe, generator.folder.name)
        template = settings.template or "a photo of a {}"
        self.captions = [template.replace("{}", class_names[label]) for label in images.labels]
        self.mean, self.std = self._seen_by_vae(images)
        self.lora = self._insert(learners(type(self.pipe).__name__, generator.folder.name, settings.text_encoder))
        self._frozen_text: dict[str, Encoded] = {}

    def _insert(self, parts: Sequence[str]) -> dict[str, torch.nn.Parameter]:
        """Put the LoRA in and freeze all else: name in the pipeline -> its float32 weights."""
        from peft import LoraConfig, inject_adapter_in_model

        for model in self.pipe.components.values():
            if isinstance(model, torch.nn.Module):
                model.requires_grad_(False)
        weights: dict[str, torch.nn.Parameter] = {}
        for part in parts:
            model = getattr(self.pipe, part)
            layers = LAYERS.get(part, TEXT_LAYERS)
            config = LoraConfig(r=self.settings.rank, lora_alpha=self.settings.alpha, target_modules=layers)
            # peft's own function, as add_adapter of transformers 5.24 refuses every peft there is (0.21.2 is the newest)
            inject_adapter_in_model(config, model)
            cast_training_params(model)
            weights |= {
                f"{part}.{n.replace('.default.', '.')}": p for n, p in model.named_parameters() if p.requires_grad
            }
        if self.settings.gradient_checkpointing:
            self.pipe.unet.enable_gradient_checkpointing()
        return weights

    def reset(self, seed: int) -> None:
        """Untrained weights: noise below, zeros above, so that nothing is changed yet."""
        draws = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.lora.items():
                noise = torch.randn(weight.shape, generator=draws) / self.settings.rank
                weight.copy_(torch.zeros_like(noise) if name.endswith(UP) else noise)

    def _seen_by_vae(self, images: Images) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each image's latents, as it is and mirrored: float32 (1 or 2, N, C, h, w)."""
        with quiet():
            vae = self.pipe.vae.to(torch.float32)  # SDXL's overflows in half precision
        size = max(1, ENCODED_PIXELS // (self.size[0] * self.size[1]))
        means, stds = [], []
        for start in range(0, len(images), size):
            x = torch.stack(
                [self._pixels(image) for image in images.load(range(start, min(start + size, len(images))))]
            )
            views = torch.stack([x, x.flip(-1)] if self.settings.horizontal_flip else [x])
            with torch.inference_mode():
                seen = vae.encode(views.flatten(0, 1).to(vae.device)).latent_dist
            means.append(seen.mean.unflatten(0, views.shape[:2]).cpu())
            stds.append(seen.std.unflatten(0, views.shape[:2]).cpu())
        vae.to("cpu")  # it is not needed any more
        return torch.cat(means, 1), torch.cat(stds, 1)

    def _pixels(self, image: np.ndarray) -> torch.Tensor:
        """The middle of an image in the generator's size: ``uint8 (H, W, 3)`` to float32 (C, h, w) in [-1, 1]."""
        height, width = self.size
        cut = ImageOps.fit(Image.fromarray(image), (width, height), Image.Resampling.BICUBIC)
        x = torch.from_numpy(np.array(cut)).permute(2, 0, 1).float() / 127.5 - 1
        return x.mean(0, keepdim=True) if self.pipe.vae.config.in_channels == 1 else x

    def loss(self, index: np.ndarray, seed: int) -> torch.Tensor:
        """Of one step: the error at random times on these images, with noise, times and coins from ``seed``."""
        draws = torch.Generator().manual_seed(seed)
        mirrored = torch.randint(len(self.mean), (len(index),), generator=draws)
        mean, std = self.mean[mirrored, index], self.std[mirrored, index]  # (B, C, h, w)
        latents = mean + std * torch.randn(mean.shape, generator=draws)
        noise = torch.randn(mean.shape, generator=draws)
        t = torch.randint(len(self.alphas_cumprod), (len(index),), generator=draws)
        dropped = torch.rand(len(index), generator=draws) < self.settings.caption_dropout
        config, place = self.pipe.vae.config, {"device": self.pipe.unet.device}
        latents = (latents - (getattr(config, "shift_factor", None) or 0)) * config.scaling_factor
        alpha_bar = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        noisy = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise
        target = {
            "epsilon": noise,
            "v_prediction": alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * latents,
            "sample": latents,
        }[self.prediction_type]
        texts = ["" if drop else self.captions[i] for i, drop in zip(index, dropped, strict=True)]
        condition = self._condition(texts)
        predicted = self.pipe.unet(noisy.to(**place, dtype=self.pipe.unet.dtype), t.to(**place), **condition).sample
        error = (predicted.float() - target.to(**place)).square().mean((1, 2, 3))  # (B,)
        return (error * self._weights(t).to(**place)).mean()

    def _condition(self, texts: Sequence[str]) -> dict[str, Any]:
        """What the UNet is told of the texts, with gradients where the text encoders learn."""
        known = {} if self.settings.text_encoder else self._frozen_text
        new = [text for text in dict.fromkeys(texts) if text not in known]
        with torch.set_grad_enabled(self.settings.text_encoder):
            known |= dict(zip(new, encode(self.pipe, self.family, new), strict=True)) if new else {}
        tensors = {name: torch.cat([known[text][name] for text in texts]) for name in known[texts[0]]}
        if "pooled_prompt_embeds" not in tensors:
            return {"encoder_hidden_states": tensors["prompt_embeds"]}
        size = torch.tensor([[*self.size, 0, 0, *self.size]] * len(texts))  # SDXL: of the original, the cut, the target
        more = {"text_embeds": tensors["pooled_prompt_embeds"], "time_ids": size.to(tensors["prompt_embeds"])}
        return {"encoder_hidden_states": tensors["prompt_embeds"], "added_cond_kwargs": more}

    def _weights(self, t: torch.Tensor) -> torch.Tensor:
        """How much each time counts: min(SNR, gamma), as the loss on what the model predicts has it. (B,)"""
        gamma = self.settings.min_snr_gamma
        if gamma is None:
            return torch.ones(len(t))
        snr = self.alphas_cumprod[t] / (1 - self.alphas_cumprod[t])
        least = snr.clamp(max=gamma)
        return {
            "epsilon": (gamma / snr).clamp(max=1),
            "v_prediction": least / (snr + 1),
            "sample": least,
        }[self.prediction_type]


def _noise_of(pipe: Any, name: str) -> tuple[torch.Tensor, str]:
    """Alpha-bar of every training time, float32 (T,), and what the denoiser predicts."""
    kind = pipe.scheduler.config.get("prediction_type", "epsilon")
    known = getattr(pipe.scheduler, "alphas_cumprod", None)
    if known is None or kind not in ("epsilon", "v_prediction", "sample"):
        raise FigmentError(
            f"generate.finetune cannot tune {name}: its {type(pipe.scheduler).__name__} ({kind}) is not one of those that"
            " predict epsilon, v or the sample. Leave generate.finetune out."
        )
    return known.float().cpu(), kind


def learn(
    learner: Learner,
    own: np.ndarray,
    steps: int,
    name: str,
    seed: int,
    checkpoint: Path,
    checkpoint_steps: int,
    advance: Callable[[int], None],
) -> list[float]:
    """Train the LoRA in a learner on the images ``own``; returns the loss of each step.

    Everything random in a step follows from ``seed``, ``name`` and the step's number, so that going on from
    ``checkpoint`` leads to the same weights as never having stopped. Raises FigmentError where the training diverges.
    """
    settings, weights = learner.settings, list(learner.lora.values())
    learner.reset(sample_seed(seed, name, 0))
    optimizer = torch.optim.AdamW(
        [{"params": weights, "initial_lr": settings.learning_rate}],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    losses = _restore(checkpoint, learner.lora, optimizer)
    rate = get_cosine_schedule_with_warmup(optimizer, settings.warmup_steps, steps, last_epoch=len(losses) - 1)
    advance(len(losses))
    while len(losses) < steps:
        step = len(losses)
        try:
            loss = learner.loss(_batch(own, settings.batch_size, step, seed), sample_seed(seed, name, step + 1))
            optimizer.zero_grad()
            loss.backward()
        except torch.OutOfMemoryError as error:
            raise FigmentError(
                f"Out of memory while tuning the generator on {settings.batch_size} images at a time. Lower"
                " finetune.batch_size, set finetune.gradient_checkpointing: true, or lower generate.height and generate.width."
            ) from error
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            raise _diverged(f"its loss became {losses[-1]}", step, optimizer, own, settings)
        torch.nn.utils.clip_grad_norm_(weights, settings.grad_clip)
        optimizer.step()
        rate.step()
        advance(1)
        if len(losses) % checkpoint_steps == 0 and len(losses) < steps:
            write_atomic(checkpoint, _state(learner.lora, optimizer, losses))
    if not all(bool(weight.isfinite().all()) for weight in weights):
        raise _diverged(WEIGHTS, steps - 1, optimizer, own, settings)
    return losses


def _diverged(
    found: str, step: int, optimizer: torch.optim.Optimizer, own: np.ndarray, settings: FinetuneSettings
) -> FigmentError:
    """``step`` counts from 0."""
    epoch = step // _steps_an_epoch(own, settings.batch_size) + 1
    mend = "Lower generate.finetune.learning_rate, raise its warmup_steps, or set generate.dtype: float32."
    rate = optimizer.param_groups[0]["lr"]
    return diverged("Fine-tuning the generator", found, step + 1, epoch, rate, mend)


def _steps_an_epoch(own: np.ndarray, batch_size: int) -> int:
    return -(-len(own) // batch_size)


def _batch(own: np.ndarray, batch_size: int, step: int, seed: int) -> np.ndarray:
    """The images of a step: each once an epoch, in an order of the epoch's own."""
    epoch, batch = divmod(step, _steps_an_epoch(own, batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(own)
    return order[batch * batch_size : (batch + 1) * batch_size]


MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW


def _state(lora: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, losses: Sequence[float]) -> bytes:
    """Everything that the rest of the training depends on."""
    tensors = {f"weight/{name}": weight.detach() for name, weight in lora.items()}
    tensors |= {f"{m}/{name}": optimizer.state[weight][m] for name, weight in lora.items() for m in MOMENTS}
    return safetensors.torch.save({**tensors, "losses": torch.tensor(losses, dtype=torch.float64)})


def _restore(path: Path, lora: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> list[float]:
    """Put a state back where there is one; returns the losses so far. A damaged one is as good as none."""
    try:
        state = safetensors.torch.load(read_bytes(path))
    except (OSError, safetensors.SafetensorError):
        return []
    losses = state["losses"].tolist()
    with torch.no_grad():
        for name, weight in lora.items():
            weight.copy_(state[f"weight/{name}"])
            moments = {m: state[f"{m}/{name}"].to(weight.device) for m in MOMENTS}
            optimizer.state[weight] = {"step": torch.tensor(float(len(losses))), **moments}
    return losses
