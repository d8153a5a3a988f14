"""How much noise real guidance starts with, against the paper and what diffusers really does; images that start from images."""

from __future__ import annotations

import json
import pickle
from functools import partial
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

import tiny
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.finetune import finetune
from figment.generate.finetune_settings import FinetuneSettings
from figment.generate.real_guidance import (
    alpha_bar_of_shots,
    alpha_bar_of_t_star,
    alpha_bars,
    crop_to,
    glide_alpha_bars,
    start_of,
    strength_for,
    t_star_of_shots,
)
from figment.generate.real_guidance_settings import T_STAR, RealGuidanceSettings
from figment.images_in import open_images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # tens of thousands, of numpy in diffusers
]

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


def image_to_image(scheduler, kind=diffusers.StableDiffusionImg2ImgPipeline):
    """As much of the pipeline as knows what a strength is."""
    pipe = SimpleNamespace(scheduler=scheduler, device="cpu", _execution_device="cpu")
    pipe.get_timesteps = partial(kind.get_timesteps, pipe)
    return pipe


@pytest.mark.parametrize("steps", [20, 50, 100])
@pytest.mark.parametrize("shots", [row[0] for row in PUBLISHED])
def test_the_strength_starts_the_pipeline_at_that_noise(steps, shots):
    pipe, wanted = image_to_image(stable_diffusion()), alpha_bar_of_shots(shots)
    start = start_of(pipe, steps, RealGuidanceSettings().resolved(shots))
    first = pipe.get_timesteps(steps, start.strength, "cpu")[0][0].item()
    assert pipe.scheduler.alphas_cumprod[first].item() == pytest.approx(start.alpha_bar)
    assert start == start_of(pipe, steps, RealGuidanceSettings(alpha_bar=wanted))
    own = alpha_bars(pipe.scheduler)
    assert np.abs(np.log(own / (1 - own)) - np.log(wanted / (1 - wanted))).argmin() == steps - start.steps
    if steps == 100:
        assert abs(first - {r[0]: r[6] for r in PUBLISHED}[shots]) <= 10


@pytest.mark.parametrize("kind", [diffusers.StableDiffusionImg2ImgPipeline, diffusers.StableDiffusion3Img2ImgPipeline])
def test_every_number_of_steps_has_a_strength(kind):
    """One of the two pipelines rounds the steps that are taken, the other those that are left out."""
    for n in (1, 2, 3, 20, 23, 49, 100):
        pipe = image_to_image(stable_diffusion(), kind)
        pipe.scheduler.set_timesteps(n)
        for steps in range(1, n + 1):
            strength = strength_for(pipe, n, steps)
            assert 0 < strength <= 1 and len(pipe.get_timesteps(n, strength, "cpu")[0]) == steps


def test_t_star_as_a_strength_would_be_far_too_much_noise():
    """A common mistake: 0.15 to 0.5 where 0.06 to 0.35 is meant."""
    for shots, t_star, *_, sd_step in PUBLISHED:
        pipe = image_to_image(stable_diffusion())
        right = start_of(pipe, 100, RealGuidanceSettings(t_star=t_star))
        naive = start_of(pipe, 100, RealGuidanceSettings(t_star=t_star, mapping="naive"))
        assert right.strength == pytest.approx(sd_step / 1000, abs=0.02)
        assert naive.strength == pytest.approx(t_star / 100) and naive.steps == t_star
        assert naive.alpha_bar < right.alpha_bar - 0.05 and right.alpha_bar == pytest.approx(
            alpha_bar_of_shots(shots), abs=0.02
        )


def test_one_step_is_always_left():
    pipe = image_to_image(stable_diffusion())
    for settings in ({"alpha_bar": 0.9999}, {"t_star": 1}, {"t_star": 1, "mapping": "naive"}):
        for steps in (1, 4, 20):
            start = start_of(pipe, steps, RealGuidanceSettings(**settings))
            assert start.steps == 1 and len(pipe.get_timesteps(steps, start.strength, "cpu")[0]) == 1
    assert start_of(pipe, 4, RealGuidanceSettings(alpha_bar=1e-4)).steps == 4


