"""Guidance in an interval: against a twin that computes both halves of every step, and against sampling written out by hand."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch

from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.guidance_interval import GuidanceInterval
from figment.generate.real_guidance_settings import RealGuidanceSettings

PROMPTS, SEEDS = ["a photo of a dog", "a drawing of a cat"], [3, 1]
SLOW = ("sdxl", "sd3", "pixart", "sd_upscaler")
FAMILIES = ["sd15", "if_base", "if_upscaler", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
STEPS = 4


def make(folder, **settings) -> DiffusersGenerator:
    settings = {"num_inference_steps": STEPS, "guidance_scale": 6.0, "dtype": "float32", **settings}
    return DiffusersGenerator(model=str(folder), **settings)


def denoiser_of(generator):
    return getattr(generator.pipe, "unet", None) or generator.pipe.transformer


def images_of(generator) -> tuple[np.ndarray, list[int]]:
    """Two images, and how many rows the denoiser saw at each step."""
    rows: list[int] = []
    hook = denoiser_of(generator).register_forward_hook(lambda module, given, output: rows.append(len(output[0])))
    init = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8) if generator.upscales else None
    made = np.stack(generator(PROMPTS, SEEDS, init))
    hook.remove()
    return made.astype(int), rows


@pytest.fixture(scope="module", params=FAMILIES)
def plain(request, folders):
    """A family's generator that is guided all the way, and its images."""
    generator = make(folders[request.param])
    return generator, *images_of(generator)


def changed(generator, start: float, stop: float, scale: float = 6.0) -> DiffusersGenerator:
    """The same opened pipeline in another interval."""
    interval = GuidanceInterval(start, stop)
    generator.sampling = replace(generator.sampling, interval=interval, guidance_scale=scale)
    return generator


@pytest.fixture(autouse=True)
def _restore(request):
    yield
    if "plain" in request.fixturenames:
        changed(request.getfixturevalue("plain")[0], 0.0, 1.0)


@pytest.mark.parametrize(("start", "stop", "guided"), [(0.25, 0.75, [1, 2]), (0.5, 1.0, [2, 3]), (0.0, 0.25, [0])])
def test_equals_a_twin_that_computes_both_halves(plain, start, stop, guided):
    """The twin is guided plain; outside of the interval it says of the half without text what it says of that with it."""
    generator, whole, rows = plain
    assert rows == [4] * STEPS
    step = 0

    def twin(module, given, output):
        nonlocal step
        step += 1
        return None if step - 1 in guided else tuple(torch.cat([own.chunk(2)[1]] * 2) for own in output)

    hook = denoiser_of(generator).register_forward_hook(twin)
    expected, _ = images_of(generator)
    hook.remove()
    images, rows = images_of(changed(generator, start, stop))
    assert rows == [4 if i in guided else 2 for i in range(STEPS)]  # the second pass is saved
    assert np.abs(images - expected).max() <= 1
    assert np.abs(images - whole).max() > 1


def test_the_whole_range_is_plain_guidance_to_the_bit(plain):
    generator, whole, rows = plain
    images, seen = images_of(changed(generator, 0.01, 0.99))  # all four steps, by way of the interval
    assert seen == rows and (images == whole).all()


def test_a_scale_of_one_is_none(plain):
    generator, _, _ = plain
    none, rows = images_of(changed(generator, 0.0, 1.0, scale=1.0))
    images, seen = images_of(changed(generator, 0.25, 0.75, scale=1.0))
    assert rows == seen == [2] * STEPS and (images == none).all()


