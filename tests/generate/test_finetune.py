"""A generator tuned on real images: it learns, goes on where it was killed, and its files are diffusers' own."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import time
from pathlib import Path

import diffusers
import numpy as np
import pytest
import safetensors.torch
import torch

import tiny
from damage import flip
from figment import files, records
from figment.checkpoint import Checkpoint
from figment.checkpoint_bytes import before
from figment.context import Context
from figment.engines import Local
from figment.errors import FigmentError
from figment.evaluate.fidelity import frechet_distance
from figment.forecast import forecast
from figment.generate import finetune as finetune_module
from figment.generate import lora_training
from figment.generate.captions import captions_of
from figment.generate.denoiser import Denoiser
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.fill import generate_images
from figment.generate.finetune import CHECKPOINT, Finetuning, Validation, finetune
from figment.generate.finetune_settings import FinetuneSettings
from figment.generate.lora import WEIGHTS, open_lora
from figment.generate.lora_training import Learner
from figment.generate.plan import Plan
from figment.generate.seeds import sample_seed
from figment.generate.training.noise import Noise
from figment.images_in import open_images
from figment.layout import Run
from figment.recipe import validate
from figment.repair import repair
from figment.run import run_recipe
from figment.stages.finetune import Finetune
from figment.stages.stage import StageStatus
from figment.status import status
from figment.studies.arms import run_arms
from figment.types import Prompt
from figment.verify import verify
from test_tracking import TRACKIO
from warm import python

pytest.importorskip("peft")

pytestmark = pytest.mark.slow

NAMES = ["red thing", "green thing", "blue thing"]
WHOLE = "unet/diffusion_pytorch_model.safetensors"
FAST = {"rank": 4, "alpha": 8, "learning_rate": 1e-2, "warmup_steps": 1, "steps": 4, "batch_size": 4}
SAMPLING = {"num_inference_steps": 3, "dtype": "float32", "batch_size": 4}


@pytest.fixture(scope="module")
def images(photos):
    return open_images(photos / "train", NAMES)


def generator(folder: Path, **settings) -> DiffusersGenerator:
    return DiffusersGenerator(model=str(folder), **{**SAMPLING, **settings})


def tune(base: DiffusersGenerator, images, folder: Path, seed: int = 0, every: int | None = None, **settings):
    settings = FinetuneSettings(**{**FAST, **settings})
    return finetune(base, images, NAMES, settings, folder=folder, seed=seed, checkpoint_steps=every)


def weights(tuned: DiffusersGenerator) -> dict[str, bytes]:
    folder = tuned.lora.folder
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob(WEIGHTS))}


def plain(folder: Path, lora: Path, prompt: str, seed: int, scale: float = 1.0, **arguments) -> np.ndarray:
    """What a user of diffusers gets from the files."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.load_lora_weights(lora, adapter_name="own")
    pipe.set_adapters("own", scale)
    draws = torch.Generator().manual_seed(seed)
    return np.asarray(pipe(prompt, generator=draws, num_inference_steps=3, guidance_scale=2.0, **arguments).images[0])


def distance(a, b) -> int:
    return int(np.abs(np.stack(a).astype(int) - np.stack(b)).max())


# ---- what is learned -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("builder", ["sd15", "sdxl"])
def test_the_files_are_those_of_diffusers(request, builder, images, tmp_path):
    model = request.getfixturevalue(builder)
    base = generator(model)
    tuned = tune(base, images, tmp_path)
    prompts, seeds = ["a photo of a red thing", "a photo of a cat"], [3, 2**62]
    decoded, before = tuned(prompts, seeds), base(prompts, seeds)
    for image, old, prompt, seed in zip(decoded, before, prompts, seeds, strict=True):
        assert distance([image], [plain(model, tuned.lora.folder, prompt, seed)]) <= 1
        assert distance([image], [old]) > 10  # the generator that was given stays as it was
    half = DiffusersGenerator(model=str(model), lora=open_lora(tuned.lora.folder, 0.5), **SAMPLING)
    assert distance(half(prompts[:1], seeds[:1]), [plain(model, tuned.lora.folder, prompts[0], seeds[0], 0.5)]) <= 1
    parts = {name.split(".")[0] for name in safetensors.torch.load_file(tuned.lora.file(0))}
    assert parts == {"unet", "text_encoder", *(["text_encoder_2"] if builder == "sdxl" else [])}


def test_what_is_sampled_is_what_was_trained(sd15, images, tmp_path, monkeypatch):
    """alpha is twice the rank here: peft applies it in training, and the file holds it afterwards."""
    trained: list[Learner] = []
    monkeypatch.setattr(finetune_module, "Learner", lambda *given: trained.append(Learner(*given)) or trained[0])
    tuned = tune(generator(sd15), images, tmp_path)
    draws = torch.Generator().manual_seed(3)
    image = trained[0].pipe("a dog", generator=draws, num_inference_steps=3, guidance_scale=2.0).images[0]
    assert distance([np.asarray(image)], tuned(["a dog"], [3])) <= 1


