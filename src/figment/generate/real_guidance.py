"""Real guidance (He et al. 2023, section 4.2): generation starts from a noised real picture instead of from noise alone.

How much noise is what matters, and it is told as alpha-bar, the share of the signal's power that is left, because steps
and strengths mean different amounts in different schedules.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from figment.errors import FigmentError

#: The paper's t*, of 100 respaced steps of GLIDE's cosine schedule, by the number of shots.
T_STAR = {16: 15, 8: 20, 4: 35, 2: 40, 1: 50}
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
    """The paper's amount of noise for so many shots a class: the more there are, the closer to them it stays.

    Between the five published numbers of shots, t* is interpolated over log2(shots); beyond them the nearest is taken.
    """
    known = sorted(T_STAR)
    t_star = np.interp(np.log2(max(shots, 1)), np.log2(known), [T_STAR[k] for k in known])
    return alpha_bar_of_t_star(round(float(t_star)))


def alpha_bars(scheduler: Any) -> np.ndarray:
    """Alpha-bar at each of a diffusers scheduler's timesteps, as set by ``set_timesteps``: float64 (steps,), rising.

    For flow matching, where a step mixes ``(1 - sigma) * x + sigma * noise``, it is the share with the same
    signal-to-noise ratio.
    """
    if getattr(scheduler, "alphas_cumprod", None) is not None:
        table = np.asarray(scheduler.alphas_cumprod, np.float64)
        steps = np.asarray(scheduler.timesteps, np.float64)
        return np.interp(steps, np.arange(len(table)), table)
    sigmas = np.asarray(scheduler.sigmas, np.float64)[: len(scheduler.timesteps)]
    return (1 - sigmas) ** 2 / ((1 - sigmas) ** 2 + sigmas**2)


def strength_for(
    scheduler: Any, num_inference_steps: int, alpha_bar: float, device: Any = "cpu"
) -> tuple[float, float]:
    """The ``strength`` that makes a diffusers image-to-image pipeline start nearest to ``alpha_bar``, and where it starts.

    Nearest in the logarithm of the signal-to-noise ratio. ``alpha_bar`` lies in (0, 1). Raises FigmentError outside.
    """
    if not 0 < alpha_bar < 1:
        raise FigmentError(
            f"alpha_bar is {alpha_bar}; it is the share of the real picture's power that is left, between 0 (noise) and 1 (the picture itself)."
        )
    scheduler.set_timesteps(num_inference_steps, device=device)
    own = alpha_bars(scheduler)
    steps = len(own) // getattr(scheduler, "order", 1)
    log_snr = lambda a: np.log(np.clip(a, 1e-9, 1 - 1e-9) / np.clip(1 - a, 1e-9, 1 - 1e-9))
    first = int(
        np.abs(log_snr(own[:: getattr(scheduler, "order", 1)][:steps]) - log_snr(np.float64(alpha_bar))).argmin()
    )
    # The pipelines take int(steps * strength) steps; half a step more keeps rounding from losing one.
    return min(1.0, (steps - first + 0.5) / steps), float(own[first * getattr(scheduler, "order", 1)])


def square(image: np.ndarray, side: int) -> np.ndarray:
    """The middle of a picture as a square: ``uint8 (H, W, 3)`` to ``uint8 (side, side, 3)``, bicubic.

    The authors resize the shorter side and do not crop, which a model of square pictures cannot take.
    """
    height, width, _ = image.shape
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    cut = Image.fromarray(image[top : top + edge, left : left + edge])
    return np.array(cut.resize((side, side), Image.Resampling.BICUBIC))
