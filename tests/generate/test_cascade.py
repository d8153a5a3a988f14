"""Cascades: their first stage to the bit, diffusers' own pipelines, and the noise of super-resolution written out by hand."""

from __future__ import annotations

import json
import pickle
import re
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
import yaml

from figment.errors import FigmentError
from figment.generate.cascade import CascadeGenerator
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.placing import _does_not_fit
from figment.generate.seeds import stage_seed
from figment.recipe.recipe import validate
from figment.run import make_images

PROMPTS, SEEDS = ["a dog", "a cat", "a red bird"], [3, 1, 2**63 - 1]


def stage(folder, **settings) -> DiffusersGenerator:
    settings = {"num_inference_steps": 3, "guidance_scale": 2.0, "dtype": "float32", **settings}
    return DiffusersGenerator(model=str(folder), **settings)


@pytest.fixture(scope="module")
def two(folders) -> CascadeGenerator:
    return CascadeGenerator([stage(folders["if_base"]), stage(folders["if_upscaler"], noise_level=100)])


@pytest.fixture(scope="module")
def images(two):
    return two(PROMPTS, SEEDS)


def distance(a, b) -> int:
    return int(np.abs(np.stack(a).astype(int) - np.stack(b)).max())


@pytest.mark.parametrize("name", ["sd15", "if_base"])
def test_one_stage_is_that_stage_to_the_bit(folders, name):
    own = stage(folders[name])
    assert distance(CascadeGenerator([own])(PROMPTS, SEEDS), own(PROMPTS, SEEDS)) == 0


def test_two_stages_equal_two_calls_of_diffusers(folders, images):
    """One image at a time, from the 8-bit image between."""
    base = diffusers.IFPipeline.from_pretrained(folders["if_base"])
    upscaler = diffusers.IFSuperResolutionPipeline.from_pretrained(folders["if_upscaler"])
    more = {"num_inference_steps": 3, "guidance_scale": 2.0, "clean_caption": False}
    draws = lambda seed: torch.Generator().manual_seed(seed)
    for prompt, seed, image in zip(PROMPTS[:2], SEEDS, images, strict=False):
        small = base(prompt, generator=draws(seed), output_type="pil", **more).images
        large = upscaler(prompt, image=small, generator=draws(stage_seed(seed, 1)), noise_level=100, **more).images
        assert distance([image], [np.asarray(large[0])]) <= 1
        assert image.shape == (16, 16, 3) and image.std() > 5


@pytest.mark.parametrize("level", [0, 100, 900])
def test_the_noise_of_super_resolution_done_by_hand(folders, level):
    """Ho et al. 2021, section 4.2: the small image is noised to a step of training, of which the model is told."""
    generator = stage(folders["if_upscaler"], noise_level=level, guidance_scale=1.0, scheduler="DDIMScheduler")
    low = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    image = generator(PROMPTS[:1], [7], init=low)[0]
    pipe = diffusers.IFSuperResolutionPipeline.from_pretrained(folders["if_upscaler"])
    scheduler = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2", thresholding=True,
        dynamic_thresholding_ratio=0.95, sample_max_value=1.5)  # fmt: skip
    draws = torch.Generator().manual_seed(7)
    with torch.no_grad():
        text, _ = pipe.encode_prompt(PROMPTS[:1], False, clean_caption=False)
        x = torch.randn((1, 3, 16, 16), generator=draws)
        small = torch.from_numpy(low).movedim(3, 1) / 127.5 - 1
        small = torch.nn.functional.interpolate(small, (16, 16), mode="bilinear", align_corners=True)
        kept = scheduler.alphas_cumprod[level]
        noisy = kept.sqrt() * small + (1 - kept).sqrt() * torch.randn(small.shape, generator=draws)
        scheduler.set_timesteps(3)
        for t in scheduler.timesteps:
            told = {"encoder_hidden_states": text, "class_labels": torch.tensor([level])}
            noise = pipe.unet(torch.cat([x, noisy], 1), t, **told).sample[:, :3]
            x = scheduler.step(noise, t, x).prev_sample
    expected = ((x[0] / 2 + 0.5).clamp(0, 1) * 255).round().movedim(0, 2).numpy()
    assert distance([image], [expected]) <= 1