def test_each_image_of_a_mixed_batch_has_the_weights_of_its_class(sd15, images, tmp_path):
    tuned = tune(generator(sd15), images, tmp_path, per_class=True)
    assert len(set(weights(tuned).values())) == 3 and tuned.wants_labels
    prompts, seeds, labels = ["a thing", "a thing", "a thing", "a red thing", "a dog"], [7, 7, 7, 1, 2], [2, 0, 1, 0, 2]
    decoded = tuned(prompts, seeds, labels=labels)  # batches of 4
    for image, prompt, seed, label in zip(decoded, prompts, seeds, labels, strict=True):
        assert distance([image], [plain(sd15, tuned.lora.file(label).parent, prompt, seed)]) <= 1
        assert distance([image], tuned([prompt], [seed], labels=[label])) <= 1
    assert distance(decoded[:1], decoded[1:2]) > 5 and distance(decoded[1:2], decoded[2:3]) > 5
    with pytest.raises(FigmentError, match="with labels"):
        tuned(prompts, seeds)


def test_guidance_that_ends_early_and_none_at_all(sd15, images, tmp_path):
    lora = tune(generator(sd15), images, tmp_path, per_class=True, text_encoder=False).lora
    assert all(name.startswith("unet.") for name in safetensors.torch.load_file(lora.file(1)))
    for settings in ({"guidance_stop": 0.4}, {"guidance_scale": 1.0}):
        tuned = generator(sd15, lora=lora, **settings)
        decoded = tuned(["a", "b", "c"], [1, 2, 3], labels=[1, 0, 2])
        alone = [tuned([p], [s], labels=[y])[0] for p, s, y in (("a", 1, 1), ("b", 2, 0), ("c", 3, 2))]
        assert distance(decoded, alone) <= 1
    assert distance(decoded[:1], generator(sd15, guidance_scale=1.0)(["a"], [1])) > 3


def test_the_loss_on_a_repeated_image_falls(sd15, images, tmp_path, monkeypatch):
    monkeypatch.setattr(
        lora_training, "sample_seed", lambda *name: 0
    )  # the same noise and time, too: random weights learn no more
    tuned = tune(generator(sd15), images.take([0]), tmp_path, steps=120, rank=8)
    curve = json.loads((tuned.lora.folder / "stage.json").read_text())["loss"][WEIGHTS]
    assert len(curve) == 100
    assert curve[-1] < 0.8 * curve[0]


def learner(folder: Path, images, size: tuple[int, int] | None = None, **settings) -> Learner:
    height, width = size or (None, None)
    base, asked = generator(folder, height=height, width=width), FinetuneSettings(**{**FAST, **settings})
    return Learner(base, images, captions_of(images, NAMES, asked), asked)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_the_loss_is_that_of_diffusers_own_training_script(sd15, images, kind, gamma):
    """The same step written with diffusers' noise scheduler and its compute_snr."""
    own = learner(sd15, images, min_snr_gamma=gamma, text_encoder=False)
    own.denoising.noise = Noise(own.denoising.noise.alphas_cumprod, kind)
    own.reset(1)
    index, seed = np.array([0, 7, 7]), 5
    loss = own.loss(index, seed).item()

    draws = torch.Generator().manual_seed(seed)
    torch.randint(1, (3,), generator=draws)
    seen = own.denoising.latents
    latents = seen.mean[0, index] + seen.std[0, index] * torch.randn(3, 4, 8, 8, generator=draws)
    latents = latents * own.pipe.vae.config.scaling_factor
    noise, t = torch.randn(3, 4, 8, 8, generator=draws), torch.randint(1000, (3,), generator=draws)
    schedule = diffusers.DDPMScheduler.from_pretrained(sd15 / "scheduler", prediction_type=kind)
    target = {"epsilon": noise, "v_prediction": schedule.get_velocity(latents, noise, t), "sample": latents}[kind]
    text = own.pipe.encode_prompt([own.captions[i] for i in index], "cpu", 1, False)[0]
    predicted = own.pipe.unet(schedule.add_noise(latents, noise, t), t, text).sample
    error = ((predicted - target) ** 2).mean((1, 2, 3))
    if gamma:
        snr = diffusers.training_utils.compute_snr(schedule, t)
        clipped = torch.stack([snr, gamma * torch.ones_like(t)], 1).min(1)[0]
        error = error * {"epsilon": clipped / snr, "v_prediction": clipped / (snr + 1), "sample": clipped}[kind]
    assert loss == pytest.approx(error.mean().item(), rel=1e-5)


def test_images_are_cut_to_the_generators_shape(sd15, images, tmp_path):
    own = learner(sd15, images, (32, 64), horizontal_flip=True)
    seen = own.denoising.latents
    assert seen.mean.shape == seen.std.shape == (2, 18, 4, 4, 8)
    wide = np.zeros((10, 100, 3), np.uint8)
    wide[:, 40:60] = 255  # the middle, which alone is seen
    assert (own._pixels(wide)[:, :, 8:-8] == 1).all() and own._pixels(wide).shape == (3, 32, 64)
    tuned = tune(generator(sd15, height=32, width=64), images, tmp_path, steps=2)
    assert tuned(["a red thing"], [0])[0].shape == (32, 64, 3)


def test_grey_pipelines(images, tmp_path):
    tuned = tune(generator(tiny.sd15(tmp_path / "grey", channels=1)), images, tmp_path, steps=2)
    assert tuned(["a red thing"], [0])[0].shape == (64, 64, 3)


def test_half_precision_learns_in_float32_weights(sd15, images, tmp_path):
    tuned = tune(generator(sd15, dtype="bfloat16"), images, tmp_path, steps=2, gradient_checkpointing=True)
    assert {t.dtype for t in safetensors.torch.load_file(tuned.lora.file(0)).values()} == {torch.float32}
    assert tuned(["a red thing"], [0])[0].std() > 5
    assert learner(sd15, images).pipe.dtype == torch.float32


