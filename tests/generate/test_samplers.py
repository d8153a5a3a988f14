"""Schedulers are tried before they are paid for: those that ruin images, or give NaN, are refused with those that do not."""

from __future__ import annotations

from types import SimpleNamespace

import diffusers
import pytest
import torch

from figment.errors import FigmentError
from figment.generate import samplers
from figment.generate.cascade import CascadeGenerator
from figment.generate.diffusers import DiffusersGenerator
from figment.saving import PNG
from figment.stages.images import stage as images_stage
from figment.starter import folder
from figment.types import Prompt

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tens of thousands, of numpy in diffusers

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULES = {
    "starter": lambda: diffusers.DPMSolverMultistepScheduler.from_pretrained(folder("pipeline") / "scheduler"),
    "Stable Diffusion": lambda: diffusers.PNDMScheduler(
        **BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1
    ),
    "SDXL": lambda: diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
    "SDXL-Turbo": lambda: diffusers.EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="trailing"),
    "LCM": lambda: diffusers.LCMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    "no signal at the end": lambda: diffusers.DDIMScheduler(
        **BETAS,
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    ),
    "pixels": lambda: diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    "flow matching": lambda: diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
}
RUIN = [
    ("starter", "EDMEulerScheduler", 15),
    ("starter", "HeunDiscreteScheduler", 15),
    ("starter", "HeunDiscreteScheduler", 20),
    ("starter", "KDPM2AncestralDiscreteScheduler", 15),
    ("starter", "KDPM2AncestralDiscreteScheduler", 4),  # NaN
    ("starter", "EulerAncestralDiscreteScheduler", 3),  # NaN
    ("Stable Diffusion", "EDMEulerScheduler", 50),
    ("Stable Diffusion", "HeunDiscreteScheduler", 2),
    ("starter", "PNDMScheduler", 3),  # ValueError in diffusers
    ("SDXL", "EDMEulerScheduler", 20),
]
WORK = [
    ("starter", None, 1),
    ("starter", None, 15),
    ("starter", "DDIMScheduler", 20),
    ("starter", "EulerAncestralDiscreteScheduler", 20),
    ("starter", "KDPM2DiscreteScheduler", 15),
    ("Stable Diffusion", None, 20),
    ("Stable Diffusion", "DDIMScheduler", 2),
    ("Stable Diffusion", "HeunDiscreteScheduler", 20),
    ("Stable Diffusion", "LMSDiscreteScheduler", 50),
    ("SDXL", None, 30),
    ("SDXL", "UniPCMultistepScheduler", 2),
    ("SDXL-Turbo", None, 1),
    ("LCM", None, 4),
    ("Stable Diffusion", "LCMScheduler", 4),
    ("SDXL", "LCMScheduler", 2),
    ("LCM", "TCDScheduler", 4),
    ("no signal at the end", None, 20),
    ("pixels", None, 20),
    ("flow matching", None, 4),
]


@pytest.mark.parametrize(("schedule", "name", "steps"), RUIN)
def test_a_scheduler_that_ruins_images_is_known(schedule, name, steps):
    own = SCHEDULES[schedule]()
    assert not samplers.works(samplers.with_schedule_of(own, name), steps, own)


@pytest.mark.parametrize(("name", "steps"), [("EulerAncestralDiscreteScheduler", 3)])
def test_it_is_refused_with_those_that_work(name, steps):
    with pytest.raises(
        FigmentError, match=rf"{name} makes no images in {steps} steps.*DPMSolverMultistepScheduler"
    ) as told:
        samplers.choose(SCHEDULES["starter"](), name, steps, "the model")
    offered = str(told.value).partition("one of these schedulers: ")[2]
    assert name not in offered and "EDMEulerScheduler" not in offered and "SDE" not in offered


def test_more_steps_than_there_are_of_training_are_refused_without_trying_the_others(monkeypatch):
    own, tried = SCHEDULES["pixels"](), []
    monkeypatch.setattr(samplers, "_works_as", lambda name, *_: tried.append(name) or True)
    with pytest.raises(
        FigmentError, match="in 1,001 steps: the noise schedule of it has 1,000. Set num_inference_steps to 1,000"
    ):
        samplers.choose(own, "DDIMScheduler", 1_001, "it")
    assert not tried


