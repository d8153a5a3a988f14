#!/bin/sh
# diffusers 0.42.1: EDMEulerScheduler is among the `compatibles` of Stable Diffusion's schedulers, which are said to be those that can
# stand in for one another. EDMEulerScheduler.from_config(pipe.scheduler.config) logs that the betas are not expected, and goes on: the
# noise schedule is dropped for sigmas from 80 to .002, the timesteps are log(sigma) / 4 where the model knows 0 to 999, and the answer is
# read with other weights than an epsilon-prediction has. So even a perfect model on Stable Diffusion's own schedule ends far from
# the image, and the farther the more steps it takes.
# Seen: an image whose latents are all 1; the mean of what comes out is off by 2e3, 2e5, 1e8 and 1e12 in 5, 10, 20 and 50 steps, and by
# nothing with EulerDiscreteScheduler.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet diffusers==0.42.1 torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'XXX'
import diffusers, numpy as np, torch

own = diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                              set_alpha_to_one=False, steps_offset=1)
assert diffusers.EDMEulerScheduler in own.compatibles
kept = own.alphas_cumprod.double()


def off(kind, steps):
    """How far the samples' mean is from an image of all 1, with a model that knows it and is asked at a time of its schedule."""
    scheduler = kind.from_config(own.config)
    scheduler.set_timesteps(steps)
    x = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        alpha_bar = kept[int(t.clamp(0, 999))]
        said = (scheduler.scale_model_input(x, t) - alpha_bar**0.5) / (1 - alpha_bar) ** 0.5
        x = scheduler.step(said.float(), t, x).prev_sample
    return abs(x.mean().item() - 1)


print("diffusers", diffusers.__version__)
for steps in (5, 10, 20, 50):
    edm, euler = off(diffusers.EDMEulerScheduler, steps), off(diffusers.EulerDiscreteScheduler, steps)
    print(f"{steps} steps: off by {edm:.3g} with EDMEulerScheduler, {euler:.2g} with EulerDiscreteScheduler")
    assert euler < 0.02 and edm > 1
XXX