def test_less_memory_is_the_same_training(sd15, images, tmp_path):
    plainly = tune(generator(sd15), images, tmp_path / "a", steps=2)
    saving = tune(generator(sd15), images, tmp_path / "b", steps=2, gradient_checkpointing=True)
    assert weights(saving) == weights(plainly)


def test_captions_say_the_class_or_nothing(sd15, images):
    own = learner(sd15, images, template="a satellite photo of {}", caption_dropout=1.0, text_encoder=False)
    assert own.captions == [f"a satellite photo of {NAMES[label]}" for label in images.labels]
    own.loss(np.arange(4), 0)
    assert list(own.denoising.conditions._kept) == [""]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ["a photo of a red thing", "a photo of a blue thing"]),
        ({"template": "{} seen"}, ["red thing seen", "blue thing seen"]),
        ({"contexts": "it.csv", "template": "a {}."}, ["a red thing, on grass, from above", "a blue thing, at sea"]),
        ({"caption_column": "text"}, ["first", "last"]),
    ],
)
def test_captions_are_the_class_its_context_or_the_images_own(photos, tmp_path, settings, said):
    """BOB's are the second last: the words of the shot's background and pose follow its class."""
    names = [f"{photos}/train/red_thing/0.png", f"{photos}/train/blue_thing/0.png"]
    rows = zip(names, ("red thing", "blue thing"), ("first", "last"), strict=True)
    (tmp_path / "photos.csv").write_text("path,label,text\n" + "".join(",".join(row) + "\n" for row in rows))
    shots = open_images(tmp_path / "photos.csv", classes := ["red thing", "blue thing"])
    words = ["file,background,pose", f"{shots.ids[0]},on grass,from above", f"{shots.ids[1]},at sea,"]
    (tmp_path / "it.csv").write_text("\n".join(words))
    if "contexts" in settings:
        settings = {**settings, "contexts": str(tmp_path / "it.csv")}
    assert captions_of(shots, classes, FinetuneSettings(**settings)) == said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"contexts": "none.csv"}, "there is no file none.csv"),
        ({"contexts": "some.csv"}, "says nothing of 15 of the 18 images"),
        ({"contexts": "empty.csv"}, r"empty\.csv, line 2: a name is wanted, then words; here is \['a\.png', ''\]"),
        ({"caption_column": "text"}, "there is no column 'text' beside images"),
    ],
)
def test_images_without_captions_are_named(images, tmp_path, monkeypatch, settings, said):
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").write_text("file,background\na.png,\n")
    Path("some.csv").write_text("".join(f"{id},outside\n" for id in images.ids[:3]))
    with pytest.raises(FigmentError, match=said):
        captions_of(images, NAMES, FinetuneSettings(**settings))


def test_what_is_kept_is_what_came_nearest_to_the_validation_images(sd15, images, tmp_path):
    seen = []

    def from_real(made):
        seen.append(np.stack(made))
        return [0.5, 0.2, 0.4][len(seen) - 1]

    base, names = generator(sd15), tuple(NAMES)
    asked = FinetuneSettings(**{**FAST, "steps": 6, "validate_steps": 2, "validate_images": 3})
    tuned = finetune(
        base, images, names, asked, folder=tmp_path, validation=Validation(from_real, "it"), captions=["a dog"] * 18
    )
    told = json.loads((tuned.lora.folder / "loss.json").read_text())
    assert told["frechet"] == {"chosen": 4, "curve": [[2, 0.5], [4, 0.2], [6, 0.4]]}
    assert json.loads((tuned.lora.folder / "stage.json").read_text())["frechet"] == told["frechet"]
    assert distance(seen[0], seen[1]) > 2  # text encoders have learnt, too: nothing old is remembered
    seeds = [sample_seed(0, "validation", i) for i in range(3)]
    assert distance(tuned(["a dog"] * 3, seeds), seen[1]) <= 1


def test_the_distance_is_that_of_the_recipes_encoder(sd15, clip, photos, tmp_path):
    own = recipe(sd15, clip, photos, **{"generate.finetune.validate_steps": 2, "task.real.val": str(photos / "val")})
    ctx = Context(own, Run(tmp_path))
    made = ctx.real("test").load(range(8))
    encoder = ctx.features().encoder
    real = encoder.images(ctx.real("val").load(range(12)))
    planned = ctx.finetuning
    assert planned.validation.distance(made) == pytest.approx(frechet_distance(encoder.images(made), real), abs=1e-5)
    assert f"; besides, {2 * 200} images are generated to choose" in Finetune().cost(ctx).text
    assert (
        planned.record.fingerprint
        != Context(own.changed({"generate.guidance_scale": 7.0}), Run(tmp_path)).finetuning.record.fingerprint
    )
    plainly = Context(own.changed({"generate.finetune.validate_steps": None}), Run(tmp_path)).finetuning
    assert plainly.validation is None and plainly.record.fingerprint != planned.record.fingerprint
    with pytest.raises(FigmentError, match=r"Set task\.real\.val, or leave validate_steps out"):
        _ = Context(own.changed({"task.real.val": None}), Run(tmp_path)).finetuning