@pytest.mark.parametrize(
    ("schedule", "name", "steps", "rounded", "fewer"),
    [
        ("Stable Diffusion", "DDIMScheduler", 501, 1, 500),
        ("Stable Diffusion", None, 350, 2, 333),
        ("SDXL", None, 600, 1, 500),
        ("SDXL-Turbo", "DDIMScheduler", 350, 2, 333),  # "trailing"
    ],
)
def test_more_steps_that_take_away_less_noise_are_refused(schedule, name, steps, rounded, fewer):
    own = SCHEDULES[schedule]()
    with pytest.raises(FigmentError, match=f"down to {rounded}. Set num_inference_steps to {fewer} or less"):
        samplers.choose(own, name, steps, "the model")
    samplers.choose(own, name, fewer, "the model")


def test_a_spacing_that_rounds_nothing_takes_any_number_of_steps():
    samplers.choose(SCHEDULES["SDXL-Turbo"](), "EulerDiscreteScheduler", 501, "the model")


@pytest.mark.parametrize(("schedule", "name", "steps"), WORK)
def test_one_that_works_is_taken(schedule, name, steps):
    own = SCHEDULES[schedule]()
    chosen = samplers.choose(own, name, steps, "the model")
    assert chosen is own if name is None else type(chosen).__name__ == name


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler"])
@pytest.mark.parametrize("schedule", ["starter", "SDXL"])
def test_latents_are_not_clipped_as_pixels_are(schedule, name):
    """Schedulers whose configuration does not speak of clipping do not clip; DDIM's default would, at 1."""
    chosen = samplers.choose(SCHEDULES[schedule](), name, 20, "the model")
    chosen.set_timesteps(20)
    t = chosen.timesteps[-1]
    x = torch.full((1, 1, 1, 1), 3.0)
    alpha_bar = chosen.alphas_cumprod[int(t)]
    said = {"v_prediction": -((1 - alpha_bar) ** 0.5) * 3, "epsilon": torch.zeros(())}[chosen.config.prediction_type]
    assert chosen.step(said.expand(1, 1, 1, 1), t, x).pred_original_sample.item() > 2.9


@pytest.mark.parametrize(
    "flows", [{"prediction_type": "flow_prediction", "use_flow_sigmas": True}, {"prediction_type": "flow_prediction"}]
)
def test_what_the_trial_knows_nothing_of_is_taken_at_its_word(flows):
    own = diffusers.DPMSolverMultistepScheduler(**flows)
    assert samplers.choose(own, None, 20, "a model") is own


def test_a_scheduler_that_cannot_be_configured_so_is_not_among_those_that_work():
    own = diffusers.DPMSolverMultistepScheduler(**BETAS, algorithm_type="sde-dpmsolver++")
    with pytest.raises(FigmentError, match="it fails even with") as error:
        samplers.choose(own, "EDMEulerScheduler", 20, "a model")
    assert "DDIMScheduler" in str(error.value)


def test_it_is_refused_before_the_model_is_opened():
    with pytest.raises(FigmentError, match="HeunDiscreteScheduler makes no images in 4 steps"):
        DiffusersGenerator(model="starter", scheduler="HeunDiscreteScheduler", num_inference_steps=4)


# ---- how much noise ancestral sampling adds --------------------------------------------------------------------------


def chain(scheduler, steps: int) -> list[torch.Tensor]:
    """The samples on the way, with a model that always says the same."""
    draws = torch.Generator().manual_seed(0)
    x, said = torch.randn(1, 3, 4, 4, generator=draws), torch.full((1, 3, 4, 4), 0.3)
    scheduler.set_timesteps(steps)
    found = []
    for t in scheduler.timesteps:
        x = scheduler.step(said, t, x, generator=draws).prev_sample
        found.append(x)
    return found


