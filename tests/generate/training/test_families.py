"""Denoisers that are transformers and learn a flow: their loss is the papers', and what is learnt is diffusers' to open."""

from __future__ import annotations

import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

import tiny
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.finetune import finetune
from figment.generate.finetune_settings import FinetuneSettings
from figment.generate.training.conditions import FLUX_GUIDANCE, Conditions
from figment.generate.training.denoise import Denoising, denoiser_training
from figment.generate.training.families import LAYERS, TRAINED, denoiser_of, pack, unpack
from figment.generate.training.flow import Flow
from figment.generate.training.latents import Latents
from figment.generate.training.settings import DenoiserSettings
from figment.images_in import open_images

NAMES = ["red thing", "green thing", "blue thing"]
SIZES = {"sd3": 64, "flux": 32}
TEXTS = ["a", "a red thing", "b", "a dog", ""]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {name: getattr(tiny, name)(root / name) for name in SIZES}


def generator(folder: Path, side: int, **settings) -> DiffusersGenerator:
    given = {"num_inference_steps": 2, "dtype": "float32", "batch_size": 4, **settings}
    return DiffusersGenerator(model=str(folder), height=side, width=side, **given)


def latents(side: int) -> Latents:
    draws = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 5, 4, side // 8, side // 8, generator=draws)
    return Latents(mean, torch.full_like(mean, 0.1))


def drawn(seen: Latents, index: np.ndarray, seed: int, pipe) -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
    """Latents as they are noised, noise, and what the times are drawn from."""
    draws, config = torch.Generator().manual_seed(seed), pipe.vae.config
    torch.randint(1, (len(index),), generator=draws)
    z = seen.mean[0, index] + seen.std[0, index] * torch.randn(seen.mean[0, index].shape, generator=draws)
    return (z - config.shift_factor) * config.scaling_factor, torch.randn(z.shape, generator=draws), draws


def test_the_loss_of_sd3_is_that_of_the_paper(folders):
    """Esser et al. 2024: times by a logit-normal density, shifted by 3; the error of the velocity."""
    pipe, seen, index, seed = generator(folders["sd3"], 64).pipe, latents(64), np.array([4, 0, 2]), 3
    with torch.no_grad():
        loss = Denoising(pipe, seen, TEXTS, (64, 64))(index, seed).item()
        z, noise, draws = drawn(seen, index, seed, pipe)
        place = (torch.randn(3, generator=draws).sigmoid() * 1000).long()
        share = 1 - place / 1000  # times fall
        sigma = (3 * share / (1 + 2 * share)).view(-1, 1, 1, 1)
        encoded = pipe.encode_prompt([TEXTS[i] for i in index], None, None, do_classifier_free_guidance=False)
        said = pipe.transformer(
            hidden_states=(1 - sigma) * z + sigma * noise,
            timestep=1000 * sigma.flatten(),
            encoder_hidden_states=encoded[0],
            pooled_projections=encoded[2],
        ).sample
    assert loss == pytest.approx((said - (noise - z)).square().mean().item(), rel=1e-4)


def test_the_loss_of_flux_is_that_of_diffusers_training_script(folders):
    """Uniform times without a shift, tokens of 2 x 2 latent pixels with their places, a guidance of 3.5 told as a number."""
    own, seen, index, seed = generator(folders["flux"], 32), latents(32), np.array([4, 0, 2]), 3
    pipe, flux = own.pipe, diffusers.FluxPipeline
    with torch.no_grad():
        loss = Denoising(pipe, seen, TEXTS, (32, 32))(index, seed).item()
        z, noise, draws = drawn(seen, index, seed, pipe)
        schedule = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folders["flux"] / "scheduler")
        place = torch.randint(1000, (3,), generator=draws)
        t, sigma = schedule.timesteps[place], schedule.sigmas[place].view(-1, 1, 1, 1)
        text, pooled, text_ids = pipe.encode_prompt([TEXTS[i] for i in index], None)
        tokens = pipe.transformer(
            hidden_states=flux._pack_latents((1 - sigma) * z + sigma * noise, 3, 4, 4, 4),
            timestep=t / 1000,
            guidance=torch.full((3,), FLUX_GUIDANCE),
            encoder_hidden_states=text,
            pooled_projections=pooled,
            txt_ids=text_ids,
            img_ids=flux._prepare_latent_image_ids(3, 2, 2, "cpu", torch.float32),
        ).sample
        said = flux._unpack_latents(tokens, 32, 32, 8)
    assert loss == pytest.approx((said - (noise - z)).square().mean().item(), rel=1e-4)