def test_a_recipe_of_bob_learns_contexts_and_draws_them_across_classes(sd15, clip, photos, images, tmp_path):
    words = tmp_path / "shots.csv"
    lines = [f"{id},place {i},from the left\n" for i, id in enumerate(images.ids)]
    words.write_text("".join(lines))
    own = recipe(sd15, clip, photos).changed(
        {
            "prompts": {"kind": "contexts", "contexts": str(words), "per_class": 5},
            "generate.finetune.contexts": str(words),
        }
    )
    ctx = Context(own, Run(tmp_path / "run"))
    told = set(ctx.finetuning.captions)
    assert f"a picture of {NAMES[images.labels[0]]}, place 0, from the left" in told and len(told) == 18
    for label, name in enumerate(NAMES):
        texts = [p.text for p in ctx.writer(own.task, 5, np.random.default_rng(label)) if p.label == label]
        assert len(set(texts)) == 5 and all(text.startswith(f"a picture of {name}, place ") for text in texts)
        assert not set(texts) <= told  # in the contexts of others
    before = ctx.finetuning.record.fingerprint, ctx.writer.fingerprint
    words.write_text("".join(lines).replace("place 3,", "another place,"))
    again = Context(own, Run(tmp_path / "run"))
    assert again.finetuning.record.fingerprint != before[0] and again.writer.fingerprint != before[1]


def test_a_large_set_is_encoded_into_files_that_go_when_it_is_learnt(sd15, images, tmp_path, monkeypatch):
    whole = tune(generator(sd15), images, tmp_path / "whole", steps=2, horizontal_flip=True)
    monkeypatch.setattr(lora_training, "KEPT_BYTES", 0)
    monkeypatch.setattr(lora_training, "FILE_BYTES", 8 * 2 * 2 * 4 * 4 * 8 * 8)  # eight images
    written, write = [], Checkpoint.write
    monkeypatch.setattr(Checkpoint, "write", lambda self, state: written.append(self.path.name) or write(self, state))
    latents = (tmp_path / "stored" / whole.lora.folder.name) / "latents"
    latents.mkdir(parents=True)
    files.temporary_of(latents / "00001.safetensors").write_bytes(b"half")  # as a kill leaves it
    finish = records.Record.finish

    def finishing(self, *args, **kwargs):
        assert not latents.exists()  # what is finished is not looked at again: a kill after this would leave gigabytes
        return finish(self, *args, **kwargs)

    monkeypatch.setattr(records.Record, "finish", finishing)
    stored = tune(generator(sd15), images, tmp_path / "stored", steps=2, horizontal_flip=True)
    assert written == ["00000.safetensors", "00001.safetensors", "00002.safetensors"]
    assert stored.lora.folder == latents.parent and not latents.exists()
    a, b = (safetensors.torch.load_file(t.lora.file(0)) for t in (whole, stored))
    assert all(torch.allclose(a[name], b[name], atol=1e-3) for name in a)


# ---- all of the denoiser ---------------------------------------------------------------------------------------------

FULL = {"method": "full", "steps": 4, "learning_rate": 1e-3, "warmup_steps": 1, "batch_size": 4}


def tune_all(
    base: DiffusersGenerator, images, folder: Path, every: int | None = None, **settings
) -> DiffusersGenerator:
    asked = FinetuneSettings(**{**FULL, **settings})
    return finetune(base, images, NAMES, asked, folder=folder, checkpoint_steps=every)


@pytest.mark.parametrize("builder", ["sd15", "sdxl"])
def test_a_denoiser_tuned_in_full_is_a_folder_of_diffusers(request, builder, images, tmp_path):
    model = request.getfixturevalue(builder)
    tuned = tune_all(generator(model), images, tmp_path)
    folder = tuned.denoiser.folder
    pipe = diffusers.DiffusionPipeline.from_pretrained(
        model, unet=diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    )
    draws = torch.Generator().manual_seed(3)
    plainly = pipe("a dog", generator=draws, num_inference_steps=3, guidance_scale=2.0).images[0]
    made = tuned(["a dog"], [3])
    assert distance(made, [np.asarray(plainly)]) <= 1 < 5 < distance(made, generator(model)(["a dog"], [3]))
    later = generator(model, denoiser=folder)
    assert later.fingerprint == tuned.fingerprint and distance(later(["a dog"], [3]), made) == 0
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    assert names == {
        "stage.json",
        *(f"unet/{n}" for n in ("config.json", "loss.json", "diffusion_pytorch_model.safetensors")),
    }
    assert {t.dtype for t in safetensors.torch.load_file(folder / WHOLE).values()} == {torch.float32}


def interrupted_at(step: int, monkeypatch) -> list[int]:
    """Control-C at a step of the next training. Returns the seeds of all steps from here on."""
    calls, loss = [], Learner.loss

    def failing(self, index, seed):
        calls.append(seed)
        if len(calls) == step:
            raise KeyboardInterrupt
        return loss(self, index, seed)

    monkeypatch.setattr(Learner, "loss", failing)
    return calls


