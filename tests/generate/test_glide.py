"""GLIDE by a tiny twin of its package: the sampling is diffusers' own on the same timesteps, and He et al. 2023's settings."""

from __future__ import annotations

import pickle
import sys
import weakref

import diffusers
import numpy as np
import pytest
import torch

import glide_twin
from figment.errors import FigmentError
from figment.generate.glide import BASE, UPSAMPLER, GlideGenerator
from figment.generate.seeds import stage_seed
from figment.recipe import validate
from figment.run import make_images

PROMPTS, SEEDS = ["a dog", "a red bird", ""], [3, 1, 2**63 - 1]


@pytest.fixture
def weights(tmp_path, monkeypatch):
    glide_twin.installed(monkeypatch)
    torch.manual_seed(0)
    folder = tmp_path / "glide"
    folder.mkdir()
    for name, super_res in ((BASE, False), (UPSAMPLER, True)):
        torch.save(glide_twin.Model(super_res).state_dict(), folder / name)
    return folder


def made(weights, **settings) -> GlideGenerator:
    return GlideGenerator(weights=weights, **{"num_inference_steps": 5, "device": "cpu", **settings})


def by_diffusers(generator: GlideGenerator, prompt: str, seed: int) -> np.ndarray:
    """One image, step by step."""
    (base, _, _), (upper, _, side) = generator.base, generator.upsampler
    schedule = {"variance_type": "learned_range", "clip_sample": True}
    ancestral = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", **schedule)
    ancestral.set_timesteps(timesteps=glide_twin.timesteps(str(generator.num_inference_steps))[::-1])
    draws = torch.Generator().manual_seed(seed)
    text, none = generator._text(base, [prompt]), generator._text(base, [""])
    with torch.no_grad():
        x = torch.randn(1, 3, 8, 8, generator=draws)
        for t in ancestral.timesteps:
            own, other = base(x, t[None], **text), base(x, t[None], **none)
            noise = other[:, :3] + generator.guidance_scale * (own[:, :3] - other[:, :3])
            told = noise if generator.guidance_scale > 1 else own[:, :3]
            x = ancestral.step(torch.cat([told, own[:, 3:]], 1), t, x, generator=draws).prev_sample
        low = torch.from_numpy(np.round((x.numpy() + 1) * 127.5) / 127.5 - 1)
        kept = torch.from_numpy(glide_twin.kept_signal("linear"))
        x = 0.997 * torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(stage_seed(seed, 1)))
        steps = glide_twin.timesteps("fast27")[::-1]
        for t, then in zip(steps, [*steps[1:], None], strict=True):  # DDIM, eta 0 (Song et al. 2020, equation 12)
            noise = upper(x, torch.tensor([t]), low_res=low, **text)[:, :3]
            x0 = ((x - (1 - kept[t]).sqrt() * noise) / kept[t].sqrt()).clamp(-1, 1)
            noise, left = (x - kept[t].sqrt() * x0) / (1 - kept[t]).sqrt(), 1.0 if then is None else kept[then]
            x = left**0.5 * x0 + (1 - left) ** 0.5 * noise
    return ((x[0].movedim(0, 2).double().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def distance(a, b) -> int:
    return int(np.abs(np.stack(a).astype(int) - np.stack(b)).max())


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("steps", [3, 5, 12])
def test_both_stages_are_sampled_as_diffusers_does_on_these_timesteps(weights, guidance, steps):
    generator = made(weights, guidance_scale=guidance, num_inference_steps=steps)
    images = generator(PROMPTS, SEEDS)
    assert images[0].shape == (16, 16, 3) and images[0].std() > 5
    assert distance(images, [by_diffusers(generator, *one) for one in zip(PROMPTS, SEEDS, strict=True)]) <= 1


def test_an_image_depends_on_its_prompt_seed_and_settings_alone(weights):
    generator = made(weights)
    images = generator(PROMPTS, SEEDS)
    assert (
        distance(images, [made(weights, batch_size=1)([p], [s])[0] for p, s in zip(PROMPTS, SEEDS, strict=True)]) <= 1
    )
    assert distance(images, pickle.loads(pickle.dumps(generator))(PROMPTS, SEEDS)) == 0
    prints = {
        generator.fingerprint,
        made(weights, guidance_scale=2).fingerprint,
        made(weights, num_inference_steps=6).fingerprint,
    }
    other = glide_twin.Model(True)
    torch.save(other.state_dict(), weights / UPSAMPLER)
    assert len(prints | {made(weights).fingerprint}) == 4
    assert distance(images, made(weights)(PROMPTS, SEEDS)) > 1
    assert made(weights, device="cpu", batch_size=2).fingerprint == made(weights).fingerprint


def test_closed_it_lets_go_of_both_models_and_opens_them_again(weights):
    generator = made(weights)
    expected = generator(PROMPTS, SEEDS)
    models = [weakref.ref(opened[0]) for opened in (generator.base, generator.upsampler)]
    generator.close()
    assert [model() for model in models] == [None, None]
    assert distance(generator(PROMPTS, SEEDS), expected) == 0


def test_an_image_that_fails_spares_the_others(weights):
    generator = made(weights, guidance_scale=1.0)
    clean = generator(PROMPTS, SEEDS)
    generator.base[0].net.register_forward_hook(
        lambda module, given, out: out.index_fill(0, torch.tensor([1]), torch.nan)
    )
    images = generator(PROMPTS, SEEDS)
    assert images[1] is None and distance([images[0], images[2]], [clean[0], clean[2]]) == 0


def test_in_a_run(weights, tmp_path):
    generate = {
        "kind": "glide",
        "weights": str(weights),
        "num_inference_steps": 3,
        "images_per_class": 2,
        "device": "cpu",
    }
    recipe = validate({"task": {"class_names": ["cat", "dog"]}, "generate": generate}, "it")
    folder = make_images(recipe, tmp_path / "run")
    assert "DDPM, 3 steps, guidance 3; then DDIM, fast27" in (folder / "README.md").read_text()
    moved = weights.rename(tmp_path / "moved")
    make_images(recipe.changed({"generate.weights": str(moved)}), tmp_path / "run")  # the same weights elsewhere


def test_what_is_not_there_is_said(weights, monkeypatch):
    generator = made(weights)
    with pytest.raises(FigmentError, match="takes no start images"):
        generator(PROMPTS[:1], SEEDS[:1], init=np.zeros((1, 8, 8, 3), np.uint8))
    torch.save({"words.weight": torch.zeros(51, 6)}, weights / BASE)
    with pytest.raises(FigmentError, match=r"base.pt in .* is not GLIDE's: .*Download it again: https://.*/base.pt"):
        made(weights)(PROMPTS[:1], SEEDS[:1])
    (weights / BASE).write_bytes(b"no checkpoint")
    with pytest.raises(FigmentError, match="base.pt cannot be read"):
        made(weights)(PROMPTS[:1], SEEDS[:1])
    (weights / BASE).unlink()
    with pytest.raises(FigmentError, match=r"There is no base.pt in .* Download it from https://"):
        made(weights)
    monkeypatch.delitem(sys.modules, "glide_text2im")
    with pytest.raises(FigmentError, match="pip install git\\+https://github.com/openai/glide-text2im"):
        made(weights)