def test_tokens_are_those_of_diffusers():
    z = torch.randn(2, 4, 6, 8)
    tokens = pack(z)
    assert torch.equal(tokens, diffusers.FluxPipeline._pack_latents(z, 2, 4, 6, 8))
    assert torch.equal(unpack(tokens, 6, 8), z)


def test_flux_is_told_where_its_tokens_lie(folders):
    pipe = generator(folders["flux"], 32).pipe
    told = Conditions(pipe, (64, 32))(["a", "b"])
    assert torch.equal(told["img_ids"], diffusers.FluxPipeline._prepare_latent_image_ids(2, 4, 2, "cpu", torch.float32))
    assert told["txt_ids"].shape == (told["encoder_hidden_states"].shape[1], 3) and not told["txt_ids"].any()
    with pytest.raises(FigmentError, match="24x32 pixels: height and width must be divisible by 16"):
        Conditions(pipe, (32, 24))


@pytest.mark.parametrize("config", [{}, {"shift": 3.0}, {"shift": 3.0, "use_dynamic_shifting": True}])
def test_a_flow_is_that_of_diffusers_scheduler(config):
    """Also after it was sampled with, which leaves it the times of its steps alone."""
    schedule = diffusers.FlowMatchEulerDiscreteScheduler(**config)
    times = schedule.timesteps.clone()
    z, noise, t = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3), torch.tensor([0, 10, 500, 999])
    expected = schedule.scale_noise(z, times[t], noise)
    schedule.set_timesteps(4, **({"mu": 0.7} if "use_dynamic_shifting" in config else {}))
    flow = Flow.of(schedule, False, "it")
    torch.testing.assert_close(flow.add(z, noise, t), expected)
    torch.testing.assert_close(flow.told(t), times[t])
    assert (flow.weights(t, None) == 1).all()


@pytest.mark.parametrize("logit_normal", [False, True])
def test_times_are_spread_as_the_paper_has_it(logit_normal):
    flow = Flow.of(diffusers.FlowMatchEulerDiscreteScheduler(), logit_normal, "it")
    share = 1 - flow.draw(20_000, torch.Generator().manual_seed(0)) / 1000
    if logit_normal:  # logit(t) is normal
        share = (share / (1 - share + 1e-9)).log()
    mean, std = (0.0, 1.0) if logit_normal else (0.5, 12**-0.5)
    assert (share.mean().item(), share.std().item()) == pytest.approx((mean, std), abs=0.03)


def test_another_scheduler_of_a_flow_is_refused():
    with pytest.raises(FigmentError, match=r"DDIMScheduler does not say .* Leave generate\.scheduler out"):
        Flow.of(diffusers.DDIMScheduler(), False, "it")


def test_layers_are_the_attention_of_both_streams(folders):
    for name, side in SIZES.items():
        pipe = generator(folders[name], side).pipe
        linear = {n for n, m in denoiser_of(pipe).named_modules() if isinstance(m, torch.nn.Linear) and ".attn." in n}
        assert linear == {n for n in linear if n.endswith(tuple(f".{layer}" for layer in LAYERS["transformer"]))}
        loaded = set(type(pipe)._lora_loadable_modules)
        assert loaded >= {"transformer", *TRAINED[type(pipe).__name__].text_encoders}


@pytest.mark.parametrize("family", SIZES)
def test_all_weights_of_a_transformer_can_be_trained_from_python(folders, family):
    side = SIZES[family]
    pipe = generator(folders[family], side).pipe
    settings = DenoiserSettings(steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=0, ema_decay=None)
    training = denoiser_training(pipe, latents(side), TEXTS, settings, size=(side, side))
    before = {name: w.detach().clone() for name, w in training.weights.items()}
    list(training)
    moved = sum(not torch.equal(w, before[name]) for name, w in training.weights.items())
    assert moved > 0.8 * len(before)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "per_class"), [("sd3", True), ("flux", False)])