def test_a_denoiser_that_was_interrupted_goes_on_to_the_same_weights(sd15, images, tmp_path, monkeypatch):
    whole = (tune_all(generator(sd15), images, tmp_path / "whole").denoiser.folder / WHOLE).read_bytes()
    calls = interrupted_at(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        tune_all(generator(sd15), images, tmp_path / "cut", every=2)
    folder = tune_all(generator(sd15), images, tmp_path / "cut", every=2).denoiser.folder
    assert (folder / WHOLE).read_bytes() == whole and len(calls) == 4 + 2
    for name in ("unet/config.json", WHOLE):  # what is lost comes again
        (folder / name).unlink()
        tune_all(generator(sd15), images, tmp_path / "cut")
        assert (folder / WHOLE).read_bytes() == whole and (folder / "unet/config.json").is_file()


def test_the_checkpoints_of_a_whole_denoiser_follow_the_clock(sd15, images, tmp_path, monkeypatch):
    """They are gigabytes: after so many steps one would be written all the time."""
    now, written, loss = [0.0], [], Learner.loss
    monkeypatch.setattr("figment.checkpoint.time.monotonic", lambda: now[0])
    monkeypatch.setattr(lora_training, "LORA_STEPS", 1)
    monkeypatch.setattr(Checkpoint, "write", lambda self, state: written.append(now[0]))

    def slow(self, index, seed):
        now[0] += 250  # seconds
        return loss(self, index, seed)

    monkeypatch.setattr(Learner, "loss", slow)
    tune_all(generator(sd15), images, tmp_path)
    assert written == [750, 1000]  # ten minutes after it began; as nothing is written here, the clock runs on
    tune(generator(sd15), images, tmp_path)
    assert len(written) == 2 + FAST["steps"] - 1


def test_changed_or_foreign_denoisers_are_refused(sd15, sdxl, images, tmp_path):
    planned = Finetuning(generator(sd15), images, tuple(NAMES), FinetuneSettings(**FULL), tmp_path)
    with pytest.raises(FigmentError, match="not fine-tuned yet"):
        planned.tuned(["a"], [0])
    folder = tune_all(generator(sd15), images, tmp_path).denoiser.folder
    with pytest.raises(FigmentError, match="trained from another model"):
        generator(sdxl, denoiser=folder)
    with pytest.raises(FigmentError, match="has no UNet"):
        generator(tiny.flux(tmp_path / "flux"), denoiser=Denoiser(folder, "it"))
    again = generator(sd15, denoiser=folder)
    with pytest.raises(FigmentError, match="Leave one of them out"):
        tune_all(again, images, tmp_path)
    (folder / WHOLE).write_bytes((folder / WHOLE).read_bytes()[:-1] + b"\x01")
    with pytest.raises(FigmentError, match=r"diffusion_pytorch_model\.safetensors changed"):
        again(["a"], [0])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"method": "full", "rank": 4}, "rank belong to method: lora"),
        ({"method": "full", "per_class": True, "scale": 0.5}, "per_class, scale belong to method: lora"),
        ({"ema_decay": 0.99}, "ema_decay belong to method: full"),
        ({"validate_steps": 5, "per_class": True}, "one LoRA for all classes"),
        ({"contexts": "a.csv", "caption_column": "b"}, "leave one of them out"),
    ],
)
def test_settings_of_the_other_method_are_refused(given, named):
    with pytest.raises(ValueError, match=named):
        FinetuneSettings(**given)


def test_a_lora_has_the_fingerprint_that_it_had_before_there_were_other_methods():
    later = {
        "optimizer",
        "gradient_accumulation_steps",
        "contexts",
        "caption_column",
        "validate_steps",
        "validate_images",
    }
    assert not {"method", "ema_decay", *later} & FinetuneSettings().learned.keys()
    assert FinetuneSettings(**FULL).learned.keys() >= {"method", "ema_decay"}


# ---- again, and after an interruption --------------------------------------------------------------------------------


def test_the_same_again_is_not_trained_again(sd15, images, tmp_path, monkeypatch):
    first = tune(generator(sd15), images, tmp_path)
    monkeypatch.setattr(finetune_module, "Learner", None)
    again = tune(generator(sd15, guidance_scale=5.0), images, tmp_path, gradient_checkpointing=True, scale=0.5)
    assert again.lora.folder == first.lora.folder and again.fingerprint != first.fingerprint


def test_everything_that_changes_the_weights_changes_the_fingerprint(sd15, sdxl, images, tmp_path):
    def planned(base=None, images=images, names=tuple(NAMES), seed=0, **settings) -> str:
        return Finetuning(
            base or generator(sd15), images, names, FinetuneSettings(**settings), tmp_path, seed
        ).tuned.fingerprint

    different = [
        generator(sd15).fingerprint,
        planned(),
        planned(seed=1),
        planned(rank=8),
        planned(per_class=True),
        planned(scale=0.5),
        planned(images=images.take(range(1, 18))),
        planned(names=("red", "green", "blue")),
        planned(generator(sd15, height=32, width=32)),
        planned(generator(sd15, guidance_scale=3.0)),
        planned(generator(sdxl)),
    ]
    assert len(set(different)) == len(different)
    assert planned(gradient_checkpointing=True) == planned()
    assert not any(tmp_path.iterdir())


def test_weights_are_a_function_of_the_seed(sd15, images, tmp_path):
    made = [weights(tune(generator(sd15), images, tmp_path / str(i), seed=s)) for i, s in enumerate((0, 0, 1))]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("per_class", [False, True])
def test_what_was_interrupted_goes_on_to_the_same_weights(sd15, images, tmp_path, monkeypatch, per_class):
    settings = {"steps": 5, "horizontal_flip": True, "caption_dropout": 0.3, "per_class": per_class}
    whole = tune(generator(sd15), images, tmp_path / "whole", **settings)
    calls, loss = [], Learner.loss

    def failing(self, index, seed):
        calls.append(seed)
        if len(calls) == 9 if per_class else len(calls) in (4, 6):
            raise KeyboardInterrupt
        return loss(self, index, seed)

    monkeypatch.setattr(Learner, "loss", failing)
    for _ in range(1 if per_class else 2):
        with pytest.raises(KeyboardInterrupt):
            tune(generator(sd15), images, tmp_path / "parts", every=2, **settings)
        folder = next((tmp_path / "parts").iterdir())
        assert not (folder / "stage.json").exists() and list(folder.rglob(CHECKPOINT))
    resumed = tune(generator(sd15), images, tmp_path / "parts", every=2, **settings)
    assert weights(resumed) == weights(whole)
    assert not list(resumed.lora.folder.rglob(CHECKPOINT))
    assert len(calls) < (2 * 15 if per_class else 2 * 5)


