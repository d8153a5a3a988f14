"""What makes images sooner: timed before it is used, refused by name where it cannot be had, and in a fingerprint where it changes pixels."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import logging
import pickle
import re
import sys
import types
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from figment import records
from figment.errors import FigmentError
from figment.forecast import forecast
from figment.generate import hasten, speed
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.fill import generate_images
from figment.generate.quantise import quantise
from figment.generate.speed import Tried
from figment.generate.speed_settings import SpeedSettings
from figment.recipe import Recipe, load_recipe, validate
from figment.recipe.unfingerprinted import identity
from figment.records import fingerprint
from figment.stages.plans import images_key, images_settings
from figment.types import Prompt

SAMPLING = {"num_inference_steps": 2, "dtype": "float32", "batch_size": 4, "guidance_scale": 1.0}
PROMPTS, SEEDS = ["a dog", "a cat"], [1, 2]


def recipe(**asked) -> Recipe:
    return validate({"task": {"class_names": ["cat", "dog"]}, "generate": {"speed": asked} if asked else {}}, "it")


@pytest.fixture
def clock(monkeypatch):
    """A stopwatch that a function moves by itself."""
    now = types.SimpleNamespace(seconds=0.0, perf_counter=lambda: now.seconds)
    monkeypatch.setattr(speed, "time", now)
    return now


@pytest.fixture(scope="module")
def small_vae(tmp_path_factory) -> Path:
    """Random weights for latents of 4 channels, 8 pixels a side."""
    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    sides = (8,) * 4
    diffusers.AutoencoderTiny(
        encoder_block_out_channels=sides,
        decoder_block_out_channels=sides,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    ).save_pretrained(folder)
    return folder


# ---- fingerprints ----------------------------------------------------------------------------------------------------


def test_images_that_were_made_before_there_was_speed_are_still_found():
    assert images_key(recipe()) == "d782d6b38f941d66" and fingerprint(images_settings(recipe())) == "b47b147bf486314a"


@pytest.mark.parametrize(
    ("asked", "counts"),
    [
        ({"compile": True}, False),
        ({"backend": "openvino"}, False),
        ({"cache": "fast"}, True),
        ({"quantise": "fp8"}, True),
    ],
)
def test_what_changes_pixels_is_in_the_fingerprint(asked, counts):
    assert (identity(recipe(**asked).generate) != identity(recipe().generate)) == counts
    assert (images_key(recipe(**asked)) != images_key(recipe())) == counts


def test_a_small_vae_counts_by_its_weights(sd15, small_vae):
    plain = DiffusersGenerator(model=str(sd15))
    own = DiffusersGenerator(model=str(sd15), speed=SpeedSettings(vae=str(small_vae)))
    assert own.fingerprint != plain.fingerprint == own.plain.fingerprint
    assert "vae" not in plain.settings and images_key(recipe(vae="a")) != images_key(recipe(vae="b"))


def test_a_small_vae_is_found_beside_the_recipe(small_vae, tmp_path):
    (tmp_path / "small").symlink_to(small_vae)
    (tmp_path / "tiny").mkdir()  # which nobody means
    (tmp_path / "it.yaml").write_text("task: {class_names: [a, b]}\ngenerate: {speed: {vae: small}}\n")
    assert load_recipe(tmp_path / "it.yaml").generate.speed.vae == str(small_vae)
    assert load_recipe(tmp_path / "it.yaml", ["generate.speed.vae=tiny"]).generate.speed.vae == "tiny"


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_one_thing_takes_the_place_of_the_denoiser():
    with pytest.raises(FigmentError, match="compile and cache each put something else"):
        recipe(compile=True, cache="fast")
    assert recipe(compile=True, quantise="fp8").generate.speed.compile


@pytest.mark.parametrize(
    ("asked", "more", "said"),
    [
        (
            {"cache": "fast"},
            {},
            "StableDiffusionPipeline of .* has a UNet.*What helps instead: guidance in an interval",
        ),
        ({"quantise": "fp8"}, {"device": "cpu"}, "needs a GPU of NVIDIA's.*the device is cpu"),
        ({"backend": "openvino"}, {"device": "cuda"}, "computes on CPUs here, and the device is cuda"),
        ({"backend": "openvino"}, {}, r"'openvino', which is not installed.*figment-vision\[openvino\]"),
        ({"compile": True}, {"offload": "model", "device": "cuda"}, "offload: model puts the denoiser back"),
        (
            {"vae": "madebyollin/taesdxl"},
            {},
            "latents of Stable Diffusion XL, and those of .* are others.*which is madebyollin/taesd",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(sd15, monkeypatch, asked, more, said):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(FigmentError, match=said) as told:
        DiffusersGenerator(model=str(sd15), speed=SpeedSettings(**asked), **more)
    assert "\n" not in str(told.value)


def test_a_cache_without_its_package_says_how_to_install_it(folders, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FigmentError, match=r"'cache-dit', which is not installed.*figment-vision\[cache\]"):
        DiffusersGenerator(model=str(folders["flux"]), guidance_scale=None, speed=SpeedSettings(cache="fast"))


def test_8_bit_floats_are_refused_where_auto_found_a_cpu():
    with pytest.raises(FigmentError, match="the device is cpu"):
        quantise(torch.nn.Linear(16, 16), "fp8")


def test_a_small_vae_of_other_latents_is_refused(sd15, small_vae, tmp_path):
    with pytest.raises(
        FigmentError, match=r"tiny is not there for starter: its latents \(4 channels, scaled by 0\.38416\)"
    ):
        DiffusersGenerator(speed=SpeedSettings(vae="tiny"))
    with pytest.raises(FigmentError, match="4 channels and 8 pixels a side, and those of starter have 4 and 4"):
        DiffusersGenerator(speed=SpeedSettings(vae=str(small_vae)))
    with pytest.raises(FigmentError, match="is no AutoencoderTiny of diffusers, but AutoencoderKL"):
        DiffusersGenerator(model=str(sd15), speed=SpeedSettings(vae=str(sd15 / "vae")))


def test_a_lora_that_is_trained_here_needs_the_denoiser_itself(sd15):
    own = DiffusersGenerator(model=str(sd15), speed=SpeedSettings(compile=True), **SAMPLING)
    with pytest.raises(FigmentError, match=r"speed\.compile takes the denoiser as it is, .*finetune\.method: full"):
        validate({"task": {"class_names": ["a", "b"]}, "generate": {"finetune": {}, "speed": {"compile": True}}}, "it")
    own.lora = types.SimpleNamespace()
    with pytest.raises(FigmentError, match=r"speed\.compile takes the denoiser as it is.*Leave one of them out"):
        _ = own.pipe


# ---- a trial ---------------------------------------------------------------------------------------------------------

X = torch.tensor([1.0, -1.0])


def way(clock, seconds: float, factor: float = 2.0, calls: list | None = None):
    def forward(x):
        clock.seconds += seconds
        if calls is not None:
            calls.append(seconds)
        return (factor * x,)

    return forward


def tried(clock, fast, **more) -> Tried:
    return Tried("compile", "denoiser", way(clock, 0.2), lambda given, named: fast, **more)


def test_the_faster_way_is_used_from_then_on(clock, caplog):
    calls: list[float] = []
    own = tried(clock, way(clock, 0.1, calls=calls))
    with caplog.at_level(logging.INFO):
        assert torch.equal(own(X)[0], 2 * X)
    before = len(calls)
    own(X)
    assert len(calls) == before + 1 and own.trial.used and own.trial.difference == 0
    assert "compile: 2.00 times as fast as without (a call of the denoiser: 0.1 s, without 0.2 s)" in caplog.text
    assert own.trial.told == {
        "what": "compile", "of": "denoiser", "plain_seconds": 0.2, "seconds": 0.1, "difference": 0.0, "used": True
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "factor", "said"),
    [
        (0.3, 2.0, "compile is not used: it is slower here; 0.67 times as fast"),
        (0.1, 2.01, "compile is not used: it is 0.005 from what it should be, and 0.0001 is rounding"),
        (0.1, float("nan"), "compile is not used: it is nothing like what it should be"),
    ],
)
def test_a_slower_or_another_way_is_not_used_and_said(clock, caplog, seconds, factor, said):
    own = tried(clock, way(clock, seconds, factor))
    assert torch.equal(own(X)[0], 2 * X) and torch.equal(own(X)[0], 2 * X)
    assert not own.trial.used and said in caplog.text


def test_what_fails_is_not_used_and_says_why(clock, caplog):
    def broken(given, named):
        raise RuntimeError("no compiler\nwas found")

    own = Tried("compile", "denoiser", way(clock, 0.2), broken)
    assert torch.equal(own(X)[0], 2 * X) and own.trial.seconds is None
    assert "generate.speed.compile is not used: no compiler was found." in caplog.text


def test_what_changes_pixels_is_done_whatever_the_stopwatch_says(clock, caplog):
    own = tried(clock, way(clock, 0.4, 3.0), asked_for=True)
    with caplog.at_level(logging.INFO):
        assert torch.equal(own(X)[0], 3 * X)
    assert own.trial.used and "Leave it out: nothing is gained here" in caplog.text


def test_a_batch_that_does_not_fit_is_tried_again_in_less(clock):
    sizes: list[int] = []

    def plain(x):
        sizes.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (x,)

    own = Tried("compile", "denoiser", plain, lambda given, named: lambda x: (x,))
    with pytest.raises(torch.OutOfMemoryError):
        own(X)
    assert own.trial is None and torch.equal(own(X[:1])[0], X[:1]) and own.trial is not None


def test_what_is_asked_for_is_made_once_and_needs_nothing_to_compare_with(clock, caplog):
    """Layers are quantised in place: made twice they would be quantised twice, and the plain way is no plain one any more."""
    made: list[int] = []

    def plain(x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def fast(x):
        clock.seconds += 0.1
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (3 * x,)

    def make(given, named):
        made.append(len(given[0]))
        return fast

    own = Tried("vae", "decoder", plain, make, asked_for=True)
    with pytest.raises(torch.OutOfMemoryError):
        own(X)
    with caplog.at_level(logging.INFO):
        assert torch.equal(own(X[:1])[0], 3 * X[:1]) and made == [2]
    assert own.trial.used and own.trial.told["plain_seconds"] is None
    assert "vae: a call of the decoder takes 0.1 s; without, a batch does not fit into memory." in caplog.text


# ---- in a generator --------------------------------------------------------------------------------------------------


def test_a_compiled_denoiser_makes_the_same_images_and_is_told_in_the_record(sd15, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda forward: forward)
    plain = DiffusersGenerator(model=str(sd15), **SAMPLING)
    own = DiffusersGenerator(model=str(sd15), speed=SpeedSettings(compile=True), **SAMPLING)
    assert own.fingerprint == plain.fingerprint and not own.trials
    few = own.with_steps(1)
    few(PROMPTS, SEEDS)
    (trial,) = few.trials
    assert own.trials == [trial] and trial.what == "compile" and trial.difference == 0  # of one pipeline, tried once
    assert np.array_equal(own(PROMPTS, SEEDS), plain(PROMPTS, SEEDS))
    assert own.describe()["speed"] == [trial.told] and "speed" not in plain.describe()
    assert not pickle.loads(pickle.dumps(own)).trials and "pipe" not in own.plain.__dict__
    assert own.plain.speed == SpeedSettings()


def test_a_small_vae_decodes_as_diffusers_would_with_it(sd15, small_vae):
    own = DiffusersGenerator(model=str(sd15), speed=SpeedSettings(vae=str(small_vae)), **SAMPLING)
    made = np.stack(own(PROMPTS, SEEDS)).astype(int)
    pipe = diffusers.DiffusionPipeline.from_pretrained(sd15)
    pipe.vae = diffusers.AutoencoderTiny.from_pretrained(small_vae)
    draws = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    expected = pipe(PROMPTS, num_inference_steps=2, guidance_scale=1.0, generator=draws, output_type="np").images
    assert np.abs(made - (255 * expected).round()).max() <= 1
    (trial,) = own.trials
    assert trial.what == "vae" and trial.of == "decoder" and trial.used and trial.difference > 0.1
    assert f"decoded by {small_vae}" in own.describe()["sampler"]


def test_a_dry_run_and_the_record_of_images_say_what_it_gains(sd15, small_vae, tmp_path):
    asked = {"model": str(sd15), **SAMPLING, "images_per_class": 1, "speed": {"vae": str(small_vae)}}
    own = validate({"task": {"class_names": ["cat", "dog"]}, "generate": asked, "filters": []}, "it")
    told = forecast(own, tmp_path / "run").costs["images"].text
    assert re.search(r"\ngenerate\.speed\.vae: [\d.]+ times as fast as without \(a call of the decoder: ", told)
    generator = own.generate.build(types.SimpleNamespace(shots_per_class=None))
    prompts = [Prompt("cat", "a cat", 0, "cat")]
    generate_images(prompts, generator, tmp_path / "images", ["cat"], images_per_class=1)
    (trial,) = records.read(tmp_path / "images").data["generator"]["speed"]
    assert trial["what"] == "vae" and trial["used"] and trial["seconds"] > 0


# ---- OpenVINO, without OpenVINO --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unet(sd15):
    return diffusers.UNet2DConditionModel.from_pretrained(sd15, subfolder="unet").eval()


def call_of(unet, rows: int) -> tuple[list, dict]:
    draws = torch.Generator().manual_seed(rows)
    x, words = (torch.randn(rows, *shape, generator=draws) for shape in ((4, 8, 8), (77, 32)))
    return [x, torch.tensor(501)], {"encoder_hidden_states": words, "added_cond_kwargs": None, "return_dict": False}


def test_a_call_is_a_function_of_its_tensors(unet):
    from figment.generate.openvino import Arguments, _Traced

    given, named = call_of(unet, 2)
    own = Arguments(given, named)
    assert [tuple(t.shape) for t in own.tensors] == [(2, 4, 8, 8), (), (2, 77, 32)]
    with torch.no_grad():
        assert torch.equal(_Traced(unet, own)(*own.tensors), unet(*given, **named)[0])
    assert own.like(Arguments(*call_of(unet, 3))) and own.shape == Arguments(*call_of(unet, 3)).shape
    others = [{**named, "return_dict": True}, {**named, "added_cond_kwargs": {"text_embeds": given[0]}}]
    assert not any(own.like(Arguments(given, other)) for other in others)
    assert not own.like(Arguments([given[0][..., :4], given[1]], named))


def test_calls_that_were_not_converted_go_the_plain_way():
    from figment.generate.openvino import Arguments, Converted

    compiled = lambda tensors: [2 * tensors[0]]
    own = Converted(compiled, Arguments([X], {"return_dict": False}), lambda x, **named: "plain")
    assert torch.equal(own(X, return_dict=False)[0], 2 * X)
    assert own(X) == "plain" and own(X.to(torch.bfloat16), return_dict=False) == "plain"
    half = Converted(compiled, Arguments([X.to(torch.bfloat16)], {}), lambda x: "plain")
    assert half(X.to(torch.bfloat16)).sample.dtype == torch.bfloat16


# ---- and with it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-1)])
def test_openvino_computes_the_same_in_any_batch_and_converts_once(unet, tmp_path, monkeypatch, dtype, most):
    pytest.importorskip("openvino")
    from figment.generate import openvino

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = diffusers.UNet2DConditionModel.from_config(unet.config)
    model.load_state_dict(unet.state_dict())
    model = model.eval().to(dtype)
    plain = model.forward
    model.forward = lambda *given, **named: pytest.fail("what stands in a forward's place was traced")

    def of(rows):
        given, named = call_of(unet, rows)
        return [given[0].to(dtype), given[1]], {
            **named,
            "encoder_hidden_states": named["encoder_hidden_states"].to(dtype),
        }

    with torch.inference_mode():
        own = openvino.converted(model, *of(2), plain, "weights")
        for rows in (2, 3, 1):
            given, named = of(rows)
            assert speed._apart(own(*given, **named)[0], plain(*given, **named)[0]) < most
        monkeypatch.setattr(openvino, "_convert", lambda *_: pytest.fail("it was converted before"))
        openvino.converted(model, *of(3), plain, "weights")
    assert len(list(openvino.cache_folder().iterdir())) == 1


def test_images_by_openvino_are_those_of_torch(sd15, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(hasten, "Tried", lambda *given, **named: Tried(*given, **{**named, "asked_for": True}))
    own = DiffusersGenerator(model=str(sd15), speed=SpeedSettings(backend="openvino"), **SAMPLING)
    made = np.stack(own(PROMPTS, SEEDS)).astype(int)
    assert np.abs(made - np.stack(own.plain(PROMPTS, SEEDS))).max() <= 1 and own.trials[0].difference < 1e-5


# ---- a cache of steps ------------------------------------------------------------------------------------------------


class Cached:
    """cache-dit's interface, and how it takes hold of a class."""

    def __init__(self):
        self.configs = []
        self.module = types.ModuleType("cache_dit")
        self.module.__spec__ = importlib.machinery.ModuleSpec("cache_dit", None)
        self.module.BlockAdapterRegister = types.SimpleNamespace(
            is_supported=lambda pipe: "Flux" in type(pipe).__name__, has_separate_cfg=lambda pipe: False
        )
        self.module.steps_mask = lambda total_steps, mask_policy: [1] + [0] * (total_steps - 1)
        self.module.DBCacheConfig = lambda **options: options
        self.module.enable_cache = self.enable

    def enable(self, pipe, cache_config):
        self.configs.append(cache_config)
        type(pipe)._is_cached = True


