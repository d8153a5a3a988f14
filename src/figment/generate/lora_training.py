"""What learns when a pipeline is fine-tuned on images and captions: a LoRA, or all of its denoiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from diffusers.training_utils import cast_training_params
from PIL import Image, ImageOps
from torch import Tensor

from figment.checkpoint import Checkpoint
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.finetune_settings import FinetuneSettings
from figment.generate.lora import UP
from figment.generate.seeds import sample_seed
from figment.generate.training.denoise import Denoising, batch_of, steps_an_epoch
from figment.generate.training.families import LAYERS, TEXT_LAYERS, denoiser_of, trained
from figment.generate.training.latents import (
    ENCODED_PIXELS,
    Latents,
    StoredLatents,
    encode_images,
    store_latents,
)
from figment.generate.training.loop import Advice, Share, Training, is_first, resume
from figment.images_in.memory import MemoryImages
from figment.tracking import Curves, Log, untracked
from figment.types import Images

#: From one checkpoint to the next. That of a LoRA is megabytes; that of a denoiser is four times its weights, 41 GB for SDXL, which
#: the disk may take a minute to write.
LORA_STEPS, FULL_SECONDS = 100, 600.0
DRAWN = 100  # points of the loss that a tracker is told
KEPT_BYTES = 2**30  # of latents that stay in memory; more lie on disk while it lasts
FILE_BYTES = 64 * 2**20  # of latents in a file: what a kill loses of the encoding, at most
MOST_TIMED, TIMED_PIXELS = 8, 2**20  # images of a forecast's batch, and their pixels


class Learner:
    """A pipeline of its own in which a LoRA, or all of the denoiser, can learn, and the images as its VAE sees them.

    ``captions`` say what each image shows. In the folder ``stored`` lies what the VAE sees of a set too large for memory. ``on`` is one of
    many processes that learn together.
    """

    def __init__(
        self,
        generator: DiffusersGenerator,
        images: Images,
        captions: Sequence[str],
        settings: FinetuneSettings,
        stored: Path | None = None,
        on: Share | None = None,
    ):
        self.on = on
        self.half = generator.dtype != torch.float32  # as products may be in training, where the weights are not
        opened = generator.plain  # settings alone: it opens the model by itself, and the user's stays as it is
        opened.lora, opened.offload = None, "none"  # what is trained stays on the device
        if opened.dtype == torch.float16 or settings.method == "full":  # whose smallest gradients would be zero
            opened.dtype = torch.float32
        self.opened, self.settings, self.pipe, self.size = opened, settings, opened.pipe, opened.size()
        opened.real_guidance = None  # images for `sample` come from noise
        self.captions = list(captions)
        self.family = trained(type(self.pipe).__name__, generator.folder.name)
        self.denoiser = denoiser_of(self.pipe)
        self.denoising = Denoising(
            self.pipe,
            self._latents(images, stored),
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

    def _latents(self, images: Images, stored: Path | None) -> Latents | StoredLatents:
        """What the VAE sees of all images."""
        vae, flip = self.pipe.vae, self.settings.horizontal_flip
        shrunk = [side // self.pipe.vae_scale_factor for side in self.size]
        values = vae.config.latent_channels * shrunk[0] * shrunk[1] * (2 if flip else 1)
        an_image = 2 * 4 * values  # bytes: mean and deviation
        if stored is None or len(images) * an_image <= KEPT_BYTES:
            return encode_images(vae, self._pixels_of(images), flip)
        per_file = max(1, FILE_BYTES // an_image)
        return store_latents(vae, lambda rows: self._pixels_of(images.take(rows)), len(images), per_file, stored, flip)

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

    def sample(self, n: int, seed: int) -> list[np.ndarray]:
        """``n`` images of captions that are learnt, with the weights as they are: uint8 (H, W, 3). Each time of the same noise.

        Raises FigmentError where one is no image any more.
        """
        of = np.random.default_rng(seed).permutation(len(self.captions))
        captions = [self.captions[of[i % len(of)]] for i in range(n)]
        self.opened.texts.forget()  # the text encoders may have learnt since
        self.pipe.vae.to(self.denoiser.device, self.opened.dtype)  # it was put aside when all images were encoded
        made = self.opened(captions, [sample_seed(seed, "validation", i) for i in range(n)])
        self.pipe.vae.to("cpu")
        images = [image for image in made if image is not None]
        if len(images) < n:
            raise FigmentError(
                "Fine-tuning the generator diverged: it makes NaN or infinity in the place of images. Lower"
                " generate.finetune.learning_rate, or raise its warmup_steps."
            )
        return images

    def loss(self, index: np.ndarray, seed: int) -> Tensor | Iterator[Tensor]:
        """Of one step, perhaps in parts: the error at random times on these images, with noise, times and coins from ``seed``; this
        process's share of it."""
        parts, on = self.settings.gradient_accumulation_steps, self.on
        if on is None:
            return self.denoising(index, seed) if parts == 1 else self.denoising.parts(index, seed, parts)
        return self.denoising.parts(index, seed, parts * on.world_size, slice(on.rank, None, on.world_size))


