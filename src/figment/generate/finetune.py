"""A generator tuned on real images: a LoRA (DataDream, Kim et al., ECCV 2024), or all of its denoiser (Azizi et al. 2023).

Low-rank changes to the attention of the denoiser and of the text encoders (LoRA, by peft), or the denoiser's own weights, are
trained with the pipeline's own loss on the real images there are, each under a caption that names its class.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from figment import machine
from figment.checkpoint import Checkpoint
from figment.checkpoint_bytes import NAME as CHECKPOINT
from figment.device import free_memory
from figment.errors import FigmentError, missing_extra
from figment.files import (
    as_path,
    clear,
    is_remote,
    leftovers,
    load_json,
    lock,
    read_bytes,
    read_json,
    remove,
    write_atomic,
    write_json,
)
from figment.generate import denoiser
from figment.generate.captions import captions_of
from figment.generate.denoiser import Denoiser
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.finetune_settings import FinetuneSettings
from figment.generate.lora import UP, WEIGHTS, Lora, pack
from figment.generate.lora_training import FULL_SECONDS, Learner, learn, seconds_a_step
from figment.generate.training.families import trained
from figment.generate.training.loop import Share, first_says, is_first
from figment.progress import progress
from figment.records import Record, Written, fingerprint
from figment.tracking import Tracker, curves
from figment.types import Images

LOSS = "loss.json"
LATENTS = "latents"  # of a large set, while it is trained on
CURVE = 100  # points of the loss that are kept


def finetune(
    generator: DiffusersGenerator,
    images: Images,
    class_names: Sequence[str],
    settings: FinetuneSettings | None = None,
    *,
    folder: Path | str,
    seed: int = 0,
    checkpoint_steps: int | None = None,
    captions: Sequence[str] | None = None,
    validation: Validation | None = None,
) -> DiffusersGenerator:
    """The generator tuned on labelled images; ``generator`` itself stays as it is.

    The weights come to lie in ``folder``, in a folder that is named after everything they depend on: what is finished
    there is not trained again, and what was interrupted goes on from its last checkpoint, to the same weights. Where they
    are is said by ``.lora.folder`` of the result, which ``DiffusersGenerator(lora=...)`` takes later, and
    ``pipe.load_lora_weights`` of diffusers; with ``method: full`` by ``.denoiser.folder``, for ``DiffusersGenerator(denoiser=...)``.

    ``captions`` say what each image shows; None = its class, in the settings' template. ``validation`` chooses among the weights of
    every ``validate_steps``.

    A checkpoint is written every ``checkpoint_steps``; None = every 100 of a LoRA, and every ten minutes of a whole denoiser.

    Raises FigmentError for a pipeline of another family than Stable Diffusion 1 to 3, SDXL and Flux, for all of Flux, without peft, and where
    there is nothing to learn from.
    """
    names, settings = tuple(class_names), settings or FinetuneSettings()
    if captions is None and settings.has_own_captions:
        captions = captions_of(images, names, settings)
    given = None if captions is None else tuple(captions)
    finetuning = Finetuning(generator, images, names, settings, as_path(folder), seed, given, validation)
    finetuning.train(checkpoint_steps)
    return finetuning.tuned


@dataclass(frozen=True)
class Validation:
    """How far generated images, uint8 (H, W, 3) each, are from real ones that nothing learns from; less is better. ``fingerprint`` is of
    these, and of how it is measured."""

    distance: Callable[[Sequence[np.ndarray]], float]
    fingerprint: str


@dataclass(frozen=True)
class Finetuning:
    """A tuning that is planned: what it will be called and whether it can be done, before it costs anything."""

    generator: DiffusersGenerator
    images: Images
    class_names: tuple[str, ...]
    settings: FinetuneSettings
    root: Path
    seed: int = 0
    captions: tuple[str, ...] | None = None  # of each image; None = its class in the template
    validation: Validation | None = None
    track: Tracker | None = None

    @cached_property
    def record(self) -> Record:
        """Of the weights, in a folder that is called by everything they depend on."""
        g = self.generator
        size = {"height": g.height, "width": g.width, "dtype": g.settings["dtype"]}
        settings = {"finetune": self.settings.learned, **size, "class_names": self.class_names, "seed": self.seed}
        shown = [list(self.images.digests), np.asarray(self.images.labels).tolist()]
        inputs = {"model": g.model_fingerprint, "images": fingerprint(shown)}
        if self.captions is not None:
            inputs["captions"] = fingerprint(self.captions)
        if self.validation is not None:
            inputs["validation"] = self.validation.fingerprint
            settings["judged"] = g.plain.settings  # how the images were made by which the weights were chosen
        identity = Record(self.root, "finetune", settings, inputs)
        return Record(self.root / identity.fingerprint, "finetune", settings, inputs)

    @property
    def lora(self) -> Lora:
        """What will come of it."""
        trained, model = self.record.fingerprint, self.generator.model_fingerprint
        return Lora(self.record.folder, model, self.settings.per_class, trained, self.settings.scale)

    @property
    def tuned(self) -> DiffusersGenerator:
        """The generator with it. Its fingerprint is known before there are weights."""
        tuned = copy(self.generator)
        if self.settings.method == "full":
            record, model = self.record, self.generator.folder.fingerprint
            tuned.denoiser = Denoiser(record.folder, record.fingerprint, model, tuned=True, part=self.part)
        else:
            tuned.lora = self.lora
        return tuned

    @cached_property
    def part(self) -> str:
        """The denoiser's name in the pipeline. Raises FigmentError for one that does not learn."""
        index = load_json(self.generator.folder.path / "model_index.json", "model configuration")
        return trained(index["_class_name"], self.generator.folder.name).denoiser

    def file(self, label: int) -> Path:
        """The weights for images of a class."""
        if self.settings.method == "full":
            return self.record.folder / self.part / denoiser.WEIGHTS
        return self.lora.file(label)

    def files(self, label: int) -> list[Path]:
        """All that a training leaves of a class, the weights first."""
        path = self.file(label)
        config = [path.with_name(denoiser.CONFIG)] if self.settings.method == "full" else []
        return [path, path.with_name(LOSS), *config]

    @property
    def parts(self) -> dict[int, np.ndarray]:
        """Label -> the images its LoRA learns from; 0 -> all, where there is one for all classes."""
        labels = np.asarray(self.images.labels)
        if not self.settings.per_class:
            return {0: np.arange(len(labels))}
        return {label: np.flatnonzero(labels == label) for label in range(len(self.class_names))}

    @property
    def total_steps(self) -> int:
        return sum(self.settings.steps_of(len(part)) for part in self.parts.values())

    def check(self) -> None:
        """Raise FigmentError for what would go wrong later. Opens no model."""
        if not len(self.images):
            raise FigmentError(
                "There are no real images to tune the generator on. Set task.real.train, or leave generate.finetune out."
            )
        lacking = [self.class_names[label][:40] for label, own in self.parts.items() if not len(own)]
        if lacking:
            raise FigmentError(
                f"There are no real images to tune a generator on of: {', '.join(lacking[:10])}. Give some of every class,"
                " or set finetune.per_class: false, which learns from all classes together."
            )
        if self.captions is not None and len(self.captions) != len(self.images):
            raise FigmentError(
                f"There are {len(self.captions):,} captions for {len(self.images):,} images to tune the generator on. Give one for each."
            )
        if self.settings.validate_steps is not None and self.validation is None:
            raise FigmentError(
                "finetune.validate_steps measures the distance to validation images, and there is none to measure. Give finetune a"
                " validation, or leave validate_steps out."
            )
        few = min(self.settings.steps_of(len(own)) for own in self.parts.values())
        if self.settings.warmup_steps >= few:
            raise FigmentError(
                f"finetune.warmup_steps is {self.settings.warmup_steps}, and there are only {few} steps of training. Lower it,"
                " or raise finetune.epochs."
            )
        changed = "denoiser puts another in its place" if self.generator.denoiser else "loras change it"
        if self.settings.method == "full" and (self.generator.denoiser or self.generator.loras):
            raise FigmentError(
                f"generate.finetune with method: full trains the model's own denoiser, and generate.{changed}."
                " Leave one of them out, or set finetune.method: lora."
            )
        self._check_family()
        if self.settings.method == "lora" and importlib.util.find_spec("peft") is None:
            raise missing_extra("peft", "finetune")

    def _check_family(self) -> None:
        """Raise FigmentError for a pipeline that does not learn, or not so."""
        index = load_json(self.generator.folder.path / "model_index.json", "model configuration")
        name, model = index["_class_name"], self.generator.folder.name
        family = trained(name, model)
        if self.settings.method == "full" and family.only_lora:
            raise FigmentError(
                f"generate.finetune with method: full trains all of a denoiser, and that of {model} ({family.name}) learns LoRAs alone:"
                " all of it, with gradients and moments, is more than a GPU holds. Set finetune.method: lora."
            )
        if self.settings.min_snr_gamma is not None and family.flow:
            raise FigmentError(
                f"finetune.min_snr_gamma weighs the noise levels of diffusion, and {model} ({family.name}) learns a flow, which is told"
                " more often of the levels that matter. Leave it out."
            )

    @property
    def seconds_a_step(self) -> float:
        """About what one will take, timed on two. Opens the model; raises FigmentError where it does not learn."""
        return seconds_a_step(self.generator, self.settings)

    @property
    def judged_images(self) -> int:
        """How many are generated to choose among the weights."""
        every = self.settings.validate_steps
        return 0 if every is None else -(-self.total_steps // every) * self.settings.validate_images

    def is_complete(self) -> bool:
        """Whether there is nothing left to train."""
        return self.record.is_finished() and all(self.file(label).is_file() for label in self.parts)

    def train(self, checkpoint_steps: int | None = None, on: Share | None = None) -> None:
        """Train what is missing; see :func:`finetune`. With ``on`` this is one of many processes, which all come here and train together;
        the first of them holds the folder and writes."""
        if first_says(on, self.is_complete()):
            return
        self.check()
        # Parts of a job array start together, and one of them trains: the others wait.
        with lock(self.record.folder, wait=True) if is_first(on) else nullcontext():
            if not first_says(on, self.is_complete()):
                self._train(checkpoint_steps, on)

    def _train(self, checkpoint_steps: int | None, on: Share | None) -> None:
        meter, writes = machine.Meter(), is_first(on)
        if writes:
            self._clean()
        learner = None
        shown = progress("tune generator", self.total_steps, "steps") if writes else nullcontext(lambda steps: None)
        with shown as advance:
            for label, own in self.parts.items():
                path, steps = self.file(label), self.settings.steps_of(len(own))
                if first_says(on, all(file.is_file() for file in self.files(label))):
                    advance(steps)
                    continue
                learner = learner or self._learner(on)
                name = f"finetune {label}"
                checkpoint = Checkpoint(
                    path.with_name(CHECKPOINT), name, seconds=FULL_SECONDS, writes=writes, keeps_previous=True
                )
                judge = None if self.validation is None else self.validation.distance
                identity = fingerprint([self.record.fingerprint, label])
                drawn = curves(self.track if writes else None, name, identity, self.root.parent)
                done = learn(learner, own, steps, name, self.seed, checkpoint, checkpoint_steps, advance, judge, drawn)
                if writes:
                    write_json(path.with_name(LOSS), _curve(done.losses, done.scores))
                    for file, data in self._packed(learner).items():
                        write_atomic(path.with_name(file), data)  # the weights last: what is there is finished
                    checkpoint.forget()
        if writes:
            self._finish(meter)
        first_says(on, True)  # nobody goes on before the weights are there
        del learner
        free_memory(self.generator.device)  # for those who make the images

    def _clean(self) -> None:
        """Take away what a killed training left half written."""
        for folder in {self.record.folder, *(self.file(label).parent for label in self.parts)}:
            for old in leftovers(folder):
                remove(old)
        if self.settings.method == "full" and not is_remote(self.record.folder):
            self.file(0).parent.mkdir(exist_ok=True)  # tells status what this is, long before there is a checkpoint

    def _learner(self, on: Share | None) -> Learner:
        """The first process encodes the images before the others do: where it keeps that on disk, they find it there."""
        captions = self.captions or captions_of(self.images, self.class_names, self.settings)
        given = self.generator, self.images, captions, self.settings, self.record.folder / LATENTS, on
        first = Learner(*given) if is_first(on) else None
        first_says(on, True)
        return first or Learner(*given)

    def _packed(self, learner: Learner) -> dict[str, bytes]:
        """What is finished as files. alpha / rank is multiplied into a LoRA, so that no reader has to know it."""
        if self.settings.method == "full":
            return {Path(name).name: data for name, data in denoiser.pack(learner.denoiser).items()}
        factor = self.settings.alpha / self.settings.rank
        weights = {name: w * factor if name.endswith(UP) else w for name, w in learner.weights.items()}
        return {WEIGHTS: pack(weights)}

    def _finish(self, meter: machine.Meter) -> None:
        recorded: dict[str, Written] = {}
        losses: dict[str, Any] = {}
        for label in self.parts:
            files = self.files(label)
            own = {p.relative_to(self.record.folder).as_posix(): Written.of(read_bytes(p)) for p in files}
            recorded |= own
            told = read_json(files[1])
            losses[next(iter(own))] = told["loss"]
        what = "denoisers" if self.settings.method == "full" else "loras"
        counts = {"images": len(self.images), "steps": self.total_steps, what: len(self.parts)}
        judged = {"frechet": told["frechet"]} if "frechet" in told else {}
        clear(self.record.folder / LATENTS, "*.safetensors")  # first: what is finished is not looked at again
        self.record.finish(recorded, counts=counts, loss=losses, **judged, **meter.record())


def _curve(losses: Sequence[float], scores: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """The loss over the training, as means of at most :data:`CURVE` equal parts, and the distance after each number of steps at which it
    was measured."""
    parts = np.array_split(losses, min(CURVE, len(losses)))
    curve: dict[str, Any] = {"steps": len(losses), "loss": [round(float(part.mean()), 6) for part in parts]}
    if scores:
        curve["frechet"] = {"chosen": min(scores, key=lambda s: s[1])[0], "curve": [list(score) for score in scores]}
    return curve
