"""A denoiser that makes images in one to four passes, from one that takes dozens: distillation, without any data.

The teacher is sampled once for each caption, from noise to image, with guidance; what it passes through on the way is its
trajectory. The student starts as the teacher, and learns to go along it in longer steps, in one pass each: it is told the guidance
scale as a number (Meng et al. 2023), which diffusers' pipelines do for a UNet with ``time_cond_proj_dim``. A step's end is the
teacher's next point (progressive distillation, Salimans and Ho 2022, from many steps to few in one go) or its image (consistency,
Song et al. 2023, with the teacher's solver in place of a moving target).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler
from torch import Tensor

from figment.checkpoint import Checkpoint
from figment.errors import FigmentError
from figment.files import as_path, clear, lock
from figment.generate.denoiser import SCHEDULER, pack
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.seeds import sample_seed
from figment.generate.training.conditions import Conditions, as_dtype, both, guidance_embedding
from figment.generate.training.denoise import Captions, batch_of, steps_an_epoch
from figment.generate.training.loop import Advice, Step, Training, resume
from figment.generate.training.noise import Noise
from figment.generate.training.settings import DistilSettings
from figment.progress import progress
from figment.records import Record, fingerprint, read

GUIDANCE_DIM = 256  # of the embedding of the guidance scale, as LCM has it
MEMORY = "distilling on {} trajectories at a time. Lower batch_size."
SIGMA_DATA, TIMESTEP_SCALING = 0.5, 10.0  # of diffusers' LCMScheduler: how little of its input a consistency step keeps


@dataclass(frozen=True)
class Trajectories:
    """Of n captions, with the points as the student meets them, from noise to image."""

    points: Tensor  # float32 (P + 1, n, C, h, w)
    times: Tensor  # int64 (P,) of all points but the last, which has no noise
    guidance: Tensor  # float32 (n,)
    texts: list[str]


class Teacher:
    """A pipeline that shows how it comes from noise to images."""

    def __init__(self, generator: DiffusersGenerator, settings: DistilSettings):
        pipe, model, self.size = generator.pipe, generator.folder.name, generator.size()
        self.conditions = Conditions(pipe, self.size)
        self.pipe, self.settings, self.noise = pipe, settings, Noise.of(pipe.scheduler, model)
        self.solver = solver(pipe.scheduler)
        if pipe.unet.config.time_cond_proj_dim is not None:
            raise FigmentError(f"{model} is told its guidance scale as a number: it has been distilled already.")
        if len(self.noise.alphas_cumprod) % settings.points:
            raise FigmentError(
                f"points is {settings.points}, and the {len(self.noise.alphas_cumprod)} times of {model} cannot be divided by it."
                " Choose 1, 2, 4 or 8."
            )

    @torch.no_grad()  # not inference mode: the student learns from the texts that it encodes
    def show(self, texts: Sequence[str], seed: int) -> Trajectories:
        """One for each text, with guidance scales and noise from ``seed``."""
        draws, unet, n = torch.Generator().manual_seed(seed), self.pipe.unet, len(texts)
        low, high = self.settings.guidance
        guidance = low + (high - low) * torch.rand(n, generator=draws)
        height, width = (side // self.pipe.vae_scale_factor for side in self.size)
        x = torch.randn(n, unet.config.in_channels, height, width, generator=draws).to(unet.device)
        condition = both(self.conditions.without_text(n), self.conditions(texts))
        scale = guidance.to(x.device).view(-1, 1, 1, 1)
        self.solver.set_timesteps(self.settings.points * self.settings.solver_steps, device=x.device)
        points, times = [x], self.solver.timesteps
        for t in times:
            said = unet(torch.cat([x, x]).to(unet.dtype), t, **condition).sample.float()
            without, told = said.chunk(2)
            x = self.solver.step(without + scale * (told - without), t, x).prev_sample
            points.append(x)
        kept = torch.stack(points[:: self.settings.solver_steps]).cpu()
        return Trajectories(kept, times[:: self.settings.solver_steps].cpu(), guidance, list(texts))


def solver(own: Any) -> Any:
    """The solver of the teacher, on its own noise: of second order, its first time the last of training."""
    asked = {
        "timestep_spacing": "trailing",
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "final_sigmas_type": "zero",
    }
    names = inspect.signature(DPMSolverMultistepScheduler.__init__).parameters
    other_times = {name: False for name in names if name.startswith("use_")}  # Karras' sigmas and the like
    return DPMSolverMultistepScheduler.from_config(own.config, **{**other_times, **asked})


def student_scheduler(own: Any, settings: DistilSettings) -> Any:
    """What the student samples with, on the noise of the pipeline's ``own`` scheduler."""
    common = {"clip_sample": False, "set_alpha_to_one": True}
    if settings.method == "progressive":
        return DDIMScheduler.from_config(own.config, timestep_spacing="trailing", **common)
    return LCMScheduler.from_config(own.config, original_inference_steps=settings.points, **common)


