#!/bin/sh
# diffusers 0.42.1: HeunDiscreteScheduler, built from the configuration of another scheduler with a cosine schedule
# (beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing"), gives noise many times as large as the data, even with a model that
# knows the data exactly. The schedule's first sigma is 20,292; Heun's method averages the slope there with the one at the end of the
# first step, and the second, about right at its own place, is multiplied by a step of 20,000. A method of higher order is far worse
# here than Euler's; fifty steps are not enough. Nothing warns, and `compatibles` lists it.
# Seen: data N(0, 1); the standard deviation of the samples in 10, 20 and 50 steps is 39, 5.8 and 1.3 with Heun, and .88, .93 and .97 with
# EulerDiscreteScheduler and the same configuration.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet diffusers==0.42.1 torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'XXX'
import diffusers, numpy as np, torch

config = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
own = diffusers.DPMSolverMultistepScheduler(**config)
assert diffusers.HeunDiscreteScheduler in own.compatibles


def spread(kind, steps):
    """Of samples, with a model that knows that the data are N(0, 1): for x = a x0 + b noise it says v = 0."""
    scheduler = kind.from_config(own.config)
    scheduler.set_timesteps(steps)
    x = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        said = torch.zeros_like(scheduler.scale_model_input(x, t))  # E[a noise - b x0 | x] = (a b - b a) x
        x = scheduler.step(said, t, x).prev_sample
    return x.std().item()


print("diffusers", diffusers.__version__)
for steps in (10, 20, 50):
    heun, euler = (spread(getattr(diffusers, f"{name}DiscreteScheduler"), steps) for name in ("Heun", "Euler"))
    print(f"{steps} steps: standard deviation {heun:.2f} with Heun, {euler:.2f} with Euler; the data's is 1")
    assert 0.85 < euler < 1.1 and heun > 1.2
XXX
