"""All weights of a denoiser, trained on images and captions."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch

from figment.checkpoint import Checkpoint
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.training.denoise import Denoising, denoiser_training
from figment.generate.training.latents import Latents, encode_images, store_latents
from figment.generate.training.loop import resume
from figment.generate.training.settings import DenoiserSettings

SIZE = (64, 64)
FAST = {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 0}
WORDS = ("red", "green", "blue", "grey")


def opened(folder):
    return DiffusersGenerator(model=str(folder), dtype="float32", num_inference_steps=3).pipe


def latents(n: int = 5) -> Latents:
    draws = torch.Generator().manual_seed(0)
    return Latents(torch.randn(1, n, 4, 8, 8, generator=draws), torch.full((1, n, 4, 8, 8), 0.1))


def caption(index: int, rng: np.random.Generator) -> str:
    return f"a {rng.choice(WORDS)} thing, number {index}"


def test_images_are_encoded_in_order_and_mirrored(sd15):
    vae = opened(sd15).vae
    x = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = encode_images(vae, iter(x.split(2)), horizontal_flip=True)
    assert seen.mean.shape == seen.std.shape == (2, 5, 4, 8, 8) and len(seen) == 5
    with torch.no_grad():
        expected = vae.encode(x.flip(-1)[3:4]).latent_dist
    torch.testing.assert_close(seen.mean[1, 3:4], expected.mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen.std[1, 3:4], expected.std, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("builder", ["sd15", "sdxl"])
def test_the_loss_is_diffusers_formula(request, builder):
    """Written out with diffusers' scheduler and the pipeline's own encoding of texts."""
    folder = request.getfixturevalue(builder)
    pipe, seen, index, seed = opened(folder), latents(), np.array([4, 0, 2]), 3
    with torch.no_grad():
        loss = Denoising(pipe, seen, caption, SIZE, min_snr_gamma=5.0)(index, seed).item()
    draws, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    torch.randint(1, (3,), generator=draws)
    z = seen.mean[0, index] + seen.std[0, index] * torch.randn(3, 4, 8, 8, generator=draws)
    z = z * pipe.vae.config.scaling_factor
    noise, t = torch.randn(3, 4, 8, 8, generator=draws), torch.randint(1000, (3,), generator=draws)
    schedule = diffusers.DDPMScheduler.from_pretrained(folder / "scheduler")
    texts = [caption(int(i), rng) for i in index]
    told = {}
    with torch.no_grad():
        encoded = pipe.encode_prompt(texts, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
        if builder == "sdxl":
            ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 3)
            told = {"added_cond_kwargs": {"text_embeds": encoded[2], "time_ids": ids}}
        said = pipe.unet(schedule.add_noise(z, noise, t), t, encoded[0], **told).sample
    snr = diffusers.training_utils.compute_snr(schedule, t)
    expected = (((said - noise) ** 2).mean((1, 2, 3)) * snr.clamp(max=5) / snr).mean().item()
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("n", [2, 3, 9])
@pytest.mark.parametrize("builder", ["sd15", "sdxl"])
def test_a_batch_in_parts_has_the_same_gradient(request, builder, n):
    pipe = opened(request.getfixturevalue(builder))
    loss = Denoising(pipe, latents(), caption, SIZE, min_snr_gamma=5.0, caption_dropout=0.3, text_learns=True)
    weights = [*pipe.unet.parameters(), *pipe.text_encoder.parameters()]
    index, found = np.array([4, 0, 2, 1, 3]), []
    for parts in (1, n):
        pipe.unet.zero_grad(), pipe.text_encoder.zero_grad()
        total = 0.0
        for part in loss.parts(index, 3, parts):
            part.backward()
            total += part.item()
        found.append((total, torch.cat([w.grad.flatten() for w in weights if w.grad is not None])))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-3, atol=1e-5)


def test_latents_on_disk_are_those_in_memory_and_are_made_once(sd15, tmp_path):
    vae = opened(sd15).vae
    x = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    asked: list[range] = []

    def pixels(rows: range):
        asked.append(rows)
        return iter(x[list(rows)].split(2))

    kept = encode_images(vae, iter(x.split(2)), horizontal_flip=True)
    stored = store_latents(vae, pixels, 5, 2, tmp_path, horizontal_flip=True)
    assert len(stored) == 5 and stored.views == 2 and asked == [range(0, 2), range(2, 4), range(4, 5)]
    view, index = torch.tensor([0, 1, 1, 0]), np.array([4, 0, 3, 3])
    for a, b in zip(stored.of(view, index), kept.of(view, index), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    (tmp_path / "00001.safetensors").unlink()  # not written over: it is mapped into memory
    (tmp_path / "00001.safetensors").write_bytes(b"half of it")
    again = store_latents(vae, pixels, 5, 2, tmp_path, horizontal_flip=True)
    assert asked[3:] == [range(2, 4)]
    assert all(torch.equal(a, b) for a, b in zip(again.of(view, index), stored.of(view, index), strict=True))


@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_captions_follow_from_the_seed_or_are_dropped(sd15, dropout):
    said = []
    loss = Denoising(opened(sd15), latents(), caption, SIZE, caption_dropout=dropout)
    loss.conditions = lambda texts, own=loss.conditions: said.append(texts) or own(texts)
    with torch.no_grad():
        for seed in (1, 1, 2):
            loss(np.array([3, 1]), seed)
    assert said[0] == said[1] and (said[0] != said[2] if dropout == 0 else set(said[2]) == {""})


def test_it_learns_and_a_kill_at_any_step_changes_nothing(sd15, tmp_path):
    def start():
        pipe = opened(sd15)
        return pipe, denoiser_training(pipe, latents(), caption, DenoiserSettings(**FAST), size=SIZE, seed=7)

    pipe, whole = start()
    text = pipe.text_encoder.state_dict()
    before = {name: w.detach().clone() for name, w in whole.weights.items()}
    list(whole)
    assert all(torch.equal(w, text[name]) for name, w in pipe.text_encoder.state_dict().items())
    assert len(before) == len(list(pipe.unet.parameters()))
    assert sum(not torch.equal(w, before[name]) for name, w in whole.weights.items()) > 0.9 * len(before)
    for dies_after in (1, 3):
        checkpoint = Checkpoint(tmp_path / f"{dies_after}.safetensors", "it")
        assert (
            len([s for _, s in zip(range(dies_after), resume(start()[1], checkpoint, 1), strict=False)]) == dies_after
        )
        _, again = start()
        assert next(iter(resume(again, checkpoint, 1))).number == dies_after + 1
        list(again)
        assert all(torch.equal(w, whole.weights[name]) for name, w in again.weights.items())
        assert all(torch.equal(w, whole.average[name]) for name, w in again.average.items())


def test_the_loss_falls(sd15):
    pipe = opened(sd15)
    fixed = Denoising(pipe, latents(2), ["a", "b"], SIZE)
    training = denoiser_training(
        pipe,
        latents(2),
        ["a", "b"],
        DenoiserSettings(**{**FAST, "steps": 20, "ema_decay": None, "learning_rate": 3e-3}),
        size=SIZE,
    )
    training.loss_of = lambda step: fixed(
        np.array([0, 1]), 5
    )  # the same noise and times: so little is learnt in seconds
    list(training)
    assert training.losses[-1] < 0.8 * training.losses[0]