def test_settings_say_the_noise_in_one_way():
    for both in ({"alpha_bar": 0.5, "t_star": 35}, {"alpha_bar": 0.5, "mapping": "naive"}):
        with pytest.raises(ValidationError, match=r"alpha_bar"):
            RealGuidanceSettings(**both)
    for wrong in ({"alpha_bar": 0.0}, {"alpha_bar": 1.0}, {"t_star": 0}, {"t_star": 101}, {"mapping": "snr"}):
        with pytest.raises(ValidationError):
            RealGuidanceSettings(**wrong)


def test_the_number_of_shots_fills_in_the_papers_noise():
    assert [RealGuidanceSettings().resolved(k).t_star for k in (1, 2, 4, 8, 16)] == [50, 40, 35, 20, 15]
    assert RealGuidanceSettings(mapping="naive").resolved(5) == RealGuidanceSettings(
        t_star=t_star_of_shots(5), mapping="naive"
    )
    for given in (RealGuidanceSettings(t_star=7), RealGuidanceSettings(alpha_bar=0.3)):
        assert given.resolved(16) == given


def test_a_photograph_is_cut_to_its_middle():
    photo = np.zeros((40, 100, 3), np.uint8)
    photo[:, 30:70] = (10, 200, 30)
    cut = crop_to(photo, 16, 16)
    assert cut.shape == (16, 16, 3) and (cut == (10, 200, 30)).all()
    assert crop_to(np.swapaxes(photo, 0, 1), 16, 16).shape == (16, 16, 3)
    photo[:10] = photo[30:] = 0
    assert (crop_to(photo, 8, 16) != 0).any() and crop_to(photo, 8, 16).shape == (8, 16, 3)
    assert (crop_to(photo[10:30], 8, 16) == (10, 200, 30)).all()  # 20 x 40 of the middle
    assert crop_to(photo, 40, 100) is photo
    assert crop_to(photo[:1, :90], 64, 64).shape == (64, 64, 3)


# ---- what the pipelines do -------------------------------------------------------------------------------------------

PROMPTS, SEEDS = ["a red bird", "a red bird", "tree", "a drawing of a cat", "tree"], [3, 1, 4, 4, 5]
SIZE = {"flux": {"height": 64, "width": 64}}
SCHEDULERS = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "UniPCMultistepScheduler",
]


