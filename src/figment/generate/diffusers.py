"""Images from prompts with any diffusers text-to-image pipeline."""

from __future__ import annotations

import gc
import inspect
import json
import platform
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers

from figment import records, weights
from figment.device import check_device, check_dtype, choose_device, generator_dtype
from figment.errors import FigmentError
from figment.files import load_json, read_text
from figment.generate import samplers
from figment.generate.denoiser import PART, Denoiser, open_denoiser
from figment.generate.families import FAMILIES, Encoded, Family, encode, encode_negative, stop_guidance
from figment.generate.lora import Applied, Lora, open_lora
from figment.generate.loras import merge, resolve_loras
from figment.generate.real_guidance import Start, asked_alpha_bar, crop_to, start_of
from figment.generate.real_guidance_settings import RealGuidanceSettings
from figment.models import license_of, resolve

CACHE_BYTES = 256 * 2**20  # of encoded prompts: two thousand of SD's, sixty of Flux's
CPU_LATENT_PIXELS = 8192  # a batch's; more no longer helps a CPU
CUDA_BYTES_PER_PIXEL = 2048  # of one image's output pixels and one byte of dtype: the decoder's peak, generously
CUDA_LARGEST_BATCH = 512
# These go wrong when they start in the middle: with a perfect model they end far from the image, in diffusers 0.42.
FROM_THE_START_ONLY = ("PNDMScheduler", "LMSDiscreteScheduler", "EDMEulerScheduler")

Asked = tuple[int, str]  # what an image is asked for with: a label, 0 where all have one LoRA or none, and a prompt