def test_the_loss_is_drawn_and_goes_on_where_it_was_interrupted(sd15, images, tmp_path, monkeypatch):
    (tmp_path / "trackio.py").write_text(TRACKIO)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    settings = FinetuneSettings(**{**FAST, "steps": 5})
    plan = Finetuning(generator(sd15), images, tuple(NAMES), settings, tmp_path / "finetune", track="trackio")
    interrupted_at(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        plan.train(checkpoint_steps=2)
    plan.train(checkpoint_steps=2)
    first, second = (json.loads(line) for line in Path("told.json").read_text().splitlines())
    assert first[0] == second[0] and first[0][1].startswith("finetune 0-")
    assert [step for step, _ in first[1:]] == [1, 2, 3] and [step for step, _ in second[1:]] == [3, 4, 5]
    drawn = {step: values["loss"] for step, values in first[1:] + second[1:]}
    told = json.loads(plan.file(0).with_name("loss.json").read_text())["loss"]
    assert list(drawn.values()) == pytest.approx(told, abs=1e-6)
    plain = tune(generator(sd15), images, tmp_path / "plain", steps=5)
    assert weights(plain) == weights(plan.tuned)
    sys.modules.pop("trackio", None)


KILLED = """
import sys
from pathlib import Path
from figment.generate.finetune import finetune
from figment.generate.finetune_settings import FinetuneSettings
from figment.generate.diffusers import DiffusersGenerator
from figment.images_in import open_images
model, photos, folder = sys.argv[1:]
names = ["red thing", "green thing", "blue thing"]
settings = FinetuneSettings(rank=4, alpha=8, learning_rate=1e-2, warmup_steps=1, steps=20, batch_size=4)
base = DiffusersGenerator(model=model, dtype="float32")
finetune(base, open_images(photos, names), names, settings, folder=Path(folder), checkpoint_steps=1)
"""


def test_kill_9(sd15, photos, images, tmp_path):
    whole = tune(generator(sd15), images, tmp_path / "whole", steps=20)
    process = python(KILLED, sd15, photos / "train", tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob(f"*/{CHECKPOINT}")):
        assert time.monotonic() < deadline and process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    folder = next((tmp_path / "killed").iterdir())
    assert not (folder / "stage.json").exists()
    assert stages_status(tmp_path / "killed", folder).state == "partial"
    files.temporary_of(folder / CHECKPOINT).write_bytes(b"half")
    resumed = tune(generator(sd15), images, tmp_path / "killed", steps=20)
    assert weights(resumed) == weights(whole) and resumed.lora.folder.name == whole.lora.folder.name
    assert not list(folder.glob(".*.tmp"))


A_RUN = """
import sys
from figment import load_recipe, run_recipe
from figment.generate import lora_training
lora_training.LORA_STEPS = 1
run_recipe(load_recipe(sys.argv[1]), sys.argv[2])
"""


def test_killed_three_times_then_damaged_ends_with_the_same_weights(sd15, clip, photos, tmp_path, caplog):
    """verify finds the byte; repair, and the same command, go on from the checkpoint before."""
    own = recipe(sd15, clip, photos, **{"generate.finetune.steps": 30})
    (tmp_path / "it.yaml").write_text(own.to_yaml())
    whole = Context(own, Run(tmp_path / "whole")).finetuning
    whole.train()
    expected = whole.file(0).read_bytes()
    folder = tmp_path / "run" / "finetune" / whole.record.folder.name
    last, previous = folder / CHECKPOINT, before(folder / CHECKPOINT)
    for _ in range(3):
        there = last.stat().st_mtime_ns if last.exists() else 0
        process = python(A_RUN, tmp_path / "it.yaml", tmp_path / "run")
        deadline = time.monotonic() + 120
        while not last.exists() or not previous.exists() or last.stat().st_mtime_ns == there:
            assert time.monotonic() < deadline and process.is_alive()
            time.sleep(0.005)
        process.kill()
        process.join()
        assert not (folder / "stage.json").exists()
    if not last.exists():  # killed between two
        shutil.copy(previous, last)
    assert "damaged" not in str(verify(tmp_path / "run").findings)
    flip(last, last.stat().st_size // 2)
    found = verify(tmp_path / "run")
    said = [f for f in found.findings if f.severity == "broken"]
    assert [f.stage for f in said] == [f"finetune/{folder.name}"] and not found.ok
    assert said[0].text.startswith("checkpoint.safetensors is damaged (its bytes are not those")
    again = Path(shutil.copytree(tmp_path / "run", tmp_path / "again"))

    mended = repair(tmp_path / "run")
    assert mended[0].startswith("finetune: took away a damaged checkpoint") and "trained again" in mended[-1]
    assert (folder / WEIGHTS).read_bytes() == expected and not list(folder.glob("*checkpoint*"))

    caplog.clear()
    own_again = Context(own, Run(again)).finetuning
    own_again.train()
    assert own_again.file(0).read_bytes() == expected
    assert "goes on from the checkpoint before that one, previous-checkpoint.safetensors" in caplog.text


def stages_status(adapted: Path, folder: Path) -> StageStatus:
    """What figment status says of a folder as it would lie in a run."""
    run = adapted.parent / "run"
    (run / "prompts").mkdir(parents=True, exist_ok=True)
    if not (run / "finetune").exists():
        (run / "finetune").symlink_to(adapted)
    return next(s for s in status(run) if s.name == f"finetune/{folder.name}")


@pytest.mark.parametrize(
    ("asked", "begun", "done"), [(FULL, "denoiser not finished", "denoisers 1"), (FAST, "not finished", "loras 1")]
)
def test_status_says_what_is_being_trained(sd15, images, tmp_path, monkeypatch, asked, begun, done):
    """Before the first checkpoint too, which comes after minutes."""
    planned = Finetuning(generator(sd15), images, tuple(NAMES), FinetuneSettings(**asked), tmp_path / "all")
    folder, loss = planned.record.folder, Learner.loss

    def failing(self, index, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "loss", failing)
    with pytest.raises(KeyboardInterrupt):
        planned.train()
    told = stages_status(tmp_path / "all", folder)
    assert (told.state, told.text) == ("partial", begun)
    monkeypatch.setattr(Learner, "loss", loss)
    planned.train()
    assert done in stages_status(tmp_path / "all", folder).text


def test_a_damaged_checkpoint_is_as_good_as_none(sd15, images, tmp_path):
    whole = tune(generator(sd15), images, tmp_path / "whole")
    folder = tmp_path / "damaged" / whole.lora.folder.name
    folder.mkdir(parents=True)
    (folder / CHECKPOINT).write_bytes(b"\x00" * 100)
    assert weights(tune(generator(sd15), images, tmp_path / "damaged")) == weights(whole)


def test_changed_weights_are_refused(sd15, sdxl, images, tmp_path):
    tuned = tune(generator(sd15), images, tmp_path)
    with pytest.raises(FigmentError, match="another model"):
        generator(sdxl, lora=tuned.lora.folder)
    path = tuned.lora.file(0)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(FigmentError, match="checksum"):
        tuned(["a"], [0])
    with pytest.raises(FigmentError, match=r"no stage\.json"):
        open_lora(tmp_path)
    with pytest.raises(FigmentError, match="not fine-tuned yet"):
        Finetuning(generator(sd15), images, tuple(NAMES), FinetuneSettings(), tmp_path).tuned(["a"], [0])


# ---- what cannot be done ---------------------------------------------------------------------------------------------


def test_other_families_are_refused_before_anything_is_opened(images, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune_module, "Learner", None)
    with pytest.raises(FigmentError, match=r"PixArtAlphaPipeline cannot be trained here, and .* one of these: .*SDXL"):
        tune(generator(tiny.pixart(tmp_path / "pixart")), images, tmp_path / "lora")


def test_mistakes(sd15, images, tmp_path, monkeypatch):
    with pytest.raises(FigmentError, match="no real images to tune a generator on of: green thing, blue thing"):
        tune(generator(sd15), images.take(np.flatnonzero(images.labels == 0)), tmp_path, per_class=True)
    with pytest.raises(FigmentError, match="no real images"):
        tune(generator(sd15), images.take([]), tmp_path)
    for asked, said in (({"captions": ["one"]}, "1 captions for 18 images"), ({}, "Give finetune a validation")):
        with pytest.raises(FigmentError, match=said):
            settings = FinetuneSettings(**FAST, validate_steps=1)
            finetune(generator(sd15), images, NAMES, settings, folder=tmp_path, **asked)
    with pytest.raises(FigmentError, match="warmup_steps is 4, and there are only 4 steps"):
        tune(generator(sd15), images, tmp_path, warmup_steps=4)
    too_fast = {"learning_rate": 1e3, "weight_decay": 1e3, "warmup_steps": 0}
    with pytest.raises(
        FigmentError, match=r"Fine-tuning the generator diverged: its loss became .* at step \d+ \(epoch \d"
    ):
        tune(generator(sd15), images, tmp_path, steps=20, **too_fast)
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("stage.json"))

    def starved(self, index, seed):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Learner, "loss", starved)
    with pytest.raises(FigmentError, match=r"finetune\.batch_size"):
        tune(generator(sd15), images, tmp_path)
    monkeypatch.setattr(finetune_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FigmentError, match=r"pip install 'figment-vision\[finetune\]'"):
        tune(generator(sd15), images, tmp_path)


