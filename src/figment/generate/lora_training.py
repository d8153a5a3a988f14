"""What learns when a pipeline is fine-tuned on images and captions: a LoRA, or all of its denoiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from pathlib import Path

import numpy as np
import torch
from diffusers.training_utils import cast_training_params
from PIL import Image, ImageOps
from torch import Tensor

from figment.checkpoint import Checkpoint
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.finetune_settings import FinetuneSettings
from figment.generate.lora import UP
from figment.generate.seeds import sample_seed
from figment.generate.training.denoise import ENCODED_PIXELS, Denoising, batch_of, encode_images, steps_an_epoch
from figment.generate.training.families import LAYERS, TEXT_LAYERS, denoiser_of, trained
from figment.generate.training.loop import Advice, Training, resume
from figment.types import Images

#: From one checkpoint to the next. That of a LoRA is megabytes; that of a denoiser is four times its weights, 41 GB for SDXL, which
#: the disk may take a minute to write.
LORA_STEPS, FULL_SECONDS = 100, 600.0


class Learner:
    """A pipeline of its own in which a LoRA, or all of the denoiser, can learn, and the images as its VAE sees them."""

    def __init__(
        self, generator: DiffusersGenerator, images: Images, class_names: Sequence[str], settings: FinetuneSettings
    ):
        self.half = generator.dtype != torch.float32  # as products may be in training, where the weights are not
        opened = copy(generator)  # settings alone: it opens the model by itself, and the user's stays as it is
        opened.lora = None
        if opened.dtype == torch.float16 or settings.method == "full":  # whose smallest gradients would be zero
            opened.dtype = torch.float32
        self.settings, self.pipe, self.size = settings, opened.pipe, opened.size()
        template = settings.template or "a photo of a {}"
        self.captions = [template.replace("{}", class_names[label]) for label in images.labels]
        self.family = trained(type(self.pipe).__name__, generator.folder.name)
        self.denoiser = denoiser_of(self.pipe)
        self.denoising = Denoising(
            self.pipe,
            encode_images(self.pipe.vae, self._pixels_of(images), settings.horizontal_flip),
            self.captions,
            self.size,
            caption_dropout=settings.caption_dropout,
            min_snr_gamma=settings.min_snr_gamma,
            text_learns=settings.method == "lora" and settings.text_encoder,
            model=generator.folder.name,
        )
        self.weights = self._all_of_the_denoiser() if settings.method == "full" else self._insert()
        if settings.gradient_checkpointing:
            self.denoiser.enable_gradient_checkpointing()

    def _freeze(self) -> None:
        for model in self.pipe.components.values():
            if isinstance(model, torch.nn.Module):
                model.requires_grad_(False)

    def _all_of_the_denoiser(self) -> dict[str, torch.nn.Parameter]:
        self._freeze()
        self.denoiser.requires_grad_(True)
        return dict(self.denoiser.named_parameters())

    def _insert(self) -> dict[str, torch.nn.Parameter]:
        """Put the LoRA in and freeze all else: name in the pipeline -> its float32 weights."""
        from peft import LoraConfig, inject_adapter_in_model

        self._freeze()
        weights: dict[str, torch.nn.Parameter] = {}
        layers = {self.family.denoiser: LAYERS[self.family.denoiser]}
        if self.settings.text_encoder:
            layers |= dict.fromkeys(self.family.text_encoders, TEXT_LAYERS)
        for part, own in layers.items():
            model = getattr(self.pipe, part)
            if model is None:  # SD3 may be saved without some of its text encoders
                continue
            config = LoraConfig(r=self.settings.rank, lora_alpha=self.settings.alpha, target_modules=list(own))
            # peft's own function, as add_adapter of transformers 5.24 refuses every peft there is (0.21.2 is the newest)
            inject_adapter_in_model(config, model)
            cast_training_params(model)
            weights |= {
                f"{part}.{n.replace('.default.', '.')}": p for n, p in model.named_parameters() if p.requires_grad
            }
        return weights

    def reset(self, seed: int) -> None:
        """An untrained LoRA: noise below, zeros above, so that nothing is changed yet. A denoiser starts as it was opened."""
        if self.settings.method == "full":
            return
        draws = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.weights.items():
                noise = torch.randn(weight.shape, generator=draws) / self.settings.rank
                weight.copy_(torch.zeros_like(noise) if name.endswith(UP) else noise)

    def _pixels_of(self, images: Images) -> Iterator[Tensor]:
        """All images in the generator's size, in batches: float32 (B, C, h, w)."""
        size = max(1, ENCODED_PIXELS // (self.size[0] * self.size[1]))
        for start in range(0, len(images), size):
            some = images.load(range(start, min(start + size, len(images))))
            yield torch.stack([self._pixels(image) for image in some])

    def _pixels(self, image: np.ndarray) -> Tensor:
        """The middle of an image in the generator's size: ``uint8 (H, W, 3)`` to float32 (C, h, w) in [-1, 1]."""
        height, width = self.size
        cut = ImageOps.fit(Image.fromarray(image), (width, height), Image.Resampling.BICUBIC)
        x = torch.from_numpy(np.array(cut)).permute(2, 0, 1).float() / 127.5 - 1
        return x.mean(0, keepdim=True) if self.pipe.vae.config.in_channels == 1 else x

    def loss(self, index: np.ndarray, seed: int) -> Tensor | Iterator[Tensor]:
        """Of one step, perhaps in parts: the error at random times on these images, with noise, times and coins from ``seed``."""
        parts = self.settings.gradient_accumulation_steps
        return self.denoising(index, seed) if parts == 1 else self.denoising.parts(index, seed, parts)


def learn(
    learner: Learner,
    own: np.ndarray,
    steps: int,
    name: str,
    seed: int,
    checkpoint: Path,
    checkpoint_steps: int | None,
    advance: Callable[[int], None],
) -> list[float]:
    """Train what learns in a learner on the images ``own``; returns the loss of each step.

    Everything random in a step follows from ``seed``, ``name`` and the step's number, so that going on from
    ``checkpoint`` leads to the same weights as never having stopped. It is written every ``checkpoint_steps``; None = as suits
    its size. Raises FigmentError where the training diverges.
    """
    settings = learner.settings
    learner.reset(sample_seed(seed, name, 0))
    memory = (
        f"tuning the generator on {settings.batch_size} images a step. Raise finetune.gradient_accumulation_steps, or"
        " lower finetune.batch_size; set finetune.gradient_checkpointing: true, or lower generate.height and generate.width."
    )
    mend = "Lower generate.finetune.learning_rate, raise its warmup_steps, or set generate.dtype: float32."
    advice = Advice("Fine-tuning the generator", mend, memory, steps_an_epoch(len(own), settings.batch_size))

    def loss_of(step: int) -> Tensor | Iterator[Tensor]:
        return learner.loss(batch_of(own, settings.batch_size, step, seed), sample_seed(seed, name, step + 1))

    training = Training(learner.weights, loss_of, settings.training(steps, learner.half), advice)
    every = checkpoint_steps or (None if settings.method == "full" else LORA_STEPS)
    known = 0
    for step in resume(training, Checkpoint(checkpoint, name, seconds=FULL_SECONDS), every):
        advance(step.number - known)
        known = step.number
    training.use_average()
    return training.losses