@pytest.mark.slow
def test_an_image_does_not_depend_on_its_batch(two, images):
    alone = [two([p], [s])[0] for p, s in zip(PROMPTS, SEEDS, strict=True)]
    assert distance(images, alone) <= 1
    assert distance(images[:1], two(PROMPTS[1:2], SEEDS[:1])) > 1  # another prompt
    assert stage_seed(5, 0) == 5 and len({5, stage_seed(5, 1), stage_seed(5, 2), stage_seed(6, 1)}) == 4


@pytest.mark.slow
def test_what_each_stage_is_asked_for_counts(folders, two, images):
    base = two.stages[0]
    for settings in ({"noise_level": 300}, {"guidance_scale": 6.0}, {"num_inference_steps": 2}):
        other = CascadeGenerator([base, stage(folders["if_upscaler"], **{"noise_level": 100, **settings})])
        assert other.fingerprint != two.fingerprint and distance(other(PROMPTS, SEEDS), images) >= 1


@pytest.mark.slow
def test_three_stages_and_a_diffusion_upscaler(folders, two):
    three = CascadeGenerator([*two.stages, stage(folders["sd_upscaler"], num_inference_steps=2)])
    assert [image.shape for image in three(PROMPTS[:2], SEEDS[:2])] == [(64, 64, 3)] * 2
    told = json.loads(json.dumps(three.describe()))
    assert (told["height"], told["width"]) == (64, 64) and [s["height"] for s in told["stages"]] == [8, 16, 64]
    assert told["sampler"].endswith("then DDIMScheduler, 2 steps, guidance 2, noise level 20")  # diffusers' own
    assert three.batch_size % three.stages[2].batch_size == 0


