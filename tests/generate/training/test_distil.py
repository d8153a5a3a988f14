"""A student in few steps: its targets are where the teacher goes, and what is left opens in diffusers alone."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

import tiny
from figment import files
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.training import distil as distil_module
from figment.generate.training.conditions import Conditions, guidance_embedding
from figment.generate.training.distil import (
    Distilling,
    Teacher,
    Trajectories,
    distil,
    solver,
    student_of,
    student_scheduler,
)
from figment.generate.training.noise import Noise
from figment.generate.training.settings import DistilSettings

SIZE = (64, 64)
TEXTS = ["a red thing", "a green thing", "a cat"]
FAST = {"points": 2, "solver_steps": 2, "trajectories": 6, "steps": 4, "batch_size": 3, "warmup_steps": 0}
METHODS = ("progressive", "consistency")


def generator(folder, **settings) -> DiffusersGenerator:
    return DiffusersGenerator(**{"model": str(folder), "dtype": "float32", "num_inference_steps": 3, **settings})


def opened(folder, **settings):
    return generator(folder, **settings).pipe


def settings(**changes) -> DistilSettings:
    return DistilSettings(**{**FAST, **changes})


def student(folder, method: str, out, **changes):
    """What distillation leaves, and the losses on the way."""
    steps = distil(generator(folder), TEXTS, settings(method=method, **changes), folder=out, seed=3)
    return [step.loss for step in steps]


@pytest.mark.parametrize("builder", ["sd15", "sdxl"])
def test_a_trajectory_ends_at_the_teachers_image(request, builder):
    """What diffusers' own pipeline makes with the same noise, guidance and solver."""
    base = generator(request.getfixturevalue(builder))
    pipe, shown = base.pipe, Teacher(base, settings(guidance=(2.5, 2.5))).show(TEXTS[:2], seed=5)
    assert shown.points.shape == (3, 2, 4, 8, 8) and shown.times.tolist() == [999, 499]
    pipe.scheduler = solver(pipe.scheduler)
    made = pipe(
        TEXTS[:2], latents=shown.points[0], num_inference_steps=4, guidance_scale=2.5, output_type="latent"
    ).images
    torch.testing.assert_close(shown.points[-1], made, atol=1e-4, rtol=1e-4)


def test_guidance_and_noise_follow_from_the_seed(sd15):
    teacher = Teacher(generator(sd15), settings(guidance=(1.0, 3.0)))
    one, two, other = (teacher.show(TEXTS[:2], seed) for seed in (1, 1, 2))
    assert torch.equal(one.points, two.points) and not torch.equal(one.points, other.points)
    assert ((one.guidance >= 1) & (one.guidance <= 3)).all() and one.guidance[0] != one.guidance[1]