@pytest.mark.parametrize("steps", [4, 20, 250])
@pytest.mark.parametrize("schedule", ["Stable Diffusion", "pixels", "starter"])
@pytest.mark.parametrize(("c", "fixed"), [(0.0, "fixed_small"), (1.0, "fixed_large")])
def test_the_ends_of_log_variance_are_diffusers_own(schedule, steps, c, fixed):
    own = SCHEDULES[schedule]()
    ours = samplers.choose(own, "DDPMScheduler", steps, "a model", tried=False, log_variance=c)
    theirs = samplers.with_schedule_of(own, "DDPMScheduler")
    theirs = diffusers.DDPMScheduler.from_config(theirs.config, variance_type=fixed)
    for a, b in zip(chain(ours, steps), chain(theirs, steps), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("c", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_log_variance_in_between_equals_the_sum_done_by_hand(c):
    """Ho et al. 2020, eq. 7 and algorithm 2, over the steps that are taken, with variance beta^c * beta_tilde^(1 - c)."""
    own = SCHEDULES["pixels"]()
    ours = chain(samplers.choose(own, "DDPMScheduler", 10, "a model", tried=False, log_variance=c), 10)
    kept = torch.cumprod(1 - own.betas.double(), 0)
    draws = torch.Generator().manual_seed(0)
    x, noise = torch.randn(1, 3, 4, 4, generator=draws), 0.3
    for step, t in enumerate(range(900, -1, -100)):
        now, before = kept[t], kept[t - 100] if t else torch.tensor(1.0)
        beta = 1 - now / before
        x0 = ((x - (1 - now).sqrt() * noise) / now.sqrt()).clamp(-1, 1)
        mean = (before.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - before) * x) / (1 - now)
        variance = beta**c * ((1 - before) / (1 - now) * beta) ** (1 - c)
        x = mean + (variance.sqrt() * torch.randn(x.shape, generator=draws) if t else 0)
        assert torch.allclose(ours[step], x.float(), atol=1e-4)


def test_log_variance_in_images(folders, monkeypatch):
    make = lambda **more: DiffusersGenerator(
        **{
            "model": str(folders["sd15"]),
            "scheduler": "DDPMScheduler",
            "num_inference_steps": 4,
            "dtype": "float32",
            **more,
        }
    )
    made = {c: make(log_variance=c)(["a dog"], [1])[0].astype(int) for c in (None, 0, 0.3, 0.5)}
    assert (made[None] == made[0]).all()  # fixed_small is what DDPM has of itself
    assert abs(made[0] - made[0.3]).max() > 1 and abs(made[0.3] - made[0.5]).max() > 1
    monkeypatch.setattr(samplers, "_works_as", lambda *given: False)  # which others work takes seconds to find out
    with pytest.raises(FigmentError, match="in 4 steps .*Lower log_variance, or set another num_inference_steps"):
        make(log_variance=1)
    told = make(log_variance=0.3).describe()
    assert told["sampler"] == "LogVarianceDDPMScheduler, 4 steps, guidance 2, log-variance 0.3"
    assert told["log_variance"] == told["scheduler_config"]["log_variance"] == 0.3


@pytest.mark.parametrize("c", [1.0, 0.0])
@pytest.mark.parametrize(
    ("steps", "timed"),
    [
        ((10,), [(2,), (6,)]),
        ((4,), [(4,)]),
        ((100, 4), [(2, 4), (6, 4)]),
        ((100, 50), [(2, 2), (6, 2), (2, 6)]),
        ((6, 2), [(6, 2)]),
    ],
)
def test_a_trial_takes_few_steps_of_each_stage(folders, monkeypatch, c, steps, timed):
    """Also of a scheduler that makes no images in so few: an image costs a second, and a step of stage i as much as i + 2 of them."""
    sampler = {"scheduler": "DDPMScheduler", "log_variance": c, "dtype": "float32", "guidance_scale": 1.0}
    monkeypatch.setattr(samplers, "works", lambda *given: True)
    models = [folders["if_base"], folders["if_upscaler"]][: len(steps)]
    stages = [
        DiffusersGenerator(model=str(m), num_inference_steps=n, **sampler) for m, n in zip(models, steps, strict=True)
    ]
    saved = SimpleNamespace(generate=SimpleNamespace(saving=PNG))
    ctx = SimpleNamespace(prompts=[Prompt("a", "a dog", 0, "a")], untuned=CascadeGenerator(stages), recipe=saved)
    trials = []

    def time(generator, texts, saving):
        image = generator(texts, [0])[0]
        assert image is None or len(image) == 8 * len(steps)
        trials.append(generator.steps)
        return 1.0 + sum((i + 2) * n for i, n in enumerate(generator.steps)), 100.0

    monkeypatch.setattr(images_stage, "_time", time)
    seconds, size = images_stage._trial(ctx)
    assert trials == timed and size == 100
    assert seconds == pytest.approx(1.0 + sum((i + 2) * n for i, n in enumerate(steps)))
    assert ctx.untuned.steps == steps and all(quick.pipe is not None for quick in ctx.untuned.stages)