class DiffusersGenerator:
    """Any text-to-image pipeline that diffusers opens: the starter's, Stable Diffusion, SDXL, SD3, Flux, PixArt...

    Arguments carry diffusers' names. ``guidance_scale`` <= 1 means no guidance and half the work; ``guidance_stop`` is
    the share of the steps, in (0, 1], after which guidance ends. ``scheduler`` is a diffusers class, ``height`` and
    ``width`` are in pixels; None = the pipeline's own. ``batch_size`` is halved, for good, when memory runs out.

    An image depends on its prompt, its seed and the settings alone. What else is in its batch changes it by rounding
    only: a grey level in float32 on one machine, more in half precision, where kernels may differ with the batch.

    ``denoiser`` is a folder with a UNet that takes the place of the model's own, and perhaps a scheduler: what fine-tuning with
    ``method: full`` and distillation leave. One that was distilled is told ``guidance_scale`` as a number: one pass a step.

    ``lora`` is what :func:`figment.generate.finetune.finetune` returned, or its folder. Where that holds a LoRA for each class,
    the images are asked for with their ``labels``, and depend on them as well.

    ``loras`` are some that others made, merged into the weights: files, folders or Hub ids, or `LoraSettings` with a scale.

    With ``real_guidance`` images start from noised real images (``init``), by diffusers' image-to-image pipeline of the
    same weights. ``num_inference_steps`` counts the whole schedule, as in diffusers, of which little noise leaves few steps:
    the paper's for 16 shots is 2 steps of 20, and 6 of 100. Raise it where that is too coarse.

    The pipeline is opened at the first use of ``pipe``, so a fingerprint costs no memory. Raises FigmentError for a
    model that cannot be had or opened, and for settings that it cannot honour.
    """

    def __init__(
        self,
        *,
        model: str = "starter",
        guidance_scale: float = 2.0,
        guidance_stop: float = 1.0,
        num_inference_steps: int = 20,
        scheduler: str | None = None,
        negative_prompt: str = "",
        height: int | None = None,
        width: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int | str = "auto",
        allow_pickle: bool = False,
        denoiser: Denoiser | Path | str | None = None,
        lora: Lora | Path | str | None = None,
        loras: Sequence[Any] = (),
        real_guidance: RealGuidanceSettings | None = None,
    ):
        if (height is None) != (width is None):
            raise FigmentError(
                f"height is {height} and width is {width}: give both, in pixels, or neither for the model's own size."
            )
        if not 0 < guidance_stop <= 1:
            raise FigmentError(f"guidance_stop is {guidance_stop}; it is a share of the steps, above 0 and up to 1.")
        if scheduler is not None:
            samplers.scheduler_class(scheduler)
        self.folder = resolve(model, allow_pickle=allow_pickle)
        self.guidance_scale, self.guidance_stop = float(guidance_scale), float(guidance_stop)
        self.num_inference_steps = num_inference_steps
        self.scheduler, self.negative_prompt, self.height, self.width = scheduler, negative_prompt, height, width
        self._device_name, self._dtype_name = check_device(device), check_dtype(dtype)
        self.batch_size = 0 if batch_size == "auto" else int(batch_size)  # 0 = not chosen yet
        self._model, self._allow_pickle = model, allow_pickle
        self._encoded: OrderedDict[Asked, Encoded] = OrderedDict()  # the least recently used first
        self._negatives: dict[int, Encoded] = {}  # by label
        self.denoiser = open_denoiser(denoiser) if isinstance(denoiser, Path | str) else denoiser
        if self.denoiser:
            self.denoiser.check_goes_with(self.folder, num_inference_steps, self.guidance_scale, scheduler)
        self.loras = resolve_loras(loras)
        self.lora = open_lora(lora) if isinstance(lora, Path | str) else lora
        if self.lora and self.lora.model != self.model_fingerprint:
            raise FigmentError(f"The LoRA in {self.lora.folder} was trained on another model than {model}.")
        if real_guidance and real_guidance.alpha_bar is None and real_guidance.t_star is None:
            raise FigmentError(
                "real_guidance does not say how much noise it starts with. Give t_star or alpha_bar, or the paper's for the"
                " number of shots a class: RealGuidanceSettings().resolved(16)."
            )
        self.real_guidance = real_guidance
        index = _read_index(self.folder.path)  # what it says is found out before the model is opened
        if index is not None:
            if self.denoiser and not _has_unet(index):
                raise FigmentError(f"The {index['_class_name']} of {model} has no UNet. Leave denoiser out.")
            place, kind = self._scheduler(index["scheduler"][1])
            self._check_names(index["_class_name"], scheduler or kind)
            own = _own_scheduler(place, kind)
            if own is not None:
                self._sampler(own)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that changes what an image shows, JSON-able. The device and the batch do not.

        With dtype "auto" two machines may round differently; name the dtype where that matters.
        """
        names = (
            "guidance_scale",
            "guidance_stop",
            "num_inference_steps",
            "scheduler",
            "negative_prompt",
            "height",
            "width",
        )
        own: dict[str, Any] = {"lora": self.lora.fingerprint} if self.lora else {}
        if self.denoiser:
            own["denoiser"] = self.denoiser.fingerprint
        if self.loras:
            own["loras"] = [lora.identity for lora in self.loras]
        if self.real_guidance:
            own["real_guidance"] = self.real_guidance.model_dump()
        return {**{name: getattr(self, name) for name in names}, "dtype": self._dtype_name, **own}

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
        opened = ("pipe", "image_pipe", "start", "device", "dtype", "_applied")
        kept = {k: v for k, v in self.__dict__.items() if k not in opened}
        return {**kept, "_encoded": OrderedDict(), "_negatives": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not self.folder.path.is_dir():  # another machine, with folders of its own
            here = resolve(self._model, allow_pickle=self._allow_pickle)
            if here.fingerprint != self.folder.fingerprint:
                raise FigmentError(
                    f"The model {self._model} is another one on {platform.node()}. Copy the same weights there."
                )
            self.folder = here

    @cached_property
    def pipe(self) -> Any:
        """The diffusers pipeline, opened, checked and placed. Raises FigmentError."""
        with quiet():
            pipe = self._open()
            merge(pipe, self.loras, self.folder.name)
            pipe.scheduler = self._sampler(pipe.scheduler)
            self._check(pipe)
            _place(pipe, self.device, f"The model {self.folder.name}")
        pipe.set_progress_bar_config(disable=True)
        if hasattr(pipe, "unet"):  # convolutions are faster so; transformers have none to speak of
            pipe.unet.to(memory_format=torch.channels_last)
            pipe.vae.to(memory_format=torch.channels_last)
        return pipe

    @cached_property
    def image_pipe(self) -> Any:
        """The image-to-image pipeline of the same weights: it shares every part with ``pipe``. Raises FigmentError."""
        family, pipe, (height, width) = self._family, self.pipe, self.size()
        assert family is not None and family.schedule is not None  # as was checked when it was opened
        if height % pipe.vae_scale_factor or width % pipe.vae_scale_factor:
            raise FigmentError(
                f"Images of {width}x{height} pixels cannot be made by {self.folder.name}: height and width must be divisible by"
                f" {pipe.vae_scale_factor}."
            )
        with quiet():
            twin = diffusers.AutoPipelineForImage2Image.from_pipe(pipe, add_watermarker=False)
        twin.set_progress_bar_config(disable=True)
        if self.guidance_stop < 1 and not set(family.doubled) <= set(twin._callback_tensor_inputs):
            raise FigmentError(
                f"guidance_stop below 1 does not work with the {type(twin).__name__}, with which {self.folder.name} starts from"
                " real images. Set guidance_stop: 1."
            )
        return twin

    @cached_property
    def start(self) -> Start:
        """Where in the schedule real guidance starts. Opens the pipeline; raises FigmentError."""
        family, pipe = self._family, self.image_pipe
        assert self.real_guidance is not None and family is not None and family.schedule is not None
        schedule = family.schedule(pipe, self.num_inference_steps, *self.size())
        return start_of(pipe, self.num_inference_steps, self.real_guidance, **schedule)

    def _open(self) -> Any:
        """The pipeline, with the denoiser in the place of its own."""
        folder, name = self.folder.path, self.folder.name
        if self.denoiser is None:
            return _open(folder, name, self.dtype, self._allow_pickle)
        self.denoiser.check()
        kind, own = diffusers.UNet2DConditionModel, self.denoiser.folder
        unet = _open_part(kind, own, PART, str(own), self.dtype, self._allow_pickle)
        pipe = _open(folder, name, self.dtype, self._allow_pickle, {PART: unet})
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
                own, self.scheduler, self.num_inference_steps, self.folder.name, tried=self.real_guidance is None
            )

    def _check(self, pipe: Any) -> None:
        name = type(pipe).__name__
        arguments = inspect.signature(pipe.__call__).parameters
        if "prompt" not in arguments or "generator" not in arguments:
            raise FigmentError(
                f"The model {self.folder.name} is a {name}, which makes no images from text."
                " Choose a text-to-image model."
            )
        self._check_names(name, type(pipe.scheduler).__name__)
        family = FAMILIES.get(name)
        if getattr(getattr(pipe, "unet", None), "config", {}).get("time_cond_proj_dim") is not None:
            self._check_one_pass()
        if self.negative_prompt and not (family.guided if family else "negative_prompt" in arguments):
            raise FigmentError(
                f"The {name} of {self.folder.name} takes no negative prompt. Leave negative_prompt empty."
            )

    def _check_one_pass(self) -> None:
        """Raise FigmentError for what takes a pass without the text, of which a distilled denoiser has none."""
        asked = [
            n
            for n, given in (("negative_prompt", self.negative_prompt), ("guidance_stop", self.guidance_stop < 1))
            if given
        ]
        if asked:
            raise FigmentError(
                f"The denoiser of {self.folder.name} was distilled: it is told its guidance scale, and takes no second pass. Leave"
                f" {' and '.join(asked)} out."
            )

    def _check_names(self, name: str, scheduler: str) -> None:
        """Raise FigmentError for settings that this pipeline, by its class, or this scheduler cannot honour."""
        family = FAMILIES.get(name)
        if self.real_guidance and not (family and family.schedule):
            allowed = ", ".join(n for n, f in FAMILIES.items() if f.schedule)
            raise FigmentError(
                f"Real guidance needs an image-to-image pipeline of the same weights. There is one for {allowed}, and none for the"
                f" {name} of {self.folder.name}. Choose another model, or leave real_guidance out."
            )
        if self.real_guidance and scheduler in FROM_THE_START_ONLY:
            raise FigmentError(
                f"The {scheduler} cannot start in the middle of its schedule, as real guidance does. Set"
                " scheduler: DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler or UniPCMultistepScheduler."
            )
        if self.lora and not family:
            raise FigmentError(f"The {name} of {self.folder.name} takes no LoRA here. Leave lora out.")
        if self.guidance_stop < 1 and not (family and family.doubled):
            allowed = ", ".join(n for n, f in FAMILIES.items() if f.doubled)
            raise FigmentError(
                f"guidance_stop below 1 works with {allowed}, not with the {name} of {self.folder.name}."
                " Set guidance_stop: 1."
            )

    @property
    def _family(self) -> Family | None:
        return FAMILIES.get(type(self.pipe).__name__)

    def __call__(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        init: np.ndarray | None = None,
        labels: Sequence[int] | None = None,
    ) -> list[np.ndarray | None]:
        """One ``uint8 (H, W, 3)`` image for each prompt and seed, in order; None where the model gave NaN or infinity.

        Seeds lie in [0, 2**63). ``init`` ``uint8 (B, H, W, 3)`` are the real images that each starts from, with real
        guidance and not without; other sizes than :meth:`size` are cut to it. ``labels`` say whose LoRA each image is made
        with, where each class has its own. Raises FigmentError for what the pipeline refuses, and when not even one image
        fits into memory.
        """
        if init is not None and self.real_guidance is None:
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
        asked = list(
            zip(labels if labels is not None and self.wants_labels else [0] * len(prompts), prompts, strict=True)
        )
        self.batch_size = self.batch_size or auto_batch_size(self.pipe, *self.size())
        images: list[np.ndarray | None] = []
        while len(images) < len(prompts):
            part = slice(len(images), len(images) + self.batch_size)
            made = self._attempt(asked[part], seeds[part], None if init is None else init[part])
            if made is None:
                self._halve_batch(len(asked[part]))
            else:
                images += made
        return images

    def _attempt(
        self, asked: Sequence[Asked], seeds: Sequence[int], init: np.ndarray | None
    ) -> list[np.ndarray | None] | None:
        """The images of one batch, or None when memory ran out."""
        pipe = self.pipe if init is None else self.image_pipe
        start = {} if init is None else self._start_arguments(init)
        try:
            with torch.inference_mode(), quiet():
                output = pipe(
                    **{**self._arguments(asked), **start},
                    generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds],
                )
        except ValueError as error:
            raise FigmentError(
                f"The {type(pipe).__name__} of {self.folder.name} refused these settings: {error}"
            ) from error
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            return None  # the pipeline's tensors live in the error's traceback, and go with it
        return [_image(image) for image in np.asarray(output.images)]

    def _halve_batch(self, tried: int) -> None:
        if tried == 1:
            height, width = self.size()
            raise FigmentError(
                f"Out of memory for a single image of {width}x{height} pixels in {str(self.dtype).removeprefix('torch.')} on"
                f" {self.device}. Lower generate.height and generate.width, set generate.dtype to bfloat16 or float16,"
                " or choose a smaller model."
            )
        self.batch_size = tried // 2
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

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
        return {**shared, "guidance_scale": self.guidance_scale, **self._encoded_text(self._family, asked)}

    def _encoded_text(self, family: Family, asked: Sequence[Asked]) -> dict[str, Any]:
        """Texts as tensors, each distinct one encoded once."""
        labels = [label for label, _ in asked]
        self._choose(labels)  # loads what the batch needs in one go
        encoded = self._remembered(family, asked)
        if family.guided and self.guidance_scale > 1:
            encoded = [{**one, **self._negative(label)} for one, label in zip(encoded, labels, strict=True)]
        self._choose(labels)
        tensors = {name: torch.cat([one[name] for one in encoded]) for name in encoded[0]}
        if self.guidance_stop == 1:
            return {**tensors, "negative_prompt": None}
        stop = {
            "callback_on_step_end": stop_guidance(self.guidance_stop),
            "callback_on_step_end_tensor_inputs": list(family.doubled),
        }
        return {**tensors, "negative_prompt": None, **stop}

    def _remembered(self, family: Family, asked: Sequence[Asked]) -> list[Encoded]:
        new = [one for one in dict.fromkeys(asked) if one not in self._encoded]
        for label in dict.fromkeys(label for label, _ in new):
            self._choose([label])
            own = [one for one in new if one[0] == label]
            self._encoded.update(zip(own, encode(self.pipe, family, [text for _, text in own]), strict=True))
        for one in asked:
            self._encoded.move_to_end(one)
        encoded = [self._encoded[one] for one in asked]
        most = max(1, CACHE_BYTES // sum(t.nbytes for t in encoded[0].values()))
        while len(self._encoded) > most:
            self._encoded.popitem(last=False)
        return encoded

    def _negative(self, label: int) -> Encoded:
        assert self._family is not None
        if label not in self._negatives:
            self._choose([label])
            self._negatives[label] = encode_negative(self.pipe, self._family, self.negative_prompt)
        return self._negatives[label]

    def _choose(self, labels: Sequence[int]) -> None:
        """Whose LoRA what follows is computed with: one label for all of it, or one for each image."""
        if self.lora is not None:
            self._applied.choose(labels)

    @cached_property
    def _applied(self) -> Applied:
        assert self.lora is not None
        return Applied(self.lora, self.pipe)

    def _plain_text(self, prompts: Sequence[str]) -> dict[str, Any]:
        """For pipelines of families we do not know: texts as they are, and of our settings those that they have."""
        known = inspect.signature(self.pipe.__call__).parameters
        # Where both exist, guidance_scale is a number that the model is told, true_cfg_scale is guidance (Qwen-Image).
        guidance = "true_cfg_scale" if "true_cfg_scale" in known else "guidance_scale"
        arguments = {"prompt": list(prompts), guidance: self.guidance_scale}
        if self.guidance_scale > 1 and (self.negative_prompt or guidance == "true_cfg_scale"):
            arguments["negative_prompt"] = [self.negative_prompt] * len(prompts)
        return {name: value for name, value in arguments.items() if name in known}

    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        if self.height and self.width:
            return self.height, self.width
        pipe = self.pipe
        denoiser = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
        side = (
            getattr(pipe, "default_sample_size", None)
            or getattr(getattr(denoiser, "config", None), "sample_size", None)
            or 128
        )
        height, width = (side, side) if isinstance(side, int) else side
        scale = getattr(pipe, "vae_scale_factor", 8)
        return height * scale, width * scale

    def count_cut(self, prompts: Sequence[str]) -> int:
        """How many of the prompts no text encoder of the pipeline reads to the end. Opens the tokenizers, not the model."""
        left = list(dict.fromkeys(prompts))
        try:
            for tokenizer, most in _tokenizers(self.folder.path):
                with quiet():
                    lengths = [len(ids) for ids in tokenizer(left).input_ids] if left else []
                left = [text for text, length in zip(left, lengths, strict=True) if length > most]
        except Exception:  # a damaged model: opening it says what is wrong
            return 0
        cut = set(left)
        return sum(text in cut for text in prompts)

    def describe(self) -> dict[str, Any]:
        """Where the images come from, for the dataset card: JSON-able. Opens the pipeline."""
        height, width = self.size()
        guided = self._described_start() if self.real_guidance else {}
        return {
            "model": self.folder.name,
            "model_fingerprint": self.model_fingerprint,
            "licence": license_of(self.folder.path),
            "sampler": f"{type(self.pipe.scheduler).__name__}, {self.num_inference_steps} steps, guidance {self.guidance_scale:g}"
            + (self.denoiser.described() if self.denoiser else "")
            + "".join(f", LoRA {lora.name} x {lora.scale:g}" for lora in self.loras)
            + (", tuned on real images (LoRA)" if self.lora else "")
            + (f", real guidance ({self.start.steps} of the steps)" if guided else ""),
            "pipeline": type(self.image_pipe if guided else self.pipe).__name__,
            **self.settings,
            **guided,
            "dtype": str(self.dtype).removeprefix("torch."),
            "scheduler": type(self.pipe.scheduler).__name__,
            "scheduler_config": json.loads(self.pipe.scheduler.to_json_string()),
            "height": height,
            "width": width,
            "device": str(self.device),
            "batch_size": self.batch_size or auto_batch_size(self.pipe, height, width),
            "versions": {
                "diffusers": diffusers.__version__,
                "transformers": transformers.__version__,
                "torch": torch.__version__,
            },
        }

    def _described_start(self) -> dict[str, Any]:
        """What was asked of real guidance, and what the schedule has nearest to it."""
        assert self.real_guidance is not None
        asked, start = self.real_guidance, self.start
        told = {"alpha_bar": asked_alpha_bar(asked), "alpha_bar_reached": start.alpha_bar}
        return {"real_guidance": {**asked.model_dump(), **told, "strength": start.strength, "steps": start.steps}}


def _tokenizers(folder: Path) -> Iterator[tuple[Any, int]]:
    """The tokenizers of a pipeline, each with the number of tokens that reach the model: CLIP's 77; of a T5, what is asked for."""
    index = load_json(folder / "model_index.json", "model configuration")
    arguments = inspect.signature(getattr(diffusers, index["_class_name"]).__call__).parameters
    for name, (_, kind) in ((k, v) for k, v in sorted(index.items()) if k.startswith("tokenizer") and v[1]):
        tokenizer = getattr(transformers, kind).from_pretrained(folder / name)
        asked = arguments.get("max_sequence_length")
        yield tokenizer, asked.default if asked and "T5" in kind else _tokens_read(folder, name, tokenizer)