@pytest.mark.parametrize(("start", "stop", "guided"), [(0.0, 0.5, [0, 1]), (0.25, 0.75, [1, 2])])
def test_equals_the_sum_done_by_hand(folders, start, stop, guided):
    """DDIM written as a loop over the parts of the pipeline."""
    image = make(folders["sd15"], guidance_start=start, guidance_stop=stop)(PROMPTS[:1], SEEDS[:1])[0]
    pipe = diffusers.DiffusionPipeline.from_pretrained(folders["sd15"])
    with torch.no_grad():
        text, empty = pipe.encode_prompt(PROMPTS[0], "cpu", 1, True)
        x = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(SEEDS[0]))
        pipe.scheduler.set_timesteps(STEPS)
        for step, t in enumerate(pipe.scheduler.timesteps):
            noise = pipe.unet(x, t, encoder_hidden_states=text).sample
            if step in guided:
                without = pipe.unet(x, t, encoder_hidden_states=empty).sample
                noise = without + 6.0 * (noise - without)
            x = pipe.scheduler.step(noise, t, x).prev_sample
        expected = (pipe.vae.decode(x / pipe.vae.config.scaling_factor).sample[0] / 2 + 0.5).clamp(0, 1)
    assert np.abs(image.astype(int) - (expected.permute(1, 2, 0).numpy() * 255).round()).max() <= 1


@pytest.mark.parametrize("name", ["flux"])
def test_it_is_refused_where_it_cannot_be(folders, name):
    for field in ({"guidance_start": 0.5}, {"guidance_stop": 0.5}):
        with pytest.raises(FigmentError, match=r"guidance_start.*StableDiffusionPipeline.*not with the FluxPipeline"):
            make(folders[name], **field)


@pytest.mark.parametrize(("start", "stop"), [(0.5, 0.5), (0.6, 0.2), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_what_is_no_interval(start, stop):
    with pytest.raises(FigmentError, match="shares of the steps, from 0 to 1"):
        GuidanceInterval(start, stop)


def test_its_noise_levels_are_the_papers():
    """Sigma of EDM: noise over signal, in a schedule that says both."""
    scheduler = diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(20)
    kept = scheduler.alphas_cumprod[scheduler.timesteps].numpy()
    high, low = GuidanceInterval(0.2, 0.8).noise_levels(scheduler, 20)
    assert high == pytest.approx(np.sqrt((1 - kept[4]) / kept[4]), rel=1e-5)
    assert low == pytest.approx(np.sqrt((1 - kept[15]) / kept[15]), rel=1e-5)
    assert GuidanceInterval(0.0, 0.01).noise_levels(scheduler, 20) is None
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    flow.set_timesteps(4)
    assert GuidanceInterval().noise_levels(flow, 4)[0] == pytest.approx(1e6)  # noise alone


@pytest.mark.parametrize("scheduler", ["HeunDiscreteScheduler", "EulerDiscreteScheduler"])
@pytest.mark.parametrize(("start", "stop"), [(0.0, 0.5), (0.4, 1.0)])
def test_the_record_has_the_noise_that_the_model_was_guided_at(folders, scheduler, start, stop):
    """With real guidance, and a scheduler that calls the model twice a step."""
    generator = make(folders["sd15"], scheduler=scheduler, num_inference_steps=20, guidance_start=start,
        guidance_stop=stop, real_guidance=RealGuidanceSettings(alpha_bar=0.5))  # fmt: skip
    guided: list[float] = []

    def note(module, given, output):
        if len(output[0]) == 2:
            sigmas = generator.pipe.scheduler.sigmas
            guided.append(float(sigmas[generator.pipe.scheduler.step_index]))

    generator.image_pipe.unet.register_forward_hook(note)
    generator(PROMPTS[:1], SEEDS[:1], np.zeros((1, 8, 8, 3), np.uint8))
    assert generator.describe()["guided_noise_levels"] == pytest.approx((guided[0], guided[-1]), rel=1e-4)


def test_the_record_says_it(folders):
    told = make(folders["sd15"], guidance_start=0.25, guidance_stop=0.75).describe()
    assert told["sampler"] == "DDIMScheduler, 4 steps, guidance 6 from 25 to 75 % of them"
    assert told["guidance_start"] == 0.25 and told["guided_noise_levels"][0] > told["guided_noise_levels"][1] > 0
    assert "guided_noise_levels" not in make(folders["sd15"]).describe()
