"""How much noise real guidance starts with, against the published steps and diffusers' own schedules."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest

from figment.errors import FigmentError
from figment.generate.real_guidance import (
    T_STAR,
    alpha_bar_of_shots,
    alpha_bar_of_t_star,
    alpha_bars,
    glide_alpha_bars,
    square,
    strength_for,
)

#: shots, t*, original timestep, alpha-bar, signal, noise, the step of Stable Diffusion with that signal-to-noise ratio
PUBLISHED = [
    (16, 15, 141, 0.9465, 0.9729, 0.2313, 55),
    (8, 20, 192, 0.9052, 0.9514, 0.3079, 91),
    (4, 35, 343, 0.7282, 0.8534, 0.5213, 216),
    (2, 40, 394, 0.6549, 0.8093, 0.5874, 261),
    (1, 50, 494, 0.5016, 0.7083, 0.7059, 353),
]


def stable_diffusion(**changes) -> diffusers.DDIMScheduler:
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    return diffusers.DDIMScheduler(num_train_timesteps=1000, **settings, **changes)


@pytest.mark.parametrize(("shots", "t_star", "timestep", "alpha_bar", "signal", "noise", "sd_step"), PUBLISHED)
def test_the_table_of_the_paper(shots, t_star, timestep, alpha_bar, signal, noise, sd_step):
    assert T_STAR[shots] == t_star
    assert alpha_bar_of_shots(shots) == alpha_bar_of_t_star(t_star) == glide_alpha_bars()[timestep]
    own = alpha_bar_of_shots(shots)
    assert own == pytest.approx(alpha_bar, abs=6e-5)
    assert np.sqrt(own) == pytest.approx(signal, abs=6e-5) and np.sqrt(1 - own) == pytest.approx(noise, abs=6e-5)
    table = stable_diffusion().alphas_cumprod.double().numpy()
    assert np.abs(table - own).argmin() == sd_step


def test_glides_schedule_is_diffusers_own():
    theirs = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod.numpy()
    assert glide_alpha_bars() == pytest.approx(theirs, rel=1e-3, abs=1e-7)


def test_numbers_of_shots_in_between():
    noises = [alpha_bar_of_shots(k) for k in (1, 2, 3, 4, 6, 8, 12, 16, 32)]
    assert noises == sorted(noises) and noises[-1] == noises[-2]


@pytest.mark.parametrize("steps", [20, 50, 100])
@pytest.mark.parametrize("alpha_bar", [row[3] for row in PUBLISHED])
def test_strength_starts_the_pipeline_at_that_noise(steps, alpha_bar):
    """What the image-to-image pipelines do with a strength: init = int(steps * strength), skip the rest."""
    scheduler = stable_diffusion()
    strength, reached = strength_for(scheduler, steps, alpha_bar)
    start = max(steps - min(int(steps * strength), steps), 0)
    own = alpha_bars(scheduler)
    assert own[start] == reached
    snr = np.log(own / (1 - own))
    assert np.abs(snr - np.log(alpha_bar / (1 - alpha_bar))).argmin() == start
    if steps == 100:
        assert abs(scheduler.timesteps[start].item() - {r[3]: r[6] for r in PUBLISHED}[alpha_bar]) <= 10


def test_t_star_as_a_strength_would_be_far_too_much_noise():
    """A common mistake: 0.15 to 0.5 where 0.06 to 0.35 is meant."""
    for shots, t_star, *_, sd_step in PUBLISHED:
        assert strength_for(stable_diffusion(), 100, alpha_bar_of_shots(shots))[0] == pytest.approx(
            sd_step / 1000, abs=0.02
        )
        assert t_star / 100 > sd_step / 1000 + 0.05


@pytest.mark.parametrize(
    "name",
    [
        "EulerDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
        "PNDMScheduler",
        "DDPMScheduler",
    ],
)
def test_schedulers_of_one_schedule_agree(name):
    scheduler = getattr(diffusers, name).from_config(stable_diffusion().config)
    _, reached = strength_for(scheduler, 50, 0.7282)
    assert reached == pytest.approx(0.7282, abs=0.05)


def test_flow_matching_is_compared_by_its_signal_to_noise_ratio():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    strength, reached = strength_for(scheduler, 100, 0.5)
    assert reached == pytest.approx(0.5, abs=0.02)
    assert strength == pytest.approx(0.5, abs=0.02)  # sigma = 0.5: as much noise as picture


@pytest.mark.parametrize("alpha_bar", [0, 1, -0.2, 1.5])
def test_no_such_share(alpha_bar):
    with pytest.raises(FigmentError, match="alpha_bar is"):
        strength_for(stable_diffusion(), 20, alpha_bar)


def test_a_photograph_is_cut_to_its_middle_square():
    photo = np.zeros((40, 100, 3), np.uint8)
    photo[:, 30:70] = (10, 200, 30)
    cut = square(photo, 16)
    assert cut.shape == (16, 16, 3) and (cut == (10, 200, 30)).all()
    assert square(np.swapaxes(photo, 0, 1), 16).shape == (16, 16, 3)