@pytest.fixture
def cached(monkeypatch) -> Cached:
    found = Cached()
    monkeypatch.setitem(sys.modules, "cache_dit", found.module)
    return found


FLUX = {**SAMPLING, "num_inference_steps": 4, "guidance_scale": None}


def test_a_cache_chooses_steps_by_number_changes_no_other_pipeline_and_says_what_it_gains(folders, cached):
    own = DiffusersGenerator(model=str(folders["flux"]), speed=SpeedSettings(cache="fast"), **FLUX)
    assert own.steps == () and own.settings["cache"] == "fast"
    images = own(PROMPTS, SEEDS)
    (config,) = cached.configs
    assert config["steps_computation_mask"] == [1, 0, 0, 0] and config["steps_computation_policy"] == "static"
    assert not hasattr(diffusers.FluxPipeline, "_is_cached") and type(own.pipe).__name__ == "FluxPipeline"
    (trial,) = own.trials
    assert (
        trial.what == "cache: fast"
        and trial.used
        and trial.plain_seconds > 0
        and "fast cache" in own.describe()["sampler"]
    )
    assert np.array_equal(images, own.plain(PROMPTS, SEEDS))  # this one caches nothing


def test_a_cache_is_refused_where_its_steps_are_not_those_of_the_denoiser(folders, cached):
    own = DiffusersGenerator(model=str(folders["flux"]), speed=SpeedSettings(cache="fast"), **FLUX)
    own.pipe.transformer  # noqa: B018  # opened
    own.tried[0].calls.append(1)
    with pytest.raises(
        FigmentError, match="calls its denoiser 4 times in 4 steps, and the steps to repeat were chosen among 5"
    ):
        own(PROMPTS, SEEDS)
    with pytest.raises(FigmentError, match="cache-dit knows no StableDiffusion3Pipeline"):
        _ = DiffusersGenerator(
            model=str(folders["sd3"]), speed=SpeedSettings(cache="fast"), **{**SAMPLING, "num_inference_steps": 4}
        ).pipe
    with pytest.raises(FigmentError, match="a step has half of them"):
        DiffusersGenerator(model=str(folders["sd3"]), speed=SpeedSettings(cache="fast"), guidance_stop=0.5)