def trajectory(noise: Noise, points: int) -> Trajectories:
    draws = torch.Generator().manual_seed(0)
    times = torch.arange(1000 - 1, -1, -1000 // points)[:points]
    shown = torch.randn(points + 1, 3, 4, 8, 8, generator=draws)
    return Trajectories(shown, times, torch.ones(3), TEXTS)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("points", [1, 2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_a_student_that_hits_its_target_lands_where_the_teacher_does(method, points, kind):
    """Through the scheduler that it is saved with: the next point, or the image."""
    own = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=kind)
    noise, asked = Noise.of(own, "it"), settings(method=method, points=points)
    shown = trajectory(noise, points)
    loss = Distilling(None, shown, None, noise, method)
    scheduler = student_scheduler(own, asked)
    scheduler.set_timesteps(points)
    assert scheduler.timesteps.tolist() == shown.times.tolist()
    index = np.arange(3)
    for i, t in enumerate(scheduler.timesteps):
        x, end = shown.points[i], loss._ends(torch.full((3,), i), index)
        if kind == "epsilon" and i == 0:
            continue  # of pure noise, the noise says nothing in float32
        a, s = noise.scales(t[None])
        said = noise.target(end, (x - a * end) / s, t[None].repeat(3))
        moved = scheduler.step(said, t, x, generator=torch.Generator().manual_seed(0))
        if method == "progressive":
            torch.testing.assert_close(moved.prev_sample, shown.points[i + 1], atol=1e-3, rtol=1e-3)
        else:
            torch.testing.assert_close(moved.denoised, shown.points[-1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [7, 256])
def test_guidance_is_told_as_diffusers_tells_it(sd15, size):
    scale = torch.tensor([1.0, 1.5, 7.5])
    expected = opened(sd15).get_guidance_scale_embedding(scale - 1, embedding_dim=size)
    torch.testing.assert_close(guidance_embedding(scale, size), expected)


def test_a_student_starts_as_its_teacher(sd15):
    pipe = opened(sd15)
    student, told = student_of(pipe.unet), Conditions(pipe, SIZE)(TEXTS[:1])
    x, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    with torch.no_grad():
        said = student(x, t, timestep_cond=guidance_embedding(torch.tensor([4.0]), 256), **told).sample
        torch.testing.assert_close(said, pipe.unet(x, t, **told).sample)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_left_opens_in_diffusers_alone_and_in_figment(sd15, tmp_path, method):
    student(sd15, method, tmp_path)
    pipe = diffusers.DiffusionPipeline.from_pretrained(
        sd15, unet=diffusers.UNet2DConditionModel.from_pretrained(tmp_path, subfolder="unet")
    )
    kind = {"progressive": diffusers.DDIMScheduler, "consistency": diffusers.LCMScheduler}[method]
    pipe.scheduler = kind.from_pretrained(tmp_path, subfolder="scheduler")
    own = DiffusersGenerator(
        model=str(sd15), denoiser=tmp_path, dtype="float32", num_inference_steps=2, guidance_scale=2.0
    )
    images = own(["a cat", "a red thing"], [3, 4])
    for image, prompt, seed in zip(images, ["a cat", "a red thing"], [3, 4], strict=True):
        draws = torch.Generator().manual_seed(seed)
        plain = pipe(prompt, generator=draws, num_inference_steps=2, guidance_scale=2.0).images[0]
        assert np.abs(np.asarray(plain).astype(int) - image).max() <= 1
    if method == "progressive":
        with pytest.raises(FigmentError, match=r"was distilled for 2.*Set num_inference_steps: 2"):
            generator(sd15, denoiser=tmp_path)
    calls = []
    own.pipe.unet.register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))
    own(["a cat"], [3])
    assert calls == [1, 1]  # one pass a step, guidance or not
    teacher = DiffusersGenerator(model=str(sd15), dtype="float32", num_inference_steps=2)
    assert own.fingerprint != teacher.fingerprint and type(own.pipe.scheduler) is kind
    assert own.describe()["model_fingerprint"] != teacher.describe()["model_fingerprint"]


@pytest.mark.parametrize("builder", ["sd15", "sdxl"])
def test_a_teacher_in_half_precision_has_a_student_in_float32(request, builder, tmp_path):
    """Its texts are in bfloat16, those that SDXL pools and its sizes too."""
    teacher = generator(request.getfixturevalue(builder), dtype="bfloat16")
    assert len(list(distil(teacher, TEXTS, settings(), folder=tmp_path))) == FAST["steps"]
    unet = diffusers.UNet2DConditionModel.from_pretrained(tmp_path, subfolder="unet")
    assert unet.dtype == torch.float32


def test_the_loss_falls(sd15, tmp_path):
    losses = student(sd15, "progressive", tmp_path, steps=30, learning_rate=5e-3, batch_size=6)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.parametrize("dies_after", [1, 3])
def test_a_killed_distillation_ends_with_the_same_bits(sd15, tmp_path, monkeypatch, dies_after):
    monkeypatch.setattr("figment.checkpoint.Checkpoint.is_due", lambda self: True)
    whole = student(sd15, "progressive", tmp_path / "whole")
    for step in distil(generator(sd15), TEXTS, settings(method="progressive"), folder=tmp_path / "cut", seed=3):
        if step.number == dies_after:
            break
    assert not (tmp_path / "cut" / "unet").exists()
    monkeypatch.setattr(Teacher, "show", None)  # the trajectories are there already
    assert student(sd15, "progressive", tmp_path / "cut") == whole[dies_after:]
    assert not (tmp_path / "cut" / ".work").exists()
    assert student(sd15, "progressive", tmp_path / "cut") == []  # it is finished
    with pytest.raises(FigmentError, match="holds what was made from other settings"):
        student(sd15, "progressive", tmp_path / "cut", steps=5)
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_was_killed_before_it_cleaned_up_is_cleaned_up_later(sd15, tmp_path, monkeypatch):
    clear = distil_module.clear

    def killed(folder, pattern):
        files.temporary_of(next(folder.glob(pattern))).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("figment.checkpoint.Checkpoint.is_due", lambda self: True)
    monkeypatch.setattr(distil_module, "clear", killed)
    with pytest.raises(KeyboardInterrupt):
        student(sd15, "progressive", tmp_path)
    assert (tmp_path / "stage.json").is_file() and list((tmp_path / ".work" / "trajectories").iterdir())
    monkeypatch.setattr(distil_module, "clear", clear)
    assert student(sd15, "progressive", tmp_path) == []
    assert not (tmp_path / ".work").exists()


def test_what_cannot_be_distilled_is_refused(sd15, tmp_path):
    base = generator(sd15)
    with pytest.raises(FigmentError, match="points is 3"):
        Teacher(base, settings(points=3))
    base.pipe.unet = student_of(base.pipe.unet)
    with pytest.raises(FigmentError, match="distilled already"):
        Teacher(base, settings())
    with pytest.raises(FigmentError, match="a PixArtAlphaPipeline cannot be trained here"):
        Teacher(generator(tiny.pixart(tmp_path)), settings())


@pytest.mark.parametrize("asked", [{"negative_prompt": "blurred"}, {"guidance_stop": 0.5}])
def test_what_takes_a_second_pass_is_refused(sd15, tmp_path, asked):
    student(sd15, "consistency", tmp_path, steps=1, trajectories=1)
    with pytest.raises(FigmentError, match=f"was distilled.*{next(iter(asked))}"):
        opened(sd15, denoiser=tmp_path, num_inference_steps=2, **asked)
    with pytest.raises(
        FigmentError, match=r"holds no denoiser: there is no unet/config\.json and no transformer/config\.json"
    ):
        opened(sd15, denoiser=tmp_path / "unet")


def unvouched(model, folder) -> Path:
    """A denoiser that no record speaks of: the model's own."""
    opened(model).unet.save_pretrained(folder / "unet")
    (folder / "scheduler").mkdir()
    return folder


@pytest.mark.parametrize("text", ["[]", "null", "5", '{"_class_name": 5}', "{"])
def test_a_scheduler_that_is_no_configuration_is_refused(sd15, tmp_path, text):
    (unvouched(sd15, tmp_path) / "scheduler" / "scheduler_config.json").write_text(text)
    with pytest.raises(FigmentError, match=r"scheduler_config\.json is no configuration of a scheduler"):
        generator(sd15, denoiser=tmp_path)


LEARNT = {"num_inference_steps": 4, "guidance_scale": 2.0}


@pytest.mark.parametrize(
    ("method", "asked", "said"),
    [
        ("progressive", {}, None),
        ("progressive", {"guidance_scale": 1.5}, None),
        ("progressive", {"guidance_scale": 2.5, "scheduler": "DDIMScheduler"}, None),
        ("progressive", {"guidance_scale": 1.0}, r"guidance_scale is 1, .* was distilled for 1\.5 to 2\.5"),
        ("progressive", {"guidance_scale": 7.5}, r"guidance_scale is 7\.5, .* was distilled for 1\.5 to 2\.5"),
        ("progressive", {"num_inference_steps": 2}, "was distilled for 4: .*Set num_inference_steps: 4"),
        ("progressive", {"scheduler": "LCMScheduler"}, "scheduler is LCMScheduler, .*the DDIMScheduler"),
        ("consistency", {"num_inference_steps": 1}, None),
        ("consistency", {"num_inference_steps": 2, "scheduler": "LCMScheduler"}, None),
        ("consistency", {"num_inference_steps": 3}, "was distilled for 1 or 2 or 4: .*"),
        ("consistency", {"num_inference_steps": 8}, "was distilled for 1 or 2 or 4: .*"),
        ("consistency", {"scheduler": "DDIMScheduler"}, "scheduler is DDIMScheduler, .*the LCMScheduler"),
    ],
)
def test_a_student_is_asked_for_what_it_learnt_alone(sd15, tmp_path, method, asked, said):
    short = {"points": 4, "solver_steps": 1, "guidance": (1.5, 2.5), "steps": 1, "trajectories": 1}
    student(sd15, method, tmp_path, **short)
    if said is None:
        assert generator(sd15, denoiser=tmp_path, **{**LEARNT, **asked})(["a cat"], [3])[0] is not None
    else:
        with pytest.raises(FigmentError, match=said):
            generator(sd15, denoiser=tmp_path, **{**LEARNT, **asked})
    (tmp_path / "stage.json").unlink()  # then nobody knows what it learnt
    assert generator(sd15, denoiser=tmp_path, **{**LEARNT, "guidance_scale": 7.5}).denoiser.distilled is None


def test_a_student_goes_with_the_model_that_its_teacher_is_of(sd15, sdxl, tmp_path):
    """Whose denoiser may have been another: the student takes the place of both."""
    own = generator(sd15, denoiser=unvouched(sd15, tmp_path / "own"))
    for teacher, folder in ((generator(sd15), tmp_path / "one"), (own, tmp_path / "two")):
        for _ in distil(teacher, TEXTS, settings(steps=1, trajectories=1), folder=folder):
            pass
        assert generator(sd15, denoiser=folder, num_inference_steps=2)(["a cat"], [3])[0] is not None
        with pytest.raises(FigmentError, match="was trained from another model than"):
            generator(sdxl, denoiser=folder, num_inference_steps=2)


def test_the_card_says_that_there_is_another_denoiser(sd15, tmp_path):
    own = generator(sd15, denoiser=unvouched(sd15, tmp_path / "mine"))
    student(sd15, "progressive", tmp_path / "fast", steps=1, trajectories=1)
    fast = generator(sd15, denoiser=tmp_path / "fast", num_inference_steps=2)
    assert own.describe()["sampler"].endswith("another denoiser (mine)")
    assert fast.describe()["sampler"].endswith("another denoiser (fast, distilled)")
    assert "denoiser" not in generator(sd15).describe()["sampler"]


def test_a_damaged_student_is_distilled_again(sd15, tmp_path):
    student(sd15, "progressive", tmp_path, steps=1, trajectories=1)
    base, record = generator(sd15, denoiser=tmp_path, num_inference_steps=2), tmp_path / "stage.json"
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    whole, told = weights.read_bytes(), record.read_text()
    weights.write_bytes(whole[:-1] + b"\x01")
    with pytest.raises(FigmentError, match=r"model\.safetensors changed\. Move .* away and distil it again"):
        base(["a cat"], [3])
    weights.write_bytes(whole)
    record.unlink()
    with pytest.raises(FigmentError, match=r"is not distilled yet.* and distil it again"):
        base(["a cat"], [3])
    record.write_text(told.replace('"points": 2', '"points": 4'))  # nothing tells any more what it is
    with pytest.raises(FigmentError, match=r"stage\.json was changed since it was written.* make it again"):
        generator(sd15, denoiser=tmp_path)(["a cat"], [3])