def test_a_lora_of_a_transformer_is_diffusers_own(folders, photos, tmp_path, family, per_class):
    pytest.importorskip("peft")
    side = SIZES[family]
    base = generator(folders[family], side, guidance_scale=2.0)
    settings = FinetuneSettings(
        rank=4, alpha=8, learning_rate=3e-2, warmup_steps=1, steps=3, batch_size=4, per_class=per_class,
        gradient_checkpointing=True, gradient_accumulation_steps=2,
    )  # fmt: skip
    tuned = finetune(base, open_images(photos / "train", NAMES), NAMES, settings, folder=tmp_path)
    pipe = diffusers.DiffusionPipeline.from_pretrained(folders[family])
    pipe.load_lora_weights(tuned.lora.file(1).parent)
    asked = {"height": side, "width": side, "num_inference_steps": 2, "guidance_scale": 2.0}
    plainly = np.asarray(pipe("a dog", generator=torch.Generator().manual_seed(3), **asked).images[0])
    made, before = tuned(["a dog"], [3], labels=[1])[0], base(["a dog"], [3])[0]
    assert np.abs(made.astype(int) - plainly).max() <= 1 < 5 < np.abs(made.astype(int) - before).max()
    batch = tuned(["a dog"] * 2, [3, 3], labels=[0, 1])
    assert np.abs(batch[1].astype(int) - made).max() <= 1
    assert per_class == (np.abs(batch[0].astype(int) - made).max() > 1)


@pytest.mark.slow
def test_a_transformer_tuned_in_full_is_a_folder_of_diffusers(folders, photos, tmp_path, sd15):
    base = generator(folders["sd3"], 64, guidance_scale=2.0)
    settings = FinetuneSettings(
        method="full", learning_rate=1e-2, warmup_steps=1, steps=3, batch_size=4, ema_decay=0.5,
        gradient_checkpointing=True, optimizer="adafactor",
    )  # fmt: skip
    tuned = finetune(base, open_images(photos / "train", NAMES), NAMES, settings, folder=tmp_path)
    folder = tuned.denoiser.folder
    assert {p.name for p in (folder / "transformer").iterdir()} == {
        "config.json", "diffusion_pytorch_model.safetensors", "loss.json",
    }  # fmt: skip
    transformer = diffusers.SD3Transformer2DModel.from_pretrained(folder, subfolder="transformer")
    pipe = diffusers.DiffusionPipeline.from_pretrained(folders["sd3"], transformer=transformer)
    asked = {"height": 64, "width": 64, "num_inference_steps": 2, "guidance_scale": 2.0}
    plainly = np.asarray(pipe("a dog", generator=torch.Generator().manual_seed(3), **asked).images[0])
    made, before = tuned(["a dog"], [3])[0], base(["a dog"], [3])[0]
    assert np.abs(made.astype(int) - plainly).max() <= 1 < 5 < np.abs(made.astype(int) - before).max()
    later = generator(folders["sd3"], 64, guidance_scale=2.0, denoiser=folder)
    assert later.fingerprint == tuned.fingerprint and np.array_equal(later(["a dog"], [3])[0], made)
    plain = shutil.copytree(
        folder / "transformer", tmp_path / "foreign" / "transformer"
    ).parent  # nobody vouches for it
    assert np.array_equal(generator(folders["sd3"], 64, guidance_scale=2.0, denoiser=plain)(["a dog"], [3])[0], made)
    with pytest.raises(FigmentError, match="The StableDiffusionPipeline of .* has no SD3Transformer2DModel"):
        generator(sd15, 64, denoiser=plain)


@pytest.mark.parametrize(
    ("family", "asked", "said"),
    [
        ("flux", {"method": "full"}, r"\(Flux\) learns LoRAs alone.* Set finetune\.method: lora"),
        ("sd3", {"min_snr_gamma": 5.0}, "learns a flow"),
        ("flux", {"min_snr_gamma": 5.0}, "learns a flow"),
    ],
)
def test_what_a_flow_cannot_do_is_refused_first(folders, photos, tmp_path, family, asked, said):
    base = generator(folders[family], SIZES[family])
    settings = FinetuneSettings(steps=3, warmup_steps=1, **asked)
    with pytest.raises(FigmentError, match=said):
        finetune(base, open_images(photos / "train", NAMES), NAMES, settings, folder=tmp_path)
