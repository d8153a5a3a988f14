"""Images from prompts with any diffusers text-to-image pipeline."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers

from figment import records
from figment.device import (
    check_device,
    check_dtype,
    choose_device,
    failure,
    free_memory,
    generator_dtype,
    is_out_of_memory,
)
from figment.errors import FigmentError
from figment.generate import samplers
from figment.generate.decoding import decode_in_slices
from figment.generate.denoiser import Denoiser, open_denoiser
from figment.generate.families import FAMILIES, Family, is_upscaler, own_noise_level
from figment.generate.few_steps import few_steps, own_steps, warnings_of
from figment.generate.fits import check_folder, check_names, check_opened, check_resolved, check_sampler, check_size
from figment.generate.guidance import Guidance, guidance_of
from figment.generate.guidance_interval import GuidanceInterval
from figment.generate.hasten import check_speed, hasten, put_vae_in
from figment.generate.lora import Applied, Lora, open_lora
from figment.generate.loras import merge, resolve_loras
from figment.generate.opening import (
    open_part,
    open_pipeline,
    own_scheduler,
    quiet,
    read_index,
    tokenizers,
)
from figment.generate.pixels import keep_on_device, pixels_of
from figment.generate.placing import check_offload, offload_advice, place, still_to_come, texts_in_the_way
from figment.generate.real_guidance import Start, asked_alpha_bar, crop_to, start_of
from figment.generate.real_guidance_settings import RealGuidanceSettings
from figment.generate.sampling import Sampling
from figment.generate.sizes import auto_batch_size, own_size
from figment.generate.speed import Trial
from figment.generate.speed_settings import SpeedSettings
from figment.generate.start_images import StartImages
from figment.generate.texts import Asked, Texts
from figment.generate.tiny_vae import resolve_tiny
from figment.models import card_folder, here, license_of, resolve

OPENED = (
    "pipe",
    "tried",
    "image_pipe",
    "start",
    "start_images",
    "texts",
)  # attributes that hold the model, or parts of it


class DiffusersGenerator:
    """Any text-to-image pipeline that diffusers opens: the starter's, Stable Diffusion, SDXL, SD3, Flux, PixArt...

    Arguments carry diffusers' names. ``guidance_scale`` <= 1 means no guidance and half the work. Steps are guided from
    ``guidance_start`` to ``guidance_stop``, shares of the steps in [0, 1]: see :class:`~figment.generate.guidance_interval.GuidanceInterval`.
    ``scheduler`` is a diffusers class, ``height`` and ``width`` are in pixels. None = the pipeline's own, for ``guidance_scale`` and
    ``num_inference_steps`` too: what a distilled model was made for, else the defaults of its class in diffusers; the attributes
    say which. ``log_variance`` in [0, 1] is how much noise DDPM adds: see :class:`~figment.generate.samplers.LogVarianceDDPMScheduler`.
    ``batch_size`` is halved, for good, when memory runs out.

    An image depends on its prompt, its seed and the settings alone. What else is in its batch changes it by rounding
    only: a grey level in float32 on one machine, more in half precision, where kernels may differ with the batch.

    ``denoiser`` is a folder with a UNet, or the transformer of Stable Diffusion 3, that takes the place of the model's own, and perhaps a scheduler: what fine-tuning with
    ``method: full`` and distillation leave. One that was distilled is told ``guidance_scale`` as a number: one pass a step.

    ``lora`` is what :func:`figment.generate.finetune.finetune` returned, or its folder. Where that holds a LoRA for each class,
    the images are asked for with their ``labels``, and depend on them as well.

    ``loras`` are some that others made, merged into the weights: files, folders or Hub ids, or `LoraSettings` with a scale.

    A pipeline that enlarges images (DeepFloyd IF's second stage, Stable Diffusion's upscaler) is called with those to enlarge
    (``init``), and adds noise to them first: that of step ``noise_level`` of training, None = the pipeline's own.

    With ``real_guidance`` images start from noised real images (``init``), by diffusers' image-to-image pipeline of the
    same weights. ``num_inference_steps`` counts the whole schedule, as in diffusers, of which little noise leaves few steps:
    the paper's for 16 shots is 2 steps of 20, and 6 of 100. Raise it where that is too coarse.

    ``offload`` keeps the weights in main memory, for a GPU that does not hold them: ``model`` moves one part at a time to it,
    ``sequential`` one layer at a time, many times slower. Without, text encoders that would take more of a GPU than is left beside them
    are there only while texts are encoded. A batch whose decoding runs out of memory is decoded in slices.

    ``speed`` makes images sooner: see :class:`~figment.generate.speed_settings.SpeedSettings`. What it gains is timed in the first batch, and in
    ``trials`` from then on.

    The pipeline is opened at the first use of ``pipe``, so a fingerprint costs no memory. Raises FigmentError for a
    model that cannot be had or opened, and for settings that it cannot honour.
    """

    tried: Sequence[Any] = ()  # what was put into the opened pipeline to make it faster
    cascade: bool | None = (
        None  # whether the cascade that it is a stage of keeps weights in main memory; None = it is of none
    )

    def __init__(
        self,
        *,
        model: str = "starter",
        guidance_scale: float | None = 2.0,
        guidance_start: float = 0.0,
        guidance_stop: float = 1.0,
        num_inference_steps: int | None = 20,
        scheduler: str | None = None,
        log_variance: float | None = None,
        noise_level: int | None = None,
        negative_prompt: str = "",
        height: int | None = None,
        width: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int | str = "auto",
        offload: str = "none",
        allow_pickle: bool = False,
        denoiser: Denoiser | Path | str | None = None,
        lora: Lora | Path | str | None = None,
        loras: Sequence[Any] = (),
        real_guidance: RealGuidanceSettings | None = None,
        speed: SpeedSettings | None = None,
    ):
        if (height is None) != (width is None):
            raise FigmentError(
                f"height is {height} and width is {width}: give both, in pixels, or neither for the model's own size."
            )
        if scheduler is not None:
            samplers.scheduler_class(scheduler)
        self.folder = resolve(model, allow_pickle=allow_pickle, check=check_folder(model))
        self.height, self.width = height, width
        self._device_name, self._dtype_name = check_device(device), check_dtype(dtype)
        check_offload(offload, device.partition(":")[0])  # whether "auto" finds a GPU is told where the images are made
        self.offload = offload
        self.batch_size = 0 if batch_size == "auto" else int(batch_size)  # 0 = not chosen yet
        self._model, self._allow_pickle = model, allow_pickle
        self.denoiser = open_denoiser(denoiser) if isinstance(denoiser, Path | str) else denoiser
        index = read_index(self.folder.path)  # what it says is found out before the model is opened
        self.loras = resolve_loras(loras)
        self.guidance = guidance_of(index, self.folder.path) if index else Guidance()
        steps, scale = self._resolved(index, num_inference_steps, guidance_scale, scheduler)
        self.guidance.check(guidance_scale, scale, self.folder.name)
        self.upscales = index is not None and is_upscaler(index["_class_name"])
        level = own_noise_level(index["_class_name"]) if index and noise_level is None else noise_level
        interval = GuidanceInterval(float(guidance_start), float(guidance_stop))
        self.sampling = Sampling(steps, scale, interval, scheduler, log_variance, level, negative_prompt)
        if self.denoiser:
            self.denoiser.check_goes_with(self.folder, steps, scale, scheduler)
        self.lora = open_lora(lora) if isinstance(lora, Path | str) else lora
        if self.lora and self.lora.model != self.model_fingerprint:
            raise FigmentError(f"The LoRA in {self.lora.folder} was trained on another model than {model}.")
        check_resolved(real_guidance)
        self.real_guidance, self.speed = real_guidance, speed or SpeedSettings()
        if index is not None:
            self._check(index)
        self.tiny = resolve_tiny(self.speed.vae, self.folder.path, self.folder.name, allow_pickle)

    def _check(self, index: dict[str, Any]) -> None:
        """Raise FigmentError for what the pipeline, by its configuration, cannot do."""
        name = index["_class_name"]
        if self.denoiser and not self.denoiser.fits(index):
            raise FigmentError(f"The {name} of {self._model} has no {self.denoiser.kind}. Leave denoiser out.")
        place, kind = self._scheduler(index["scheduler"][1])
        check_names(self, name, self.sampling.scheduler or kind)
        check_size(self, name)
        if (own := own_scheduler(place, kind)) is not None:
            check_sampler(self, name, self._sampler(own))
        check_speed(self, index, self._device_name.partition(":")[0])

    def _resolved(
        self,
        index: dict[str, Any] | None,
        num_inference_steps: int | None,
        guidance_scale: float | None,
        scheduler: str | None,
    ) -> tuple[int, float]:
        """The number of steps and the scale that None stands for."""
        few, name = None, self.folder.name
        if index and self.denoiser is None:
            merged = [called for lora in self.loras for called in (lora.name, lora.path.name)]
            few = few_steps(self.folder.path, name, index, merged)
        distilled = self.denoiser.distilled if self.denoiser else None
        if num_inference_steps is None:  # without an index opening it tells what is wrong
            own = own_steps(index, few) if index else 1
            num_inference_steps = max(distilled.steps) if distilled else own
        if guidance_scale is None:
            guidance_scale = few.guidance_scale if few else self.guidance.own() if index else 1.0
            if distilled:
                guidance_scale = min(max(guidance_scale, distilled.guidance[0]), distilled.guidance[1])
        asked = num_inference_steps, float(guidance_scale)
        self.warnings = []
        if index and few:
            model = " with ".join([name, *(lora.name for lora in self.loras)])
            self.warnings = warnings_of(model, few, *asked, scheduler or index["scheduler"][1])
        return asked

    @property
    def guidance_scale(self) -> float:
        """1 or less is none."""
        return self.sampling.guidance_scale

    @property
    def num_inference_steps(self) -> int:
        return self.sampling.num_inference_steps

    @property
    def steps(self) -> tuple[int, ...]:
        """As :meth:`with_steps` takes them; none where a few say nothing of the others."""
        return () if self.speed.cache else (self.num_inference_steps,)

    def with_steps(self, *steps: int) -> DiffusersGenerator:
        """The same with another number of steps, to find out what one costs: it shares the opened pipeline, and its images need not be
        good ones. Raises FigmentError where it cannot be opened."""
        _ = self.pipe
        other = copy(self)  # of the settings alone
        other.__dict__ |= {name: part for name, part in self.__dict__.items() if name in OPENED and name != "start"}
        (n,) = steps
        other.sampling = replace(self.sampling, num_inference_steps=n)
        return other

    @property
    def plain(self) -> DiffusersGenerator:
        """The same, not opened, without ``speed``: what is trained must be the model itself."""
        other = copy(self)
        other.speed, other.tiny = SpeedSettings(), None
        return other

    @property
    def trials(self) -> list[Trial]:
        """What ``speed`` gains here, once a batch has been made."""
        return [own.trial for own in self.tried if own.trial is not None]

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that changes what an image shows, JSON-able. The device and the batch do not.

        With dtype "auto" two machines may round differently; name the dtype where that matters.
        """
        own: dict[str, Any] = {}
        if self.lora:
            own["lora"] = self.lora.fingerprint
        if self.denoiser:
            own["denoiser"] = self.denoiser.fingerprint
        if self.loras:
            own["loras"] = [lora.identity for lora in self.loras]
        if self.real_guidance:
            own["real_guidance"] = self.real_guidance.model_dump()
        if self.tiny:
            own["vae"] = self.tiny.fingerprint
        own |= {name: how for name in ("cache", "quantise") if (how := getattr(self.speed, name)) is not None}
        if (told := self._told) not in ({}, {"guidance_scale": self.guidance_scale}):
            own["told"] = told
        size = {"height": self.height, "width": self.width}
        return {**self.sampling.settings, **size, "dtype": self._dtype_name, **own}

    @property
    def _told(self) -> dict[str, float]:
        """What the pipeline is called with for ``guidance_scale``."""
        return self.guidance.tells(self.guidance_scale, self.num_inference_steps)

    @property
    def wants_labels(self) -> bool:
        """Whether an image depends on its label besides its prompt."""
        return self.lora is not None and self.lora.per_class

    @property
    def model_fingerprint(self) -> str:
        """Of the weights, before any LoRA of real images."""
        others = [self.denoiser.fingerprint] if self.denoiser else []
        others += [str(lora.identity) for lora in self.loras]
        own = self.folder.fingerprint
        return records.fingerprint([own, *others]) if others else own

    @property
    def fingerprint(self) -> str:
        return records.fingerprint(["diffusers", self.folder.fingerprint, self.settings])

    # Chosen where the images are made, which may be another machine than the one that plans them.

    @cached_property
    def device(self) -> torch.device:
        """Raises FigmentError where it is not there."""
        return choose_device(self._device_name)

    @cached_property
    def dtype(self) -> torch.dtype:
        return generator_dtype(self._dtype_name, self.device)

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a worker: settings. It opens the model by itself."""
        return {k: v for k, v in self.__dict__.items() if k not in (*OPENED, "device", "dtype")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """On another machine, which has folders of its own. Raises FigmentError for what is not there and cannot be had."""
        self.__dict__.update(state)
        self.folder = here(self.folder, allow_pickle=self._allow_pickle)
        self.loras = tuple(lora.here() for lora in self.loras)
        self.tiny = self.tiny and here(self.tiny, allow_pickle=self._allow_pickle)

    def close(self) -> None:
        """Let go of the model, so that its memory is free for what follows. The next call opens it again."""
        if "pipe" not in self.__dict__:
            return  # images that are there already may be of a device that is not
        for name in OPENED:
            self.__dict__.pop(name, None)
        free_memory(self.device)

    @cached_property
    def pipe(self) -> Any:
        """The diffusers pipeline, opened, checked and placed. Raises FigmentError."""
        with quiet():
            pipe = self._open()
            merge(pipe, self.loras, self.folder.name)
            pipe.scheduler = self._sampler(pipe.scheduler)
            check_opened(self, pipe)
            small = put_vae_in(self, pipe, self._allow_pickle)
            place(pipe, self.device, self.offload, f"The model {self.folder.name}", self.cascade)
            self.tried = [*small, *hasten(self, pipe)]
        decode_in_slices(pipe, self.device)
        keep_on_device(pipe)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @cached_property
    def image_pipe(self) -> Any:
        """The image-to-image pipeline of the same weights: it shares every part with ``pipe``. Raises FigmentError."""
        family, pipe = self._family, self.pipe
        assert family is not None and family.schedule is not None  # as was checked when it was opened
        with quiet():
            twin = diffusers.AutoPipelineForImage2Image.from_pipe(pipe, add_watermarker=False)
        if self.offload == "model":
            twin.enable_model_cpu_offload(device=self.device)  # else its calls would leave behind what they brought
        keep_on_device(twin)
        twin.set_progress_bar_config(disable=True)
        return twin

    @cached_property
    def start(self) -> Start:
        """Where in the schedule real guidance starts. Opens the pipeline; raises FigmentError."""
        family, pipe = self._family, self.image_pipe
        assert self.real_guidance is not None and family is not None and family.schedule is not None
        schedule = family.schedule(pipe, self.num_inference_steps, *self.size())
        return start_of(pipe, self.num_inference_steps, self.real_guidance, **schedule)

    @cached_property
    def start_images(self) -> StartImages:
        """Real images as the VAE knows them."""
        return StartImages(self.pipe.vae)

    def _open(self) -> Any:
        """The pipeline, with the denoiser in the place of its own."""
        folder, name = self.folder.path, self.folder.name
        if self.denoiser is None:
            return open_pipeline(folder, name, self.dtype, self._allow_pickle)
        self.denoiser.check()
        kind, part, own = getattr(diffusers, self.denoiser.kind), self.denoiser.part, self.denoiser.folder
        denoiser = open_part(kind, own, part, str(own), self.dtype, self._allow_pickle)
        pipe = open_pipeline(folder, name, self.dtype, self._allow_pickle, {part: denoiser})
        place, scheduler = self._scheduler(type(pipe.scheduler).__name__)
        if place != folder:
            pipe.scheduler = getattr(diffusers, scheduler).from_pretrained(place / "scheduler", local_files_only=True)
        return pipe

    def _scheduler(self, own: str) -> tuple[Path, str]:
        """The folder whose ``scheduler/`` it is, and its class; ``own`` is that of the pipeline."""
        brought = self.denoiser.scheduler if self.denoiser else None
        if brought is None or self.denoiser is None:
            return self.folder.path, own
        samplers.scheduler_class(brought)
        return self.denoiser.folder, brought

    def _sampler(self, own: Any) -> Any:
        """The scheduler that is asked for. With real guidance a trial from noise alone would say nothing of it."""
        with quiet():
            return samplers.choose(
                own,
                self.sampling.scheduler,
                self.num_inference_steps,
                self.folder.name,
                tried=self.real_guidance is None,
                log_variance=self.sampling.log_variance,
            )

    @cached_property
    def texts(self) -> Texts:
        """Prompts as the pipeline takes them."""
        assert self._family is not None
        lora = None if self.lora is None else Applied(self.lora, self.pipe)
        aside = texts_in_the_way(self.pipe, self.offload)
        waiting = bool(aside) or self.offload != "none"
        mend = offload_advice(self.offload, self.cascade)
        return Texts(self.pipe, self._family, self.sampling.negative_prompt, lora, aside, waiting, mend)

    @property
    def _family(self) -> Family | None:
        return FAMILIES.get(type(self.pipe).__name__)

    def read_ahead(self, prompts: Sequence[str], labels: Sequence[int] | None = None) -> None:
        """Open the model, and encode the prompts of a shard at once where text encoders have to be brought for it. Raises FigmentError."""
        if self._family is None or not self.texts.waiting:
            return
        try:
            with torch.inference_mode(), quiet():
                self.texts.read_ahead(self._asked(prompts, labels), self._family.guided and self.sampling.guided)
        except (RuntimeError, MemoryError) as error:  # each batch then encodes its own, and says what is wrong
            if lost := failure(error):
                raise lost from error

    def _asked(self, prompts: Sequence[str], labels: Sequence[int] | None) -> list[Asked]:
        own = labels if labels is not None and self.wants_labels else [0] * len(prompts)
        return list(zip(own, prompts, strict=True))

    def __call__(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        init: np.ndarray | None = None,
        labels: Sequence[int] | None = None,
    ) -> list[np.ndarray | None]:
        """One ``uint8 (H, W, 3)`` image for each prompt and seed, in order; None where the model gave NaN or infinity.

        Seeds lie in [0, 2**63). ``init`` ``uint8 (B, H, W, 3)`` are the images that an upscaler enlarges, or the real images that each
        starts from, with real guidance and not without; these are cut to :meth:`size`. ``labels`` say whose LoRA each image is made
        with, where each class has its own. Raises FigmentError for what the pipeline refuses, and when not even one image
        fits into memory.
        """
        if init is None and self.upscales:
            raise FigmentError(
                f"{self.folder.name} enlarges images, and there are none. Make it a later stage of a cascade: generate: {{kind:"
                " cascade, stages: [...]}; or call the generator with init, an image for each prompt."
            )
        if init is not None and self.real_guidance is None and not self.upscales:
            raise FigmentError(
                "A text-to-image pipeline takes no start images (init). Leave them out, or say how far images go from them"
                " with real_guidance."
            )
        if init is None and self.real_guidance is not None:
            raise FigmentError(
                "Real guidance starts from real images, and there are none: give generate_images shots, or call the generator"
                " with init, an image for each prompt."
            )
        if len(prompts) != len(seeds) or (init is not None and len(init) != len(prompts)):
            raise ValueError(
                f"{len(prompts)} prompts, {len(seeds)} seeds, {'no' if init is None else len(init)} start images"
            )
        if labels is None and self.wants_labels:
            raise FigmentError("Each class has a LoRA of its own here: call the generator with labels, one a prompt.")
        asked = self._asked(prompts, labels)
        self.batch_size = self.batch_size or self._own_batch_size(
            self.size(init.shape[1:3] if init is not None and self.upscales else None)
        )
        images: list[np.ndarray | None] = []
        before = size = self.batch_size
        while len(images) < len(prompts):
            part = slice(len(images), len(images) + size)
            try:
                made = self._attempt(asked[part], seeds[part], None if init is None else init[part])
            except Exception:
                self.batch_size = before  # a single image fails: it was not the batch that was too large
                raise
            if made is None:
                size = len(asked[part]) // 2
                (self.image_pipe if self.real_guidance else self.pipe).maybe_free_model_hooks()  # what was at work
                free_memory(self.device)
            else:
                images += made
                self.batch_size = size  # a smaller one, for good, once it has been seen to help
        return images

    def _attempt(
        self, asked: Sequence[Asked], seeds: Sequence[int], init: np.ndarray | None
    ) -> list[np.ndarray | None] | None:
        """The images of one batch, or None where fewer at a time may fit."""
        pipe = self.image_pipe if self.real_guidance else self.pipe
        start = {} if init is None else self._low(init) if self.upscales else self._start_arguments(init)
        interval = self.sampling.interval
        whole = interval.whole or not self.sampling.guided
        vae = getattr(pipe, "vae", None)
        cached = (
            init is not None and not self.upscales and isinstance(vae, diffusers.AutoencoderKL)
        )  # others have no such distribution
        encoding = self.start_images.applied(start["image"]) if cached else nullcontext()
        precision = None if vae is None else vae.dtype
        try:
            with torch.inference_mode(), quiet(), encoding, nullcontext() if whole else interval.applied(pipe):
                output = pipe(
                    **{**self._arguments(asked), **start},
                    generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds],
                )
                return pixels_of(output.images)
        except ValueError as error:
            raise FigmentError(
                f"The {type(pipe).__name__} of {self.folder.name} refused these settings: {error}"
            ) from error
        except (RuntimeError, MemoryError) as error:
            self._raise_what_no_smaller_batch_helps(error, len(asked))
            return None  # the pipeline's tensors live in the error's traceback, and go with it
        finally:
            if vae is not None and vae.dtype != precision:  # SDXL decodes in float32, and an error leaves it there
                vae.to(dtype=precision)

    def _raise_what_no_smaller_batch_helps(self, error: Exception, tried: int) -> None:
        """cuDNN and cuBLAS rarely say that it is memory they lack ("unable to find an engine"): whatever fails in a batch is tried in less."""
        if lost := failure(error):
            raise lost from error
        if tried > 1:
            return
        if not is_out_of_memory(error):
            raise error
        height, width = self.size()
        aside = offload_advice(self.offload, self.cascade)
        ways = [
            "lower generate.height and generate.width, "
            if self.cascade is None
            else "",  # a cascade's are its models' own
            "set generate.dtype to bfloat16 or float16, " if self.dtype == torch.float32 else "",
            f"set {aside}, " if aside else "",
        ]
        raise FigmentError(
            f"Out of memory for a single image of {width}x{height} pixels in {str(self.dtype).removeprefix('torch.')} on"
            f" {self.device}. What would help: {''.join(ways)}{'or ' if any(ways) else ''}a smaller model."
        ) from error

    def _low(self, init: np.ndarray) -> dict[str, Any]:
        """What an upscaler is told of the images it enlarges."""
        assert self._family is not None and self._family.pixels is not None
        low, high = self._family.pixels
        pixels = torch.from_numpy(init).movedim(3, 1).float() / 255  # (B, 3, h, w) in [0, 1]
        return {"image": low + (high - low) * pixels, "noise_level": self.sampling.noise_level}

    def _start_arguments(self, init: np.ndarray) -> dict[str, Any]:
        """What the image-to-image pipeline is told of the images it starts from, and how far it goes from them."""
        height, width = self.size()
        pixels = torch.from_numpy(np.stack([crop_to(image, height, width) for image in init]))
        pixels = pixels.movedim(3, 1).float() / 255  # (B, 3, H, W) in [0, 1]
        if self.pipe.vae.config.in_channels == 1:
            pixels = pixels.mean(1, keepdim=True)
        known = inspect.signature(self.image_pipe.__call__).parameters  # some take the size of the images
        size = {name: side for name, side in (("height", height), ("width", width)) if name in known}
        return {"image": pixels, "strength": self.start.strength, **size}

    def _arguments(self, asked: Sequence[Asked]) -> dict[str, Any]:
        """What the pipeline is called with, besides the noise and the start images."""
        size = {"height": self.height, "width": self.width} if self.height and not self.real_guidance else {}
        shared = {"num_inference_steps": self.num_inference_steps, "output_type": "np", **size}
        if self._family is None:
            return {**shared, **self._plain_text([text for _, text in asked])}
        texts = self.texts(asked, guided=self._family.guided and self.sampling.guided)
        return {**shared, **self._told, "negative_prompt": None, **texts}

    def _plain_text(self, prompts: Sequence[str]) -> dict[str, Any]:
        """For pipelines of families we do not know: texts as they are, and of our settings those that they have."""
        known = inspect.signature(self.pipe.__call__).parameters
        arguments: dict[str, Any] = {"prompt": list(prompts), **self._told}
        if self.num_inference_steps != 2:  # Sana-Sprint's own is of two steps, and it refuses it with others
            arguments["intermediate_timesteps"] = None
        negative = self.sampling.negative_prompt
        if self.sampling.guided and (negative or self.guidance.needs_negative):
            arguments["negative_prompt"] = [negative] * len(prompts)
        return {name: value for name, value in arguments.items() if name in known}

    def size(self, low: tuple[int, int] | None = None) -> tuple[int, int]:
        """Height and width of the images, in pixels. ``low`` is the size of those that an upscaler enlarges."""
        return (self.height, self.width) if self.height and self.width else own_size(self.pipe, low)

    def _own_batch_size(self, size: tuple[int, int]) -> int:
        if self._family is not None:
            _ = self.texts  # which may put encoders aside
        return auto_batch_size(self.pipe, *size, still_to_come(self.pipe, self.offload))

    def count_cut(self, prompts: Sequence[str]) -> int:
        """How many of the prompts no text encoder of the pipeline reads to the end. Opens the tokenizers, not the model."""
        left = list(dict.fromkeys(prompts))
        try:
            for tokenizer, most in tokenizers(self.folder.path):
                with quiet():
                    lengths = [len(ids) for ids in tokenizer(left).input_ids] if left else []
                left = [text for text, length in zip(left, lengths, strict=True) if length > most]
        except Exception:  # a damaged model: opening it says what is wrong
            return 0
        cut = set(left)
        return sum(text in cut for text in prompts)

    def describe(self, low: tuple[int, int] | None = None) -> dict[str, Any]:
        """Where the images come from, for the dataset card: JSON-able. Opens the pipeline. ``low`` is as in :meth:`size`."""
        height, width = self.size(low)
        guided = self._described_start() if self.real_guidance else {}
        return {
            "model": self.folder.name,
            "model_fingerprint": self.model_fingerprint,
            "licence": license_of(card_folder(self.folder.name) or self.folder.path),
            "sampler": self.sampling.said(type(self.pipe.scheduler).__name__)
            + (self.denoiser.described() if self.denoiser else "")
            + "".join(f", LoRA {lora.name} x {lora.scale:g}" for lora in self.loras)
            + (", tuned on real images (LoRA)" if self.lora else "")
            + (f", real guidance ({self.start.steps} of the steps)" if guided else "")
            + (f", decoded by {self.tiny.name}" if self.tiny else "")
            + (f", {self.speed.cache} cache of steps" if self.speed.cache else "")
            + (f", denoiser in {self.speed.quantise}" if self.speed.quantise else ""),
            "pipeline": type(self.image_pipe if guided else self.pipe).__name__,
            **self.settings,
            **self._described_interval(),
            **guided,
            "dtype": str(self.dtype).removeprefix("torch."),
            "scheduler": type(self.pipe.scheduler).__name__,
            "scheduler_config": json.loads(self.pipe.scheduler.to_json_string()),
            "height": height,
            "width": width,
            **({"speed": [trial.told for trial in self.trials]} if self.trials else {}),
            "device": str(self.device),
            "batch_size": self.batch_size or self._own_batch_size((height, width)),
            "versions": {
                "diffusers": diffusers.__version__,
                "transformers": transformers.__version__,
                "torch": torch.__version__,
            },
        }

    def _described_interval(self) -> dict[str, Any]:
        """The noise levels between which steps are guided, as the paper counts them."""
        if self.sampling.interval.whole:
            return {}
        family, scheduler = self._family, self.pipe.scheduler
        assert family is not None
        schedule = family.schedule(self.pipe, self.num_inference_steps, *self.size()) if family.schedule else {}
        scheduler.set_timesteps(self.num_inference_steps, **schedule)
        left = len(scheduler.timesteps)
        if self.real_guidance:  # Heun's last step is one call of the model, each other one two
            order = getattr(scheduler, "order", 1)
            left = self.start.steps * order - (order - 1)
        return {"guided_noise_levels": self.sampling.interval.noise_levels(scheduler, left)}

    def _described_start(self) -> dict[str, Any]:
        """What was asked of real guidance, and what the schedule has nearest to it."""
        assert self.real_guidance is not None
        asked, start = self.real_guidance, self.start
        told = {"alpha_bar": asked_alpha_bar(asked), "alpha_bar_reached": start.alpha_bar}
        return {"real_guidance": {**asked.model_dump(), **told, "strength": start.strength, "steps": start.steps}}