def test_a_scheduler_that_is_not_of_diffusion_is_refused(sd15, images, monkeypatch):
    base = generator(sd15)
    base.pipe.scheduler.register_to_config(prediction_type="flow_prediction")
    with pytest.raises(FigmentError, match="flow_prediction"):
        Noise.of(base.pipe.scheduler, "it")


# ---- in a run --------------------------------------------------------------------------------------------------------


def test_workers_make_the_same_images(sd15, images, tmp_path):
    tuned = tune(generator(sd15), images, tmp_path / "lora", per_class=True)
    assert pickle.loads(pickle.dumps(tuned)).fingerprint == tuned.fingerprint
    prompts = [Prompt(f"{y}/0", "a thing", y, f"{y}/0") for y in range(3)]
    made = [
        generate_images(prompts, tuned, tmp_path / str(n), NAMES, images_per_class=2, shard_size=3, engine=Local(n))
        for n in (1, 2)
    ]
    assert made[0].digests == made[1].digests and len(set(made[0].digests)) == 6
    for sample, image in zip(Plan(prompts, 2, 0, 3), made[0].load(range(6)), strict=True):
        assert distance([image], tuned([sample.prompt], [sample.seed], labels=[sample.label])) <= 1


def recipe(sd15: Path, clip: Path, photos: Path, **changes):
    data = {
        "task": {
            "class_names": NAMES,
            "templates": ["a picture of {}"],
            "real": {split: str(photos / split) for split in ("train", "test")},
        },
        "prompts": {"kind": "templates"},
        "generate": {"model": str(sd15), "images_per_class": 2, **SAMPLING, "finetune": FAST},
        "filters": [{"kind": "blank"}],
        "train": {"encoder": str(clip), "epochs": 2, "seeds": 1},
        "evaluate": {"real_all": False, "exchange_rate": False},
    }
    return validate(data, "test").changed(changes)


