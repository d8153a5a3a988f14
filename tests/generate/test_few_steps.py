"""What null stands for, and which settings ruin a distilled model."""

from __future__ import annotations

import json
import shutil

import pytest

from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.few_steps import few_steps, own_steps, warnings_of
from figment.generate.guidance import guidance_of
from figment.generate.said import warn_of_settings

EULER = "EulerDiscreteScheduler"
#: Name of the model, its pipeline, its scheduler, what parts say of themselves -> steps and scale of null, settings that ruin it.
DISTILLED = [
    ("stabilityai/sdxl-turbo", "StableDiffusionXLPipeline", EULER, {}, (4, 0), [(4, 2, None), (20, 0, None)]),
    ("stabilityai/sd-turbo", "StableDiffusionPipeline", EULER, {}, (4, 0), [(1, 1.5, None)]),
    ("models/stable-diffusion-3.5-large-turbo", "StableDiffusion3Pipeline", EULER, {}, (4, 0), [(28, 3.5, None)]),
    ("./SDXL_Lightning.4step/", "StableDiffusionXLPipeline", EULER, {}, (4, 0), [(4, 5, None), (50, 0, None)]),
    ("a/flux", "FluxPipeline", EULER, {"transformer": {"guidance_embeds": False}}, (4, 0), [(20, 3.5, None)]),
    ("a/FLUX.1-schnell@main", "FluxPipeline", EULER, {}, (4, 0), [(50, 0, None)]),
    ("a/b", "StableDiffusionPipeline", "LCMScheduler", {"unet": {"time_cond_proj_dim": 256}}, (4, 8), [(4, 1, None)]),
    ("a/b", "LatentConsistencyModelPipeline", "LCMScheduler", {"unet": {"time_cond_proj_dim": 256}}, (4, 8), [(4, 8, EULER)]),
    ("a/PixArt-LCM-XL-2", "PixArtAlphaPipeline", "LCMScheduler", {}, (4, 1), [(4, 4.5, None), (4, 1, EULER)]),
    ("Tongyi-MAI/Z-Image-Turbo", "ZImagePipeline", EULER, {}, (9, 0), [(50, 6, None)]),
    ("hub/models--stabilityai--sdxl-turbo/snapshots/71153311/", "StableDiffusionXLPipeline", EULER, {}, (4, 0), [(20, 2, None)]),
    ("a/Hyper-SD15-8steps-CFG", "StableDiffusionPipeline", EULER, {}, (8, 5), [(8, 0, None), (50, 5, None)]),
    ("a/Sana", "SanaSprintPipeline", "SCMScheduler", {}, (2, 4.5), [(20, 4.5, None)]),
]  # fmt: skip
#: Those that are none of these have their class's own numbers of steps and scales.
OTHERS = [
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "StableDiffusionPipeline", (50, 7.5)),
    ("stabilityai/stable-diffusion-xl-base-1.0", "StableDiffusionXLPipeline", (50, 5.0)),
    ("black-forest-labs/FLUX.1-dev", "FluxPipeline", (28, 3.5)),
    ("DeepFloyd/IF-I-XL-v1.0", "IFPipeline", (100, 7.0)),
    ("DeepFloyd/IF-II-L-v1.0", "IFSuperResolutionPipeline", (50, 4.0)),
    ("stabilityai/stable-diffusion-x4-upscaler", "StableDiffusionUpscalePipeline", (75, 9.0)),
    ("Tongyi-MAI/Z-Image", "ZImagePipeline", (50, 6.0)),  # its 5 is one less
    ("a/hyper-realism", "StableDiffusionPipeline", (50, 7.5)),
    ("models/turbo/sdxl", "StableDiffusionXLPipeline", (50, 5.0)),  # a folder that models lie in says nothing
    ("Qwen/Qwen-Image", "QwenImagePipeline", (50, 4.0)),  # true_cfg_scale
    ("photos/turbocharged-cars", "StableDiffusionPipeline", (50, 7.5)),
]


def index_of(kind: str, scheduler: str = EULER) -> dict:
    return {"_class_name": kind, "scheduler": ["diffusers", scheduler]}


@pytest.mark.parametrize(("name", "kind", "scheduler", "configs", "own", "ruin"), DISTILLED)
def test_a_distilled_model_is_known(tmp_path, name, kind, scheduler, configs, own, ruin):
    for part, config in configs.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    index = index_of(kind, scheduler)
    few = few_steps(tmp_path, name, index)
    assert (own_steps(index, few), few.guidance_scale) == own
    assert warnings_of(name, few, *own, scheduler) == []
    assert all(name in warnings_of(name, few, *settings)[0] for settings in ruin)