@pytest.mark.parametrize("steps", [1, 3, 5, 7])
def test_a_cache_of_too_few_steps_is_refused_before_anything_is_opened(folders, cached, steps):
    with pytest.raises(
        FigmentError, match=rf"of 4 or 6, or of 8 and more, and generate.num_inference_steps is {steps}"
    ):
        DiffusersGenerator(
            model=str(folders["flux"]), speed=SpeedSettings(cache="fast"), **{**FLUX, "num_inference_steps": steps}
        )


@pytest.mark.parametrize("name", ["flux", "sd3", "pixart"])
def test_cached_images_do_not_depend_on_what_else_is_in_their_batch(folders, name):
    pytest.importorskip("cache_dit")
    asked = {**SAMPLING, "num_inference_steps": 10, "guidance_scale": None if name == "flux" else 3.0}
    own = DiffusersGenerator(model=str(folders[name]), speed=SpeedSettings(cache="fast"), **asked)
    computed: list[int] = []
    last = next(blocks for part, blocks in own.pipe.transformer.named_children() if part == "transformer_blocks")[-1]
    last.register_forward_hook(lambda *_: computed.append(1))
    both, again, alone = (np.stack(own(PROMPTS[:n], SEEDS[:n])).astype(int) for n in (2, 2, 1))
    assert np.array_equal(both, again) and np.abs(both[0] - alone[0]).max() <= 1
    assert own.trials[0].used