def learn(
    learner: Learner,
    own: np.ndarray,
    steps: int,
    name: str,
    seed: int,
    checkpoint: Checkpoint,
    checkpoint_steps: int | None,
    advance: Callable[[int], None],
    distance: Callable[[Sequence[np.ndarray]], float] | None = None,
    curves: Curves = untracked,
) -> Training:
    """Train what learns in a learner on the images ``own``; returns the finished training. With ``distance`` what is left is what made
    the images that were nearest by it: of many processes in the first alone, which measures it.

    Everything random in a step follows from ``seed``, ``name`` and the step's number, so that going on from
    ``checkpoint`` leads to the same weights as never having stopped. It is written every ``checkpoint_steps``; None = as suits
    its size. ``curves`` are where the loss is drawn, as means of some steps. Raises FigmentError where the training diverges.
    """
    settings, on = learner.settings, learner.on
    learner.reset(sample_seed(seed, name, 0))
    memory = (
        f"tuning the generator on {settings.batch_size} images a step. Raise finetune.gradient_accumulation_steps, or"
        " lower finetune.batch_size; set finetune.gradient_checkpointing: true, or lower generate.height and generate.width."
    )
    mend = "Lower generate.finetune.learning_rate, raise its warmup_steps, or set generate.dtype: float32."
    advice = Advice("Fine-tuning the generator", mend, memory, steps_an_epoch(len(own), settings.batch_size))

    def loss_of(step: int) -> Tensor | Iterator[Tensor]:
        return learner.loss(batch_of(own, settings.batch_size, step, seed), sample_seed(seed, name, step + 1))

    def judge() -> float:
        assert distance is not None
        return distance(learner.sample(settings.validate_images, seed))

    training = Training(
        learner.weights,
        loss_of,
        settings.training(steps, learner.half),
        advice,
        judge=None if distance is None or not is_first(on) else judge,
        judge_every=settings.validate_steps or steps,
        on=on,
    )
    every = checkpoint_steps or (None if settings.method == "full" else LORA_STEPS)
    known = drawn = 0
    with ExitStack() as stack:
        draw: Log | None = None
        for step in resume(training, checkpoint, every):
            if draw is None:  # the first step tells where the checkpoint was
                drawn = step.number - 1
                draw = stack.enter_context(curves(drawn))
            advance(step.number - known)
            known = step.number
            if known == steps or known - drawn == max(1, steps // DRAWN):
                draw(known, {"loss": float(np.mean(training.losses[drawn:known]))})
                drawn = known
    training.use_best()
    return training


def seconds_a_step(generator: DiffusersGenerator, settings: FinetuneSettings) -> float:
    """Of training, timed on noise. Opens the model; raises FigmentError where it does not learn."""
    still = {"learning_rate": 1e-12, "warmup_steps": 0, "gradient_accumulation_steps": 1}
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    one = MemoryImages([noise], np.zeros(1, np.int64))
    learner = Learner(generator, one, ["a photo"], settings.model_copy(update=still))
    height, width = learner.size
    n = max(1, min(settings.batch_size, MOST_TIMED, TIMED_PIXELS // (height * width)))
    index = np.zeros(n, np.int64)
    advice = Advice("Fine-tuning the generator", "", "timing a step of fine-tuning the generator.")
    short = learner.settings.training(2, learner.half)
    training = Training(learner.weights, lambda step: learner.loss(index, step), short, advice)
    seconds = 0.0
    for _ in training:  # the first one also warms up
        seconds = training.seconds - seconds
    return seconds / n * settings.batch_size