def student_of(unet: Any) -> Any:
    """A copy of a UNet, in float32, that is also told the guidance scale; as yet it does not listen."""
    config = {**unet.config, "time_cond_proj_dim": GUIDANCE_DIM}
    student = type(unet).from_config(config).to(unet.device, memory_format=torch.channels_last)
    student.load_state_dict({**student.state_dict(), **{n: w.float() for n, w in unet.state_dict().items()}})
    torch.nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student


class Distilling:
    """The loss: how far the student's steps end from where the teacher's do."""

    def __init__(self, student: Any, shown: Trajectories, conditions: Conditions, noise: Noise, method: str):
        self.student, self.shown, self.conditions, self.noise, self.method = student, shown, conditions, noise, method

    def __call__(self, index: np.ndarray, seed: int) -> Tensor:
        """The mean () over the trajectories ``index`` (B,), each at one of its times, which follow from ``seed``."""
        shown, device = self.shown, self.student.device
        draws = torch.Generator().manual_seed(seed)
        at = torch.randint(len(shown.times), (len(index),), generator=draws)
        x, end, t = shown.points[at, index].to(device), self._ends(at, index).to(device), shown.times[at].to(device)
        guidance = guidance_embedding(shown.guidance[index].to(device), self.student.config.time_cond_proj_dim)
        # The texts come as the teacher encodes them, perhaps in half precision; the student is in float32 always.
        told = as_dtype(self.conditions([shown.texts[i] for i in index]), self.student.dtype)
        said = self.student(x, t, timestep_cond=guidance, **told).sample.float()
        error = (self.noise.latents_in(x, said, t) - end).square().mean((1, 2, 3))  # (B,)
        return (error * (self.noise.snr(t) + 1)).mean()  # as the error of v, whatever the student predicts

    def _ends(self, at: Tensor, index: np.ndarray) -> Tensor:
        """The latents (B, C, h, w) that a student must see at its points, for the sampler to end where it should."""
        points, last = self.shown.points, len(self.shown.times)
        t = self.shown.times[at]
        if self.method == "consistency":
            scaled = (t * TIMESTEP_SCALING).view(-1, 1, 1, 1)
            kept = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
            out = scaled / (scaled**2 + SIGMA_DATA**2).sqrt()
            return (points[last, index] - kept * points[at, index]) / out
        a, s = self.noise.scales(t)
        after = self.shown.times[(at + 1).clamp(max=last - 1)]
        a_next, s_next = self.noise.scales(after)
        is_last = (at + 1 == last).view(-1, 1, 1, 1)
        a_next, s_next = torch.where(is_last, 1.0, a_next), torch.where(is_last, 0.0, s_next)
        ratio = s_next / s
        return (points[at + 1, index] - ratio * points[at, index]) / (a_next - ratio * a)  # of DDIM's step, the inverse


def trajectories(teacher: Teacher, texts: Sequence[str], folder: Path, seed: int, identity: str) -> Trajectories:
    """One for each text, in a file a batch below ``folder``: those that are there are not made again."""
    made, size = [], teacher.settings.batch_size
    with progress("sample the teacher", len(texts), "trajectories") as advance:
        for start in range(0, len(texts), size):
            kept = Checkpoint(folder / f"{start:08d}.safetensors", identity)
            state = kept.read()
            if state is None:
                state = vars(_shown(teacher, texts[start : start + size], sample_seed(seed, "trajectories", start)))
                kept.write(state)
            made.append(Trajectories(**state))
            advance(len(made[-1].texts))
    points, guidance = torch.cat([one.points for one in made], 1), torch.cat([one.guidance for one in made])
    return Trajectories(points, made[0].times, guidance, list(texts))