@pytest.mark.parametrize("where", [0, 1])
def test_an_image_that_fails_spares_the_others(folders, images, where):
    fresh = CascadeGenerator([stage(folders["if_base"]), stage(folders["if_upscaler"], noise_level=100)])

    def poison(module, given, output):
        output[0][len(output[0]) // 2 + 1] = torch.nan  # of the half with text, the second image

    fresh.stages[where].pipe.unet.register_forward_hook(poison)
    made = fresh(PROMPTS, SEEDS)
    assert made[1] is None and distance([made[0], made[2]], [images[0], images[2]]) <= 1


def test_weights_wait_in_main_memory(two, images, monkeypatch):
    moved = []
    for i, own in enumerate(two.stages):
        monkeypatch.setattr(own.pipe, "to", lambda place, i=i, **more: moved.append((i, str(place))))
    cascade, there_and_back = (
        CascadeGenerator(two.stages, offload=True),
        [(0, "cpu"), (0, "cpu"), (1, "cpu"), (1, "cpu")],
    )
    assert distance(cascade(PROMPTS, SEEDS), images) == 0 and moved == there_and_back
    moved.clear()
    assert cascade.describe() == two.describe() and moved == there_and_back  # no two of them at a time


def test_weights_that_wait_in_half_precision_are_not_warned_of(folders, capfd):
    own = stage(folders["if_base"])
    half = CascadeGenerator([own], offload=True)
    own.pipe.to(torch.float16)
    capfd.readouterr()
    with half._at_work(own):
        capfd.readouterr()
    assert "cannot run with" not in capfd.readouterr().err


def test_it_travels(two, images):
    again = pickle.loads(pickle.dumps(two))
    assert again.fingerprint == two.fingerprint and distance(again(PROMPTS, SEEDS), images) == 0


@pytest.mark.slow
def test_in_a_run(folders, tmp_path):
    quick = {"num_inference_steps": 2, "guidance_scale": 1}
    stages = [{"model": str(folders["if_base"]), **quick}, {"model": str(folders["if_upscaler"]), **quick}]
    generate = {"kind": "cascade", "stages": stages, "images_per_class": 2, "dtype": "float32"}
    recipe = validate({"task": {"class_names": ["cat", "dog"]}, "generate": generate}, "it")
    made = make_images(recipe, tmp_path)
    record = json.loads((made / "stage.json").read_text())
    told = record["generator"]
    assert record["counts"]["made"] == 4 and (told["height"], told["width"]) == (16, 16)
    assert [s["noise_level"] for s in told["stages"] if "noise_level" in s] == [250]
    assert "then" in (made / "README.md").read_text()
    one = recipe.changed({"generate.stages.1.noise_level": 7}).generate.stages[1].noise_level
    assert one == 7


def test_mistakes(folders, two):
    base, upscaler = two.stages
    with pytest.raises(
        FigmentError, match=r"Stage 1 of the cascade, .*makes images from text alone.*IFSuperResolution"
    ):
        CascadeGenerator([base, base])
    with pytest.raises(FigmentError, match="The first stage.*enlarges them. Put another before it"):
        CascadeGenerator([upscaler])
    with pytest.raises(FigmentError, match="A cascade has no stages"):
        CascadeGenerator([])
    with pytest.raises(FigmentError, match=r"enlarges images, and there are none. .* stages: \[...\]\}; or"):
        upscaler(PROMPTS, SEEDS)
    alone = validate({"task": {"class_names": ["a", "b"]}, "generate": {"model": str(upscaler.folder.path)}}, "it")
    with pytest.raises(FigmentError, match=r"enlarges images, and makes none from text alone.*\{kind: cascade"):
        alone.generate.build(None)  # long before an image is asked for
    with pytest.raises(FigmentError, match="EulerDiscreteScheduler scales.*they would be lost. Set scheduler: DDPM"):
        stage(folders["if_upscaler"], scheduler="EulerDiscreteScheduler")  # before it is opened
    with pytest.raises(FigmentError, match="has a size of its own. Leave height and width out"):
        _ = stage(folders["sd_upscaler"], height=64, width=64).pipe
    with pytest.raises(FigmentError, match="refused these settings: .*noise_level"):
        stage(folders["sd_upscaler"], noise_level=999)(PROMPTS[:1], [1], init=np.zeros((1, 8, 8, 3), np.uint8))
    for field, value, said in [
        ("stages", [], "at least 1"),
        ("stages.0.noise_level", 1000, "less than 1000"),
        ("stages.0.guidance_start", 1, "less than 1"),
        ("stages.0.height", 8, "no such field"),
    ]:
        recipe = validate({"task": {"class_names": ["a", "b"]}, "generate": {"kind": "cascade", "stages": [{}]}}, "it")
        with pytest.raises(FigmentError, match=said):
            recipe.changed({f"generate.{field}": value})


def taken(said: str, recipe: dict) -> list[dict]:
    """The ``generate`` of a recipe after each advice of a message: its settings, ``generate.NAME: VALUE`` or ``to VALUE or VALUE``."""
    found = re.findall(r"generate\.([\w.]+)(?:: | to )(\w+)", said) + [
        ("height", "64") for _ in re.findall(r"generate\.height", said)
    ]
    return [{**recipe, name: yaml.safe_load(value)} for name, value in found]


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("others", [0, 3 * 2**30])
def test_advice_on_weights_that_do_not_fit_validates(folders, offload, others):
    recipe = {"kind": "cascade", "stages": [{"model": str(folders["if_base"])}], "dtype": "float32", "offload": offload}
    pipe = SimpleNamespace(components={"unet": torch.nn.Linear(1_000, 10**6, device="meta")}, dtype=torch.float32)
    said = str(_does_not_fit(pipe, torch.device("cuda"), "none", "The model big", 3 * 2**30, offload, others))
    advice = taken(said, recipe)
    assert [one["dtype"] for one in advice] == ["bfloat16"] + ["float32"] * (others > 0 and not offload)
    assert [one["offload"] for one in advice[1:]] == [True] * (others > 0 and not offload)
    for one in advice:
        validate({"task": {"class_names": ["cat", "dog"]}, "generate": one}, "it")


@pytest.mark.parametrize("offload", [False, True])
def test_advice_on_an_image_that_does_not_fit_validates(folders, offload):
    own = stage(folders["if_base"])
    cascade = CascadeGenerator([own], offload=offload)

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    own.pipe.unet.forward = full
    with pytest.raises(FigmentError, match="for a single image.*What would help: .*or a smaller model") as told:
        cascade(PROMPTS[:1], SEEDS[:1])
    recipe = {"kind": "cascade", "stages": [{"model": str(folders["if_base"])}], "dtype": "float32", "offload": offload}
    advice = taken(str(told.value), recipe)
    assert len(advice) == 1 + (not offload)
    for one in advice:
        validate({"task": {"class_names": ["cat", "dog"]}, "generate": one}, "it")
