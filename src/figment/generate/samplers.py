"""Which scheduler a pipeline samples with. Each is tried with a nearly perfect denoiser before a single image is paid for.

The data of the trial are normal, so that what a perfect denoiser says is known in closed form; they lie about where latents and
pixels do. A scheduler that works gives them back. In few steps the best of them give back less than all of the spread, which
blurs; one that fails gives a multiple of it, another mean, or NaN.
"""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import numpy as np
import torch

from figment.errors import FigmentError, nearest

MEAN = 0.5
SPREADS = (
    0.5,
    0.1,
    0.02,
)  # of values of which nothing is known beforehand, of which much is, and of which nearly all is
EACH = 64  # values of each spread
TOLERANCE = 0.2  # what failed on the starter missed by .9 and more, and what worked by less than .15
#: What a network's answer is off by, in units of the noise: solvers that look twice a step multiply it where the steps are long.
OFF = 0.1
PREDICTIONS = ("epsilon", "v_prediction", "sample")  # "flow_prediction" has other sigmas


def scheduler_class(name: str) -> Any:
    """The class of diffusers. Raises FigmentError where there is none."""
    if not name.endswith("Scheduler") or not hasattr(diffusers, name):
        names = [n for n in dir(diffusers) if n.endswith("Scheduler")]
        raise FigmentError(
            f"diffusers has no scheduler {name!r}.{nearest(name, names)}"
            " Allowed are its class names, such as DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler,"
            " UniPCMultistepScheduler."
        )
    return getattr(diffusers, name)


def choose(own: Any, name: str | None, steps: int, model: str, tried: bool = True) -> Any:
    """The scheduler of this name with the noise schedule of the pipeline's ``own``, which None leaves as it is.

    Raises FigmentError for one that does not go with it and, if ``tried``, one that gives no images in so many steps.
    """
    # Of all compatible ones, this one alone draws its noise for the batch as a whole, from no seed of ours.
    allowed = sorted({c.__name__ for c in own.compatibles} - {"DPMSolverSDEScheduler"})
    if name not in (None, *allowed):
        raise FigmentError(
            f"The scheduler {name} does not go with this model's {type(own).__name__}. Allowed: {', '.join(allowed)}."
        )
    chosen = own if name is None else with_schedule_of(own, name)
    if tried and not works(chosen, steps, own):
        good = [n for n in allowed if _works_as(n, steps, own)]
        raise FigmentError(
            f"The {type(chosen).__name__} makes no images in {steps} steps on the noise schedule of {model}: it fails even with a"
            " model that knows the images. Set another num_inference_steps, "
            + (f"or one of these schedulers: {', '.join(good)}." if good else "of which no scheduler needs so few.")
        )
    return chosen


def works(scheduler: Any, steps: int, own: Any) -> bool:
    """Whether a diffusers scheduler gives back the data of the trial in so many steps, on the noise schedule of ``own``.

    One that cannot be tried so, as those of flow matching and of models that also predict a variance, is taken at its word.
    """
    config = scheduler.config
    flows = config.get("use_flow_sigmas", False) or config.get("prediction_type") not in PREDICTIONS
    if getattr(own, "alphas_cumprod", None) is None or flows:
        return True
    try:
        samples = _sample(scheduler, steps, _log_sigmas(own))
    except (
        ValueError,
        IndexError,
        NotImplementedError,
        ImportError,
    ):  # too few steps for it, or another prediction_type
        return False
    except (TypeError, AttributeError, RuntimeError):
        return True
    values = samples.double().view(len(SPREADS), EACH)
    off = (values.mean(1) - MEAN).abs()
    wide = values.std(1) - torch.tensor(SPREADS, dtype=torch.float64)
    return bool((torch.maximum(off, wide) <= TOLERANCE).all())  # not of NaN


def _works_as(name: str, steps: int, own: Any) -> bool:
    try:
        return works(with_schedule_of(own, name), steps, own)
    except (NotImplementedError, ValueError):  # one that cannot be configured so
        return False


def with_schedule_of(own: Any, name: str) -> Any:
    """A scheduler by its name, configured as a pipeline's own.

    DDIM and DDPM would clip latents to [-1, 1], as if they were pixels, where the configuration of another kind does not speak of it.
    """
    return scheduler_class(name).from_config(own.config, clip_sample=own.config.get("clip_sample", False))


def _sample(scheduler: Any, steps: int, log_sigmas: np.ndarray) -> torch.Tensor:
    """What a pipeline without guidance does: float32 (1, spreads, 8, 8)."""
    scheduler.set_timesteps(steps)
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(1, len(SPREADS), 8, EACH // 8, generator=draws) * scheduler.init_noise_sigma
    more = {"generator": draws} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for t in scheduler.timesteps:
        sigma = np.exp(np.interp(float(t), np.arange(len(log_sigmas)), log_sigmas))
        off = OFF * torch.randn(x.shape, generator=draws, dtype=torch.float64)
        said = _answer(scheduler.scale_model_input(x, t), sigma, scheduler.config.prediction_type, off)
        x = scheduler.step(said, t, x, **more).prev_sample
    return x


def _answer(x: torch.Tensor, sigma: float, prediction_type: str, off: torch.Tensor) -> torch.Tensor:
    """What a model that knows the data, up to ``off``, says of ``x = a x0 + b noise``, where b / a is ``sigma`` and a^2 + b^2 = 1."""
    a, b = (1 + sigma**2) ** -0.5, sigma * (1 + sigma**2) ** -0.5
    spread = torch.tensor(SPREADS, dtype=torch.float64).view(1, -1, 1, 1)
    x = x.double()
    x0 = MEAN + a * spread**2 * (x - a * MEAN) / (a**2 * spread**2 + b**2) + b * off
    noise = (x - a * x0) / b
    return {"epsilon": noise, "v_prediction": a * noise - b * x0, "sample": x0}[prediction_type].float()


def _log_sigmas(own: Any) -> np.ndarray:
    """Of each step of training, noise to signal; some schedules end in noise alone."""
    kept = np.clip(np.asarray(own.alphas_cumprod, np.float64), 1e-12, None)
    return 0.5 * np.log((1 - kept) / kept)