def _shown(teacher: Teacher, texts: Sequence[str], seed: int) -> Trajectories:
    try:
        return teacher.show(texts, seed)
    except torch.OutOfMemoryError as error:
        raise FigmentError(f"Out of memory while {MEMORY.format(teacher.settings.batch_size)}") from error


def distil(
    generator: DiffusersGenerator,
    captions: Captions,
    settings: DistilSettings,
    *,
    folder: Path | str,
    seed: int = 0,
) -> Iterator[Step]:
    """Train a student of a generator; yields after each step, and leaves ``unet/`` and ``scheduler/`` in ``folder``.

    The generator stays as it is; of its settings only model, size, dtype and device count. ``captions`` is a list, or a callable of
    (number, generator of numbers): what images will be asked for with, as the student learns no others. What is finished is not
    trained again, and what was killed goes on from ``folder/.work``, to the same weights. ``DiffusersGenerator(denoiser=folder)``
    samples with it. Raises FigmentError for a pipeline that is not of Stable Diffusion's or SDXL's kind, and for one that is distilled.
    """
    folder, rng = as_path(folder), np.random.default_rng([seed, 1])
    texts = [
        captions(k, rng) if callable(captions) else captions[k % len(captions)] for k in range(settings.trajectories)
    ]
    size = {"height": generator.height, "width": generator.width, "dtype": generator.settings["dtype"]}
    inputs = {"model": generator.model_fingerprint, "captions": fingerprint(texts)}
    record = Record(folder, "distil", {"distil": settings.model_dump(), **size, "seed": seed}, inputs)
    work = folder / ".work"
    if record.is_finished():
        _clear(work)  # where it was killed just before
        return
    if read(folder).state != "none":
        raise FigmentError(
            f"{folder} holds what was made from other settings, captions or weights. Choose another folder."
        )
    with lock(folder, wait=True):
        if not record.is_finished():  # as it may be by now, where another process held the lock
            yield from _student(generator, settings, texts, record, work, seed)
    _clear(work)


def _student(
    generator: DiffusersGenerator,
    settings: DistilSettings,
    texts: Sequence[str],
    record: Record,
    work: Path,
    seed: int,
) -> Iterator[Step]:
    """Train it from where ``work`` left it, and write it and its record."""
    teacher = Teacher(generator.plain, settings)
    shown = trajectories(teacher, texts, work / "trajectories", seed, record.fingerprint)
    training, student = _training(teacher, shown, seed)
    yield from resume(training, Checkpoint(work / "checkpoint.safetensors", record.fingerprint))
    training.use_average()
    scheduler = student_scheduler(teacher.pipe.scheduler, settings).to_json_string().encode()
    files = {name: record.write(name, data) for name, data in {**pack(student), SCHEDULER: scheduler}.items()}
    counts = {"steps": len(training.losses), "trajectories": len(texts)}
    # What the student takes the denoiser's place in, whatever denoiser its teacher had.
    record.finish(files, counts=counts, loss=training.losses[-1], goes_with=generator.folder.fingerprint)


def _clear(work: Path) -> None:
    """Take away what only an unfinished distillation needs, and what a killed one left half written."""
    for folder in (work / "trajectories", work):
        clear(folder, "*.safetensors")


def _training(teacher: Teacher, shown: Trajectories, seed: int) -> tuple[Training, Any]:
    """At its start, and the student that it trains."""
    settings = teacher.settings
    teacher.pipe.unet.requires_grad_(False)
    student = student_of(teacher.pipe.unet).train()
    loss = Distilling(student, shown, teacher.conditions, teacher.noise, settings.method)
    everything = np.arange(len(shown.texts))

    def loss_of(step: int) -> Tensor:
        return loss(batch_of(everything, settings.batch_size, step, seed), sample_seed(seed, "distil", step))

    mend = "Lower learning_rate, raise warmup_steps, or use precision: float32."
    epoch = steps_an_epoch(len(everything), settings.batch_size)
    advice = Advice("The distillation", mend, MEMORY.format(settings.batch_size), epoch)
    return Training(dict(student.named_parameters()), loss_of, settings, advice), student