def _tokens_read(folder: Path, part: str, tokenizer: Any) -> int:
    """Where a tokenizer must cut: a few are saved without a limit, and their text encoder has one all the same."""
    config = folder / part.replace("tokenizer", "text_encoder") / "config.json"
    told = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return min(tokenizer.model_max_length, told.get("max_position_embeddings") or tokenizer.model_max_length)


def auto_batch_size(pipe: Any, height: int, width: int) -> int:
    """Images a batch. On a CPU about 8,192 latent pixels: 128 images of 8x8 latents, 2 of 64x64.

    On a GPU what is free once the weights are there, at 4 KB an output pixel in half precision and 8 KB in float32 (a
    published SDXL-Turbo measurement comes to 3.6 KB in half precision), 512 at most. Too much is halved by itself.
    """
    if pipe.device.type != "cuda":
        scale = getattr(pipe, "vae_scale_factor", 8)
        return max(1, CPU_LATENT_PIXELS // ((height // scale) * (width // scale)))
    free, _ = torch.cuda.mem_get_info(pipe.device)
    image = height * width * CUDA_BYTES_PER_PIXEL * pipe.dtype.itemsize
    return int(min(max(1, free // image), CUDA_LARGEST_BATCH))


def _read_index(folder: Path) -> dict[str, Any] | None:
    """The pipeline's model_index.json; None where it cannot be read, which opening the model tells."""
    try:
        index = load_json(folder / "model_index.json", "model configuration")
        return index if isinstance(index["_class_name"], str) and isinstance(index["scheduler"][1], str) else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _has_unet(index: Mapping[str, Any]) -> bool:
    return index.get(PART) == ["diffusers", "UNet2DConditionModel"]


def _own_scheduler(folder: Path, kind: str) -> Any:
    """The pipeline's own, without its weights; None where it cannot be had, which opening the model tells."""
    try:
        return getattr(diffusers, kind).from_pretrained(folder / "scheduler", local_files_only=True)
    except Exception:
        return None


def _open(
    folder: Path, name: str, dtype: torch.dtype, allow_pickle: bool, given: Mapping[str, torch.nn.Module] | None = None
) -> Any:
    """``given`` are parts that are open already."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise FigmentError(
            f"The model {name} is no diffusers pipeline: {index} is missing."
            " Name the folder of a pipeline saved by diffusers."
        )
    text = read_text(index, "model configuration")
    # Images are judged by filters, which give a reason; the built-in checker would paint them black instead.
    without = {"safety_checker": None, "requires_safety_checker": False} if "safety_checker" in text else {}
    if "StableDiffusionXLPipeline" in text:  # else pixels would depend on whether a watermarking package is installed
        without["add_watermarker"] = False
    parts: dict[str, Any] = dict(given or {})
    try:
        for part, kind in _networks(folder):
            if part not in without and part not in parts:
                parts[part] = _open_part(kind, folder, part, name, dtype, allow_pickle)
        safe = None if allow_pickle else True
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            folder, dtype=dtype, use_safetensors=safe, local_files_only=True, **without, **parts
        )
    except FigmentError:
        raise
    except (
        Exception
    ) as error:  # damaged files, missing parts, classes this diffusers lacks: each library has its own errors
        raise FigmentError(
            f"The model {name} cannot be opened by diffusers {diffusers.__version__}: {' '.join(str(error).split())}"
        ) from error
    for part, component in pipe.components.items():
        if isinstance(component, torch.nn.Module) and part not in parts:
            weights.check(component, f"The {part} of the model {name}")
        if part.startswith("tokenizer") and component is not None:
            component.model_max_length = _tokens_read(folder, part, component)
    return pipe


def _place(pipe: Any, device: torch.device, what: str) -> None:
    try:
        pipe.to(device)
    except (RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FigmentError(
            f"{what} cannot be placed on {device} in {str(pipe.dtype).removeprefix('torch.')}: {reason.rstrip('.')}. Set generate.device"
            " to another, generate.dtype to bfloat16 or float16 if it does not fit, or choose a smaller model."
        ) from error


def _networks(folder: Path) -> Iterator[tuple[str, Any]]:
    """The parts of a pipeline that have weights, and their classes in diffusers or transformers."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    for part, entry in index.items():
        match entry:
            case ["diffusers" | "transformers" as library, str(name)]:
                kind = getattr({"diffusers": diffusers, "transformers": transformers}[library], name, None)
                if isinstance(kind, type) and issubclass(kind, torch.nn.Module):
                    yield part, kind


def _open_part(
    kind: Any, folder: Path, part: str, name: str, dtype: torch.dtype, allow_pickle: bool
) -> torch.nn.Module:
    """Diffusers would open it too, but tell nobody what its checkpoint lacks."""
    library = kind.__module__.partition(".")[0]
    place = folder / part if (folder / part).is_dir() else folder
    try:
        said = {"torch_dtype" if library == "diffusers" else "dtype": dtype}
        return weights.load(kind, place, f"The {part} of the model {name}", allow_pickle=allow_pickle, **said)
    except FigmentError:
        raise
    except Exception as error:
        version = diffusers.__version__ if library == "diffusers" else transformers.__version__
        raise FigmentError(
            f"The {part} of the model {name} cannot be opened by {library} {version}: {' '.join(str(error).split())}"
        ) from error


def _image(image: np.ndarray) -> np.ndarray | None:
    """``float32 (H, W, C)`` in [0, 1] to ``uint8 (H, W, 3)``; None where it is not finite."""
    if not np.isfinite(image).all():
        return None
    pixels = (image * 255).round().astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No loading bars, and errors only: a run of a million images has its own progress bar."""
    logs = (diffusers.utils.logging, transformers.utils.logging)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what diffusers will rename is no concern of the user's
            yield
    finally:
        for log, (verbosity, bar) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bar:
                log.enable_progress_bar()