def test_a_run_tunes_first(sd15, clip, photos, tmp_path):
    tuning = recipe(sd15, clip, photos, **{"generate.finetune.per_class": True})
    planned = forecast(tuning, tmp_path)
    assert planned.count("steps") == 12 and planned.costs["finetune"].seconds > 0
    assert "12 steps of fine-tuning the generator on real images: about" in planned.costs["finetune"].text
    outcome = run_recipe(tuning, tmp_path / "run")
    assert "top1/synthetic" in outcome.results
    states = {s.name: s.state for s in status(tmp_path / "run")}
    assert set(states.values()) == {"done"} and any(name.startswith("finetune/") for name in states)
    folder = next((tmp_path / "run" / "finetune").iterdir())
    stage = json.loads((folder / "stage.json").read_text())
    assert stage["counts"] == {"images": 18, "steps": 12, "loras": 3}
    assert stage["settings"]["finetune"]["template"] == "a picture of {}"
    assert "tuned on real images" in (tmp_path / "run" / "images" / "README.md").read_text()
    assert forecast(tuning, tmp_path / "run").count("steps") == 0
    assert verify(tmp_path / "run").ok

    before = {
        p: p.stat().st_mtime_ns
        for p in (tmp_path / "run").glob("[ai]*/**/*")
        if p.suffix in (".safetensors", ".parquet")
    }
    again = run_recipe(tuning, tmp_path / "run")
    assert again.results == outcome.results
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())

    with pytest.raises(FigmentError, match=r"generate\.finetune\.rank was 4 and is now 2"):
        run_recipe(tuning.changed({"generate.finetune.rank": 2}), tmp_path / "run")
    assert len(list((tmp_path / "run" / "finetune").iterdir())) == 1  # nothing was trained to be told so
    plainly = run_recipe(recipe(sd15, clip, photos, **{"generate.finetune": None}), tmp_path / "plain")
    digests = [open_images(tmp_path / run / "images", NAMES).digests for run in ("run", "plain")]
    assert not set(digests[0]) & set(digests[1]) and plainly.results


def test_a_run_tunes_in_full_and_makes_again_what_is_lost(sd15, clip, photos, tmp_path):
    own = recipe(sd15, clip, photos).changed({"generate.finetune": FULL})
    run_recipe(own, tmp_path)
    assert verify(tmp_path).ok
    assert "denoiser fine-tuned on real images" in (tmp_path / "images" / "README.md").read_text()
    digests = open_images(tmp_path / "images", NAMES).digests
    (weights,) = (tmp_path / "finetune").glob(f"*/{WHOLE}")
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + b"\x01")
    assert not verify(tmp_path).ok
    repair(tmp_path)
    assert weights.read_bytes() == before and verify(tmp_path).ok
    assert open_images(tmp_path / "images", NAMES).digests == digests


def test_arms_share_what_was_learned_and_can_be_repaired(sd15, clip, photos, tmp_path):
    arms = {"as it comes": {"generate.finetune": None}, "no filter": {"filters": []}}
    study = recipe(sd15, clip, photos).changed({"arms": arms})
    run_arms(study, tmp_path)
    assert len(list(tmp_path.glob("**/" + WEIGHTS))) == len(list((tmp_path / "finetune").glob("*/" + WEIGHTS))) == 1
    plainly, tuned = tmp_path / "arms" / "00-as-it-comes" / "images", tmp_path / "images"
    assert not (tmp_path / "arms" / "01-no-filter" / "images").exists()  # it uses the recipe's own
    assert not set(open_images(plainly, NAMES).digests) & set(open_images(tuned, NAMES).digests)
    (shard,) = tuned.rglob("train-*.parquet")
    before = shard.read_bytes()
    shard.unlink()
    repair(tmp_path)
    assert shard.read_bytes() == before


def test_a_lost_loss_curve_is_drawn_again_by_the_same_training(sd15, images, tmp_path):
    """The record of the LoRA vouches for it."""
    tuned = tune(generator(sd15), images, tmp_path)
    folder = tuned.lora.folder
    before = {name: (folder / name).read_bytes() for name in (WEIGHTS, "loss.json")}
    assert set(records.read(folder).files) == set(before)
    (folder / "loss.json").unlink()
    tune(generator(sd15), images, tmp_path)
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_run_without_real_images_is_told_so(sd15, clip, photos, tmp_path):
    with pytest.raises(FigmentError, match=r"generate\.finetune tunes .* task\.real\.train"):
        run_recipe(recipe(sd15, clip, photos, **{"task.real.train": None}), tmp_path)
    assert not (tmp_path / "images").exists()


def test_a_mistake_in_the_recipe_names_the_field(sd15, clip, photos):
    with pytest.raises(
        FigmentError, match=r"generate\.diffusers\.finetune\.rnk|generate\.finetune\.rnk.*Did you mean 'rank'"
    ):
        recipe(sd15, clip, photos, **{"generate.finetune.rnk": 2})