@pytest.fixture(scope="module")
def folders(sd15, sdxl, tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {"sd15": sd15, "sdxl": sdxl} | {name: getattr(tiny, name)(root / name) for name in ("sd3", "flux", "pixart")}


@pytest.fixture(scope="module")
def init() -> np.ndarray:
    """Five images of soft colours."""
    small = np.random.default_rng(0).integers(0, 255, (5, 4, 4, 3), np.uint8)
    return np.stack([crop_to(one, 64, 64) for one in small])


def make(folder, guidance=None, **settings) -> DiffusersGenerator:
    guidance = RealGuidanceSettings(**(guidance or {"t_star": 35}))
    fixed = {"model": str(folder), "dtype": "float32", "num_inference_steps": 6, **SIZE.get(folder.name, {})}
    return DiffusersGenerator(real_guidance=guidance, **{**fixed, **settings})


def distance(a, b) -> int:
    return int(np.abs(np.stack(a).astype(int) - np.stack(b)).max())


def measured(generator, init) -> tuple[float, int]:
    """Alpha-bar of the latents that the denoiser gets first, from the noise and the latents they were made of, and its calls."""
    pipe, seen = generator.image_pipe, []
    name = "add_noise" if hasattr(pipe.scheduler, "add_noise") else "scale_noise"
    mix, denoiser = getattr(pipe.scheduler, name), getattr(pipe, "unet", None) or pipe.transformer

    def spy(clean, *rest):
        noise = rest[0] if name == "add_noise" else rest[1]
        mixed = mix(clean, *rest)
        parts = np.stack([clean.numpy().ravel(), noise.numpy().ravel()], 1).astype(float)
        (signal, amount), residue, *_ = np.linalg.lstsq(parts, mixed.numpy().ravel().astype(float), rcond=None)
        assert residue < 1e-6 * len(parts)
        seen.append(signal**2 / (signal**2 + amount**2))
        return mixed

    calls = []
    hook = denoiser.register_forward_hook(lambda *given: calls.append(1))
    setattr(pipe.scheduler, name, spy)
    generator(PROMPTS[:1], SEEDS[:1], init=init[:1])
    hook.remove()
    return seen[0], len(calls)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("guidance", [{"t_star": 15}, {"t_star": 50}, {"t_star": 40, "mapping": "naive"}])
def test_the_noise_is_what_was_said_whatever_the_scheduler(sd15, init, scheduler, guidance):
    generator = make(sd15, guidance, scheduler=scheduler, num_inference_steps=30)
    noise, calls = measured(generator, init)
    start = generator.start
    assert noise == pytest.approx(start.alpha_bar, abs=1e-4)
    order = generator.pipe.scheduler.order  # calls a step; the last step takes one
    assert calls == order * (start.steps - 1) + 1
    if "mapping" not in guidance:
        assert noise == pytest.approx(alpha_bar_of_t_star(guidance["t_star"]), abs=0.05)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_perfect_model_finds_its_way_back_from_the_middle(sd15, init, scheduler):
    """Every scheduler that is allowed: a model that knows the image removes all the noise but that of the last step."""
    generator = make(sd15, {"t_star": 50}, scheduler=scheduler, num_inference_steps=30, guidance_scale=1.0)
    pipe, ends = generator.image_pipe, {}
    noised, decode = pipe.scheduler.add_noise, pipe.vae.decode
    log_sigma = np.log(1 / stable_diffusion().alphas_cumprod.double().numpy() - 1) / 2

    def start(clean, *rest):
        ends["clean"] = clean
        return noised(clean, *rest)

    def perfect(latents, timestep, **given):
        sigma = np.exp(np.interp(float(timestep), np.arange(1000), log_sigma))
        return ((latents * (1 + sigma**2) ** 0.5 - ends["clean"]) / sigma,)

    def end(latents, **given):
        ends["found"] = latents * pipe.vae.config.scaling_factor
        return decode(latents, **given)

    pipe.scheduler.add_noise, pipe.unet.forward, pipe.vae.decode = start, perfect, end
    generator(PROMPTS[:1], SEEDS[:1], init=init[:1])
    assert (ends["found"] - ends["clean"]).std() < 1.1 * np.exp(log_sigma[0])


@pytest.mark.parametrize("scheduler", ["PNDMScheduler", "LMSDiscreteScheduler"])
def test_schedulers_that_cannot_start_in_the_middle_are_refused(sd15, init, scheduler):
    with pytest.raises(FigmentError, match=f"{scheduler} cannot start in the middle.*DDIMScheduler"):
        make(sd15, scheduler=scheduler)(PROMPTS, SEEDS, init=init)
    DiffusersGenerator(model=str(sd15), scheduler=scheduler, num_inference_steps=20)(PROMPTS[:1], SEEDS[:1])


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux"])
def test_the_noise_is_what_was_said_in_other_families(folders, init, name, shifted):
    generator = make(folders[name], num_inference_steps=40)
    if shifted:  # larger images, more noise: SD3.5's and Flux's schedulers
        if name == "sdxl":
            pytest.skip("no flow matching")
        generator.pipe.scheduler.register_to_config(use_dynamic_shifting=True)
    noise, calls = measured(generator, init)
    assert noise == pytest.approx(generator.start.alpha_bar, abs=1e-4) and calls == generator.start.steps
    assert noise == pytest.approx(alpha_bar_of_t_star(35), abs=0.05)


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux"])
def test_equals_a_plain_diffusers_call(folders, init, name):
    generator = make(folders[name])
    images = generator(PROMPTS[:2], SEEDS[:2], init=init[:2])
    plain = diffusers.AutoPipelineForImage2Image.from_pretrained(folders[name])
    for image, prompt, seed, start in zip(images, PROMPTS, SEEDS, init, strict=False):
        arguments = {"num_inference_steps": 6, "guidance_scale": 2.0, **SIZE.get(name, {})}
        draws = torch.Generator().manual_seed(seed)
        strength = generator.start.strength
        theirs = plain(prompt, image=Image.fromarray(start), strength=strength, generator=draws, **arguments).images[0]
        assert distance([image], [np.asarray(theirs)]) <= 1


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux"])
def test_an_image_depends_on_its_prompt_seed_and_start_alone(folders, init, name):
    generator = make(folders[name], scheduler="EulerAncestralDiscreteScheduler" if name in ("sd15", "sdxl") else None)
    together = generator(PROMPTS, SEEDS, init=init)
    alone = [generator([p], [s], init=i[None])[0] for p, s, i in zip(PROMPTS, SEEDS, init, strict=True)]
    assert distance(together, alone) <= 1
    assert distance(together, generator(PROMPTS[::-1], SEEDS[::-1], init=init[::-1].copy())[::-1]) <= 1
    generator.batch_size = 2
    assert distance(together, generator(PROMPTS, SEEDS, init=init)) <= 1
    assert distance(together[:1], generator(PROMPTS[:1], SEEDS[:1], init=init[1:2])) > 1  # another start
    assert distance(together[:1], generator(PROMPTS[:1], [9], init=init[:1])) > 1
    assert distance(together[:1], generator(PROMPTS[2:3], SEEDS[:1], init=init[:1])) >= 1


@pytest.mark.parametrize("name", ["sd15", "flux"])
def test_each_start_image_is_encoded_once_and_those_of_a_batch_together(folders, init, name, monkeypatch):
    generator, encoded = make(folders[name], batch_size=3), []
    starts = init[[0, 1, 0, 2, 1]]
    expected = generator(PROMPTS, SEEDS, init=starts)
    vae = generator.pipe.vae
    encode = vae._encode
    monkeypatch.setattr(vae, "_encode", lambda rows: (encoded.append(len(rows)), encode(rows))[1])
    assert distance(expected, generator(PROMPTS, SEEDS, init=starts)) == 0 and encoded == []
    generator.start_images.encoded.clear()
    assert distance(expected, generator(PROMPTS, SEEDS, init=starts)) == 0
    assert encoded == [2, 1]  # of the three first ones, then what the two others lack
    one = next(iter(generator.start_images.encoded.values())).nbytes
    monkeypatch.setattr("figment.generate.start_images.CACHE_BYTES", 2 * one)
    generator(PROMPTS[:1], SEEDS[:1], init=init[3:4])
    assert len(generator.start_images.encoded) == 2 and encoded == [2, 1, 1]


def test_little_noise_gives_back_the_image_as_the_vae_knows_it(sd15, init):
    """And much noise does not. The first of a sample's random numbers go into the VAE's own sampling."""
    near = make(sd15, {"alpha_bar": 0.9999}, num_inference_steps=500, guidance_scale=1.0)
    far = make(sd15, {"alpha_bar": 0.05}, num_inference_steps=20, guidance_scale=1.0)
    vae = near.pipe.vae
    with torch.no_grad():
        pixels = torch.from_numpy(init).movedim(3, 1) / 127.5 - 1
        draws = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        latents = torch.cat([vae.encode(p[None]).latent_dist.sample(g) for p, g in zip(pixels, draws, strict=True)])
        back = (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1).movedim(1, 3).numpy() * 255
    for generator in (near, far):  # as real ones are: latents of variance one
        generator.pipe.vae.register_to_config(scaling_factor=float(1 / latents.std()))
    off = lambda generator: np.abs(np.stack(generator(PROMPTS, SEEDS, init=init)).astype(float) - back).mean()
    assert near.start.steps == 1 and near.start.alpha_bar > 0.998
    assert off(near) < 3 and off(far) > 5 * off(near)  # grey levels


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3"])
def test_guidance_stops_on_the_way_here_too(folders, init, name):
    widths, images = {}, {}
    for stop in (1.0, 0.5):
        generator = make(folders[name], guidance_scale=6.0, guidance_stop=stop, num_inference_steps=12)
        seen = widths[stop] = []
        denoiser = getattr(generator.pipe, "unet", None) or generator.pipe.transformer
        denoiser.register_forward_hook(lambda module, given, out, seen=seen: seen.append(len(out[0])))
        images[stop] = generator(PROMPTS[:2], SEEDS[:2], init=init[:2])
        steps = generator.start.steps
    assert widths[1.0] == [4] * steps
    assert widths[0.5] == [4] * round(steps / 2) + [2] * (steps - round(steps / 2))
    assert distance(images[1.0], images[0.5]) >= 1


def test_negative_prompts_half_precision_and_other_shapes(sd15, init):
    images = make(sd15)(PROMPTS, SEEDS, init=init)
    assert distance(images, make(sd15, negative_prompt="blurry", guidance_scale=6.0)(PROMPTS, SEEDS, init=init)) > 1
    half = make(sd15, dtype="bfloat16")(PROMPTS, SEEDS, init=init)
    assert np.abs(np.stack(half).astype(float) - images).mean() < 3
    wide = make(sd15, height=32, width=64)(PROMPTS[:1], SEEDS[:1], init=init[:1])
    assert wide[0].shape == (32, 64, 3)
    larger = np.stack([crop_to(one, 128, 128) for one in init])
    cut = np.stack([crop_to(one, 64, 64) for one in larger])
    assert distance(make(sd15)(PROMPTS, SEEDS, init=larger), make(sd15)(PROMPTS, SEEDS, init=cut)) <= 1


def test_a_model_that_paints_in_grey(tmp_path, init):
    image = make(tiny.sd15(tmp_path / "grey", channels=1))(PROMPTS[:1], SEEDS[:1], init=init[:1])[0]
    assert image.shape == (64, 64, 3) and (image[..., 0] == image[..., 2]).all()


def test_memory_and_nan_are_as_without(sd15, init):
    generator = make(sd15, guidance_scale=1.0, batch_size=4)
    expected = generator(PROMPTS, SEEDS, init=init)
    forward, tried = generator.pipe.unet.forward, []

    def small(first, *given, **more):
        tried.append(len(first))
        if len(first) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(first, *given, **more)

    generator.pipe.unet.forward = small
    assert distance(generator(PROMPTS, SEEDS, init=init), expected) <= 1
    assert generator.batch_size == 2 and tried[0] == 4 and max(tried[1:]) == 2

    def poison(module, given, output):
        output[0][0] = torch.nan

    generator.pipe.unet.register_forward_hook(poison)
    images = generator(PROMPTS[:2], SEEDS[:2], init=init[:2])
    assert images[0] is None and distance(images[1:], expected[1:2]) <= 1


def test_each_image_has_its_start_and_the_lora_of_its_class(sd15, init, photos, tmp_path):
    pytest.importorskip("peft")
    names = ["red thing", "green thing", "blue thing"]
    settings = FinetuneSettings(per_class=True, rank=4, alpha=8, learning_rate=1e-2, warmup_steps=1, steps=3)
    base = make(sd15, {"t_star": 80}, num_inference_steps=4)
    tuned = finetune(base, open_images(photos / "train", names), names, settings, folder=tmp_path)
    labels = [2, 0, 1, 1, 0]
    images = tuned(PROMPTS, SEEDS, init=init, labels=labels)
    for i, label in enumerate(labels):
        alone = tuned(PROMPTS[i : i + 1], SEEDS[i : i + 1], init=init[i : i + 1], labels=[label])
        assert distance(images[i : i + 1], alone) <= 1
    assert distance(images, base(PROMPTS, SEEDS, init=init)) > 3


def test_it_travels_and_says_what_it_does(sd15, init, capfd):
    generator = make(sd15, num_inference_steps=20, guidance={"t_star": 15})
    images = generator(PROMPTS[:2], SEEDS[:2], init=init[:2])
    again = pickle.loads(pickle.dumps(generator))
    assert (
        again.fingerprint == generator.fingerprint
        and distance(images, again(PROMPTS[:2], SEEDS[:2], init=init[:2])) == 0
    )
    told = json.loads(json.dumps(generator.describe()))
    assert told["sampler"] == "DDIMScheduler, 20 steps, guidance 2, real guidance (2 of the steps)"
    assert told["pipeline"] == "StableDiffusionImg2ImgPipeline"
    guidance = told["real_guidance"]
    assert guidance["steps"] == 2 and guidance["strength"] == 0.1 and guidance["t_star"] == 15
    assert guidance["alpha_bar"] == pytest.approx(0.9465, abs=1e-4)
    assert guidance["alpha_bar_reached"] == pytest.approx(0.95, abs=0.01) == generator.start.alpha_bar
    assert capfd.readouterr() == ("", "")


def test_mistakes(folders, init):
    generator = make(folders["sd15"])
    with pytest.raises(FigmentError, match="Real guidance starts from real images, and there are none"):
        generator(PROMPTS, SEEDS)
    with pytest.raises(ValueError, match="5 prompts, 5 seeds, 2 start images"):
        generator(PROMPTS, SEEDS, init=init[:2])
    with pytest.raises(FigmentError, match="none for the PixArtAlphaPipeline"):
        make(folders["pixart"])(PROMPTS, SEEDS, init=init)
    with pytest.raises(FigmentError, match="65x64 pixels.*divisible by 8"):
        make(folders["sd15"], height=64, width=65)
    with pytest.raises(FigmentError, match=r"RealGuidanceSettings\(\).resolved\(16\)"):
        DiffusersGenerator(model=str(folders["sd15"]), real_guidance=RealGuidanceSettings())
