"""Which scheduler a pipeline samples with, and how much noise it adds on the way. Each is tried with a nearly perfect denoiser before a single image is paid for.

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
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from figment.errors import FigmentError, nearest

MEAN = 0.5
SPREADS = (
    0.5,
    0.1,
    0.02,
)  # of values of which nothing is known beforehand, of which much is, and of which nearly all is
EACH = 64  # values of each spread
TOLERANCE = 0.2  # what failed on the starter missed by .9 and more, and what worked by less than .15
FEW = 10  # steps, whose distance is so large that the first one is far from the end for that alone
NOISY = 0.85  # of the timesteps of training; all of 11 to 165 steps cover it, whatever the spacing
#: Of these each step goes down by the timesteps of training over the number of steps, rounded down, wherever the next timestep lies.
ROUNDED = ("DDIMScheduler", "PNDMScheduler")
#: What a network's answer is off by, in units of the noise: solvers that look twice a step multiply it where the steps are long.
OFF = 0.1
#: Of distilled models, LCM-LoRA's among them. They go with the noise schedule of any diffusion, and the others do not name them.
DISTILLED = ("LCMScheduler", "TCDScheduler")
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


class LogVarianceDDPMScheduler(DDPMScheduler):
    """Ancestral sampling (DDPM) with a variance between its least and its greatest, mixed in logarithms.

    Each step adds noise of variance ``beta ** c * beta_tilde ** (1 - c)``, where ``c`` in [0, 1] is ``config.log_variance``: Azizi et
    al. 2023, section 3 (their log-variance coefficient), after Nichol & Dhariwal 2021, eq. 15. c = 0 is diffusers' ``fixed_small`` (the
    posterior's variance), c = 1 its ``fixed_large``. A step that skips some of training has the beta of all that it skips.
    """

    def _get_variance(self, t: int, *args: Any, **kwargs: Any) -> torch.Tensor:
        c = self.config["log_variance"]
        least, greatest = super()._get_variance(t, None, "fixed_small"), super()._get_variance(t, None, "fixed_large")
        return greatest**c * least ** (1 - c)


def choose(
    own: Any, name: str | None, steps: int, model: str, tried: bool = True, log_variance: float | None = None
) -> Any:
    """The scheduler of this name with the noise schedule of the pipeline's ``own``, which None leaves as it is.

    ``log_variance`` in [0, 1] is the coefficient of :class:`LogVarianceDDPMScheduler`, which takes DDPM's place. Raises FigmentError for one that does not go with it and, if ``tried``, one that gives no images in so many steps.
    """
    # Of all compatible ones, this one alone draws its noise for the batch as a whole, from no seed of ours.
    allowed = sorted({c.__name__ for c in own.compatibles} - {"DPMSolverSDEScheduler"})
    diffuses = getattr(own, "alphas_cumprod", None) is not None
    others = [n for n in DISTILLED if diffuses and n not in allowed]
    if name not in (None, *allowed, *others):
        raise FigmentError(
            f"The scheduler {name} does not go with this model's {type(own).__name__}. Allowed: {', '.join([*allowed, *others])}."
        )
    chosen = own if name is None else with_schedule_of(own, name)
    if log_variance is not None:
        chosen = LogVarianceDDPMScheduler.from_config(chosen.config, variance_type="fixed_small")
        chosen.register_to_config(log_variance=log_variance)
    if tried and not works(chosen, steps, own):
        trained = int(own.config.get("num_train_timesteps", steps))
        if steps > trained:  # to try all the others for so long would take minutes
            raise FigmentError(
                f"The {type(chosen).__name__} makes no images in {steps:,} steps: the noise schedule of {model} has {trained:,}. Set"
                f" num_inference_steps to {trained:,} or less."
            )
        good = [n for n in allowed if _works_as(n, steps, own)]
        raise FigmentError(
            f"The {type(chosen).__name__} makes no images in {steps} steps on the noise schedule of {model}: it fails even with a"
            " model that knows the images. "
            + ("Lower log_variance, or set" if log_variance else "Set")
            + " another num_inference_steps, "
            + (f"or one of these schedulers: {', '.join(good)}." if good else "of which no scheduler needs so few.")
        )
    if tried:
        _cover_the_noise(chosen, steps, own)
    return chosen


def _cover_the_noise(scheduler: Any, steps: int, own: Any) -> None:
    """Raise FigmentError for more steps that take away less noise than fewer do.

    diffusers rounds the distance of two timesteps down. With "leading" spacing, which Stable Diffusion's configurations ask for, it counts
    them from 0: of 1,000, 500 steps begin at 998 and 501 at 500, where the model takes pure noise for half an image. With any other
    one DDIM and PNDM begin at 999 and go down by the rounded distance, less than the model is told. The trial is too lenient to see it.
    """
    trained = int(own.config.get("num_train_timesteps", 0))
    if not trained or getattr(own, "alphas_cumprod", None) is None or steps <= FEW:
        return

    def covered(n: int) -> float:
        """The share of the timesteps of training."""
        scheduler.set_timesteps(n)
        begun = float(scheduler.timesteps[0]) / trained
        return min(begun, n * (trained // n) / trained) if type(scheduler).__name__ in ROUNDED else begun

    if covered(steps) < NOISY:
        fewer = next(n for n in range(steps - 1, 0, -1) if n <= FEW or covered(n) >= NOISY)
        raise FigmentError(
            f"{steps} steps of the {type(scheduler).__name__} would leave out some of the noise of the {trained:,} timesteps of training: it"
            f" rounds the distance of two of them down to {trained // steps}. Set num_inference_steps to {fewer} or less."
        )


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
        AssertionError,  # UniPC's, for instance
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
    named = scheduler_class(name).from_config(own.config, clip_sample=own.config.get("clip_sample", False))
    if name != "DDPMScheduler" and own.config.get("variance_type") in ("learned", "learned_range"):
        # DeepFloyd IF's pipelines read here whether to hand over the learnt variance, of which others know nothing.
        named.register_to_config(variance_type="fixed_small")
    return named


def scales_input(scheduler: Any) -> bool:
    """Whether a scheduler whose timesteps are set shows the model something else than its own samples, as Euler's do."""
    ones = torch.ones(1)
    return bool((scheduler.scale_model_input(ones, scheduler.timesteps[0]) != ones).any())


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
