#!/bin/sh
# diffusers 0.42.1: add_noise of DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler, DEISMultistepScheduler and UniPCMultistepScheduler
# depends on what the scheduler was used for before. Fresh from its configuration, as a training script has it, it reads its table of noise from
# the other end: little noise for the timesteps of much and much for those of little, so that a model is taught every level under another's name.
# After set_timesteps, as behind the first validation images, a timestep that is not one of that (say, 20 step) schedule gets the noise of its
# last step, whatever it is. Nothing warns. DDPM, DDIM, PNDM and a fresh Euler agree with their schedule: train with
# DDPMScheduler.from_config(scheduler.config).
# Seen, noise over signal at t = 100, 500, 900: .342 3.44 60.8 by the schedule's own alphas and by DDPM; 60.3 3.42 .339 by all four when fresh. After
# set_timesteps(20), whose timesteps are 999 949 899 ... 100 50: .342 3.44 .176, and .176 for 981 of the 1,000 timesteps.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet diffusers==0.42.1 torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import diffusers, numpy as np, torch

TIMES = [100, 500, 900]
WRONG = ("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep")


def noise_over_signal(scheduler, times):
    """What add_noise makes of pure noise and of pure signal, at each of the times, as one training batch."""
    one = torch.ones(len(times), 1, 1, 1)
    signal, noise = (scheduler.add_noise(x, y, torch.tensor(times)) for x, y in ((one, 0 * one), (0 * one, one)))
    return (noise / signal).flatten().numpy()


alphas = diffusers.DDPMScheduler().alphas_cumprod.numpy()
schedule = np.sqrt((1 - alphas) / alphas)
right = schedule[TIMES]
print(f"diffusers {diffusers.__version__}: noise over signal at t = {TIMES}: {right.round(3)}")
for name in ("DDPM", "DDIM", "PNDM", "EulerDiscrete"):
    assert np.allclose(noise_over_signal(getattr(diffusers, f"{name}Scheduler")(), TIMES), right, rtol=1e-3)
for name in WRONG:
    scheduler = getattr(diffusers, f"{name}Scheduler")()
    fresh = noise_over_signal(scheduler, TIMES)
    scheduler.set_timesteps(20)
    later = noise_over_signal(scheduler, list(range(1000)))
    last = later[scheduler.timesteps[-1].item()]
    n_last = int(np.isclose(later, last, rtol=1e-3).sum())
    print(f"{name}: fresh {fresh.round(3)}; after set_timesteps(20) {later[TIMES].round(3)}, and {last:.3f} for {n_last} of the 1,000 timesteps")
    assert np.allclose(fresh, schedule[[999 - t for t in TIMES]], rtol=1e-3)
    assert later[900] < 0.2 and n_last > 950
PYTHON
