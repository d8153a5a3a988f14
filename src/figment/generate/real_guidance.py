"""Real guidance (He et al. 2023, section 4.2): generation starts from a noised real image instead of from noise alone.

How much noise is what matters, and it is told as alpha-bar, the share of the signal's power that is left, because steps
and strengths mean different amounts in different schedules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from figment.generate.placing import computes_on
from figment.generate.real_guidance_settings import RealGuidanceSettings, t_star_of_shots

GLIDE_STEPS = 1000


def glide_alpha_bars() -> np.ndarray:
    """Alpha-bar of GLIDE's base model at each of its 1000 steps, float64 (1000,): the capped squared-cosine schedule."""
    t = np.arange(GLIDE_STEPS + 1) / GLIDE_STEPS
    signal = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - signal[1:] / signal[:-1], 0.999))


def alpha_bar_of_t_star(t_star: int) -> float:
    """Alpha-bar at the paper's t*, in [1, 100]: the noise is that of respaced step t* - 1."""
    return float(glide_alpha_bars()[round((t_star - 1) * (GLIDE_STEPS - 1) / 99)])


def alpha_bar_of_shots(shots: int) -> float:
    """The paper's amount of noise for so many shots a class; see :func:`t_star_of_shots`."""
    return alpha_bar_of_t_star(t_star_of_shots(shots))


def asked_alpha_bar(settings: RealGuidanceSettings) -> float:
    """The share of the real image that resolved settings ask for."""
    if settings.alpha_bar is not None:
        return settings.alpha_bar
    assert settings.t_star is not None
    return alpha_bar_of_t_star(settings.t_star)


def alpha_bars(scheduler: Any) -> np.ndarray:
    """Alpha-bar at each of a diffusers scheduler's timesteps, as set by ``set_timesteps``: float64 (timesteps,), rising.

    For flow matching, where a step mixes ``(1 - sigma) * x + sigma * noise``, it is the share with the same
    signal-to-noise ratio.
    """
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None:
        return np.asarray(scheduler.alphas_cumprod, np.float64)[np.asarray(scheduler.timesteps)]
    sigmas = np.asarray(sigmas, np.float64)[: len(scheduler.timesteps)]
    flow = getattr(scheduler, "alphas_cumprod", None) is None or scheduler.config.get("use_flow_sigmas")
    signal = 1 - sigmas if flow else np.ones_like(sigmas)  # else x + sigma * noise, to a factor
    return signal**2 / (signal**2 + sigmas**2)


@dataclass(frozen=True)
class Start:
    """Where image-to-image starts: the ``steps`` left of the schedule, the ``strength`` that says so, and alpha-bar there."""

    steps: int
    strength: float
    alpha_bar: float


def start_of(pipe: Any, num_inference_steps: int, settings: RealGuidanceSettings, **schedule: Any) -> Start:
    """Where a diffusers image-to-image pipeline starts with these settings, which must be resolved.

    Of the schedule's steps the one with the nearest signal-to-noise ratio is taken, in logarithms. ``schedule`` is what
    the pipeline tells ``set_timesteps`` besides the number of steps. At least one step is left.
    """
    scheduler = pipe.scheduler
    how_many = {} if "sigmas" in schedule else {"num_inference_steps": num_inference_steps}
    scheduler.set_timesteps(**how_many, **schedule)
    own = alpha_bars(scheduler)[:: getattr(scheduler, "order", 1)][:num_inference_steps]
    if settings.mapping == "naive":
        assert settings.t_star is not None
        first = len(own) - max(1, len(own) * settings.t_star // 100)
    else:
        first = nearest_step(own, asked_alpha_bar(settings))
    steps = len(own) - first
    return Start(steps, strength_for(pipe, len(own), steps), float(own[first]))


def nearest_step(own: np.ndarray, alpha_bar: float) -> int:
    """Which of a schedule's ``alpha_bars`` (steps,) is nearest in the logarithm of the signal-to-noise ratio."""
    log_snr = lambda a: np.log(np.clip(a, 1e-9, 1 - 1e-9) / np.clip(1 - a, 1e-9, 1 - 1e-9))
    return int(np.abs(log_snr(own) - log_snr(np.float64(alpha_bar))).argmin())


def strength_for(pipe: Any, num_inference_steps: int, steps: int) -> float:
    """The ``strength`` with which a diffusers image-to-image pipeline takes so many of its steps.

    Some pipelines round the steps they take, others those they leave out; both also trip over the last digit of a float.
    """
    tries = [share / num_inference_steps for share in (steps, min(steps + 0.5, num_inference_steps), steps - 0.5)]
    return next(s for s in tries if pipe.get_timesteps(num_inference_steps, s, computes_on(pipe))[1] == steps)


def crop_to(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of an image, as large as the shape allows: ``uint8 (H, W, 3)`` to ``uint8 (height, width, 3)``, bicubic.

    The authors resize the shorter side and do not crop, which a model of images of one shape cannot take.
    """
    if image.shape[:2] == (height, width):
        return image
    h, w, _ = image.shape
    tall, wide = min(h, max(1, round(w * height / width))), min(w, max(1, round(h * width / height)))
    top, left = (h - tall) // 2, (w - wide) // 2
    cut = Image.fromarray(image[top : top + tall, left : left + wide])
    return np.array(cut.resize((width, height), Image.Resampling.BICUBIC))
