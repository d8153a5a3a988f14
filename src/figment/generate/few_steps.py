"""What a pipeline samples with where nobody says, and models distilled to a few steps, which other settings ruin."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from figment.errors import FigmentError
from figment.generate.guidance import config_of, defaults_of, guidance_of


@dataclass(frozen=True)
class FewSteps:
    """Settings that a kind of distilled model was made for. A ``guidance`` of at most 1 means that it takes none."""

    num_inference_steps: int  # where nothing is said
    most: int  # more make no better images, or worse ones
    guidance_scale: float  # where nothing is said
    guidance: tuple[float, float]
    schedulers: tuple[str, ...] = ()  # that its steps were learnt for; () = it has no say in that


#: Adversarial diffusion distillation (Sauer et al. 2023): SD-Turbo, SDXL-Turbo, Stable Diffusion 3.5 Turbo.
TURBO = FewSteps(4, 4, 0.0, (0, 1))
#: Progressive adversarial distillation (Lin et al. 2024): one set of weights for each number of steps, the largest 8.
LIGHTNING = FewSteps(4, 8, 0.0, (0, 1))
#: FLUX.1-schnell, FLUX.2-klein where it is distilled; they have no input for a scale.
SCHNELL = FewSteps(4, 4, 0.0, (0, 1))
#: Sana-Sprint (Chen et al. 2025). The scale is a number that it is told.
SPRINT = FewSteps(2, 4, 4.5, (0, math.inf), ("SCMScheduler",))
#: Latent consistency models (Luo et al. 2023), told a scale between 2 and 14 in training; others of them learnt one scale.
TOLD_LCM = FewSteps(4, 8, 8.0, (2, 14), ("LCMScheduler", "TCDScheduler"))
LCM = FewSteps(4, 8, 1.0, (0, 2), ("LCMScheduler", "TCDScheduler"))
#: Hyper-SD (Ren et al. 2024), and its weights that were distilled with guidance left in (``...-CFG-lora``).
HYPER = FewSteps(4, 8, 0.0, (0, 1), ("DDIMScheduler", "TCDScheduler"))
HYPER_CFG = FewSteps(8, 16, 5.0, (1, 8))
#: Z-Image-Turbo: decoupled distribution matching. Of nine steps diffusers' scheduler made eight passes before it was mended.
Z_TURBO = FewSteps(9, 9, 0.0, (0, 1))
#: Words of a name, how the pipeline's class begins, what it is. The first that fits counts.
WORDS = (
    ({"turbo"}, "StableDiffusion", TURBO),
    ({"turbo"}, "ZImage", Z_TURBO),
    ({"lightning"}, "StableDiffusion", LIGHTNING),
    ({"schnell"}, "Flux", SCHNELL),
    ({"hyper", "cfg"}, "StableDiffusion", HYPER_CFG),
    ({"hyper"}, "StableDiffusion", HYPER),
)


def few_steps(folder: Path, name: str, index: Mapping[str, Any], loras: Sequence[str] = ()) -> FewSteps | None:
    """Of a pipeline's folder: by its class and its configuration, else by a word in its name; None = of no such kind.

    ``index`` is its model_index.json. ``name`` is as the user wrote it: ``stabilityai/sdxl-turbo`` has the word ``turbo``. ``loras``
    are names of those that are merged into it: LCM-LoRA and SDXL-Lightning's make a model of few steps of any other.
    """
    kind, scheduler = index["_class_name"], index["scheduler"][1]
    if kind.startswith("SanaSprint"):
        return SPRINT
    if kind.startswith("Flux") and not guidance_of(index, folder).arguments:
        return SCHNELL
    named = [name, str(index.get("_name_or_path", "")), *loras]
    words = {word for one in named for word in re.split(r"[^a-z0-9]+", _last(one).lower())}
    if not any(re.fullmatch(r"sd\w*|\d+steps?", word) for word in words):
        words.discard("hyper")  # of a model that is hyper-realistic
    if kind.startswith("LatentConsistency") or scheduler == "LCMScheduler" or "lcm" in words:
        return TOLD_LCM if config_of(folder / "unet").get("time_cond_proj_dim") else LCM
    return next((own for asked, begins, own in WORDS if asked <= words and kind.startswith(begins)), None)


def _last(name: str) -> str:
    """The last part of a path or Hub id; of a folder in the Hub's own cache, which ends in a hash, the model's name."""
    parts = name.replace("\\", "/").strip("/").split("/")
    cached = [part for part, below in pairwise(parts) if part.startswith("models--") and below == "snapshots"]
    return cached[-1].rpartition("--")[2] if cached else parts[-1]


def own_steps(index: Mapping[str, Any], few: FewSteps | None) -> int:
    """``num_inference_steps`` that a pipeline has for its own: what it was distilled for, else the default of its class in diffusers."""
    if few is not None:
        return few.num_inference_steps
    name = index["_class_name"]
    steps = defaults_of(name).get("num_inference_steps")
    if not isinstance(steps, int):
        raise FigmentError(f"The {name} has no number of steps of its own. Set num_inference_steps to a number.")
    return steps


def warnings_of(
    model: str, few: FewSteps, num_inference_steps: int, guidance_scale: float, scheduler: str | None
) -> list[str]:
    """One sentence with those of the settings that a model was not distilled for, each with what it takes; none where all are good."""
    (low, high), wrong = few.guidance, []
    if num_inference_steps > few.most:
        wrong.append(f"num_inference_steps is {num_inference_steps} (it takes 1 to {few.most})")
    if not low <= guidance_scale <= high:
        takes = "no guidance: 0 or 1" if high <= 1 else f"{low:g} to {high:g}"
        wrong.append(f"guidance_scale is {guidance_scale:g} (it takes {takes})")
    if few.schedulers and scheduler not in (None, *few.schedulers):
        wrong.append(f"scheduler is {scheduler} (it takes {' or '.join(few.schedulers)})")
    said = f"{model} was distilled to a few steps, and its images suffer: {'; '.join(wrong)}. null stands for its own steps and scale"
    return [said] if wrong else []
