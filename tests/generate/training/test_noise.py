"""Noise, targets and weights of times: those of diffusers' own schedulers and training scripts."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_snr

from figment.errors import FigmentError
from figment.generate.training.noise import PREDICTIONS, Noise

SCHEDULES = {"sd": {"beta_schedule": "scaled_linear"}, "cosine": {"beta_schedule": "squaredcos_cap_v2"}}


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    return SCHEDULES[request.param]


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_it_is_that_of_diffusers(schedule, kind):
    own = DDPMScheduler(**schedule, prediction_type=kind)
    noise = Noise.of(own, "it")
    torch.manual_seed(0)
    latents, drawn, t = torch.randn(6, 4, 3, 3), torch.randn(6, 4, 3, 3), torch.tensor([0, 1, 250, 500, 900, 998])
    noisy = own.add_noise(latents, drawn, t)
    target = {"epsilon": drawn, "v_prediction": own.get_velocity(latents, drawn, t), "sample": latents}[kind]
    torch.testing.assert_close(noise.add(latents, drawn, t), noisy)
    torch.testing.assert_close(noise.target(latents, drawn, t), target)
    for i in range(5):  # at the last of the times so little is left that float32 cannot tell it
        seen = own.step(target[i : i + 1], int(t[i]), noisy[i : i + 1]).pred_original_sample
        clipped = noise.latents_in(noisy, target, t)[i : i + 1].clamp(-1, 1)
        torch.testing.assert_close(clipped, seen, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(noise.latents_in(noisy, target, t)[:5], latents[:5], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("gamma", [None, 1.0, 5.0])
def test_times_weigh_as_in_diffusers_training_script(schedule, kind, gamma):
    own, t = DDPMScheduler(**schedule, prediction_type=kind), torch.arange(0, 1000, 37)
    snr = compute_snr(own, t)
    least = torch.ones(len(t)) if gamma is None else torch.stack([snr, gamma * torch.ones_like(t)], 1).min(1)[0]
    expected = {"epsilon": least / snr, "v_prediction": least / (snr + 1), "sample": least}[kind]
    weights = Noise.of(own, "it").weights(t, gamma)
    torch.testing.assert_close(weights, torch.ones(len(t)) if gamma is None else expected)


def test_flow_matching_is_refused():
    with pytest.raises(FigmentError, match="FlowMatchEulerDiscreteScheduler"):
        Noise.of(FlowMatchEulerDiscreteScheduler(), "it")