@pytest.mark.parametrize(("name", "kind", "own"), OTHERS)
def test_others_have_their_class_own_settings(tmp_path, name, kind, own):
    index = index_of(kind)
    few = few_steps(tmp_path, name, index)
    assert few is None and (own_steps(index, few), guidance_of(index, tmp_path).own()) == own


def test_a_class_without_a_number_of_steps_is_told_to_have_one():
    with pytest.raises(FigmentError, match="Set num_inference_steps to a number"):
        own_steps(index_of("NoSuchPipeline"), None)


def test_null_is_resolved_and_recorded(folders, tmp_path):
    null = {"num_inference_steps": None, "guidance_scale": None, "dtype": "float32"}
    generator = DiffusersGenerator(model=str(folders["sd15"]), **null)
    told = generator.settings
    assert (told["num_inference_steps"], told["guidance_scale"]) == (50, 7.5) and generator.warnings == []
    same = DiffusersGenerator(model=str(folders["sd15"]), num_inference_steps=50, guidance_scale=7.5, dtype="float32")
    assert generator.fingerprint == same.fingerprint
    turbo = shutil.copytree(folders["sd15"], tmp_path / "sd-turbo")
    told = DiffusersGenerator(model=str(turbo), **null).describe()
    assert told["sampler"] == "DDIMScheduler, 4 steps, guidance 0" and told["scheduler"] == "DDIMScheduler"


@pytest.mark.slow  # its images are of 1024 pixels, whatever size is asked for
def test_sana_sprint_takes_other_numbers_of_steps_than_two(folders):
    """Its own intermediate timestep is for two, and diffusers refuses it with others."""
    settings = {"guidance_scale": None, "dtype": "float32", "height": 32, "width": 32}
    generator = DiffusersGenerator(model=str(folders["sana_sprint"]), num_inference_steps=1, **settings)
    rows: list[int] = []
    generator.pipe.transformer.register_forward_hook(lambda module, given, output: rows.append(len(output[0])))
    assert generator.warnings == [] and generator(["a"], [1])[0].shape == (32, 32, 3)
    assert rows == [1]  # its guidance is a number that it is told


@pytest.mark.parametrize(
    ("place", "own"),
    [
        ("lcm-lora-sdv1-5/pytorch_lora_weights.safetensors", (4, 1)),
        ("loras/sd_lightning_4step_lora.safetensors", (4, 0)),
        ("loras/Hyper-SD15-4steps-lora.safetensors", (4, 0)),
        ("loras/style.safetensors", (50, 7.5)),
    ],
)
def test_a_lora_of_few_steps_makes_a_model_of_few_steps(folders, tmp_path, place, own):
    """Of a folder by its name, of a file by the file's: LCM-LoRA on Stable Diffusion has LCM's settings, and needs its scheduler."""
    pytest.importorskip("peft")
    (tmp_path / place).parent.mkdir()
    (tmp_path / place).write_bytes(b"")  # opened only with the pipeline
    lora = tmp_path / place
    loras = [str(lora.parent if lora.name.startswith("pytorch") else lora)]
    made = {
        scheduler: DiffusersGenerator(
            model=str(folders["sd15"]), num_inference_steps=None, guidance_scale=None, loras=loras, scheduler=scheduler
        )
        for scheduler in (None, "LCMScheduler")
    }
    assert {(g.num_inference_steps, g.guidance_scale) for g in made.values()} == {own}
    needs_its_scheduler = "lcm" in place
    assert [bool(g.warnings) for g in made.values()] == [needs_its_scheduler, "Hyper" in place]
    if needs_its_scheduler:
        assert "scheduler is DDIMScheduler (it takes LCMScheduler or TCDScheduler)" in made[None].warnings[0]
    ruined = DiffusersGenerator(model=str(folders["sd15"]), loras=loras)  # the defaults of figment
    assert bool(ruined.warnings) == (own != (50, 7.5))


def test_settings_that_ruin_it_are_warned_of(folders, tmp_path, caplog):
    turbo = shutil.copytree(folders["sd15"], tmp_path / "sd-turbo")
    warn_of_settings(DiffusersGenerator(model=str(turbo)))  # the defaults of figment
    said = caplog.text
    assert "sd-turbo was distilled to a few steps" in said
    assert "num_inference_steps is 20 (it takes 1 to 4); guidance_scale is 2 (it takes no guidance: 0 or 1)" in said
    warn_of_settings(DiffusersGenerator(model=str(turbo), num_inference_steps=None, guidance_scale=None))
    warn_of_settings(DiffusersGenerator(model=str(folders["sd15"])))
    assert caplog.text == said
