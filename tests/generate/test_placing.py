"""Where the weights lie: offloaded images are the same images, and what does not fit is told once, with what would."""

from __future__ import annotations

from types import SimpleNamespace

import accelerate
import diffusers
import numpy as np
import pytest
import torch

from figment.errors import FigmentError
from figment.forecast import forecast
from figment.generate import placing, sizes, texts
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.fill import generate_images
from figment.generate.real_guidance_settings import RealGuidanceSettings
from figment.recipe import validate
from figment.types import Prompt

PROMPTS = [Prompt(f"000-x/{i:05d}", text, 0, f"g{i}") for i, text in enumerate(["a dog", "a cat", "a red bird"])]


def make(folders, **settings) -> DiffusersGenerator:
    return DiffusersGenerator(
        **{"model": str(folders["sd15"]), "num_inference_steps": 2, "dtype": "float32", "batch_size": 1, **settings}
    )


def pixels(images) -> np.ndarray:
    return np.stack(images.load(range(len(images)))).astype(int)


@pytest.fixture(scope="module")
def expected(folders, tmp_path_factory) -> np.ndarray:
    made = generate_images(PROMPTS, make(folders), tmp_path_factory.mktemp("whole"), ["x"], images_per_class=3)
    return pixels(made)


@pytest.fixture
def accelerator(monkeypatch):
    """The CPU stands in for one: weights are moved there from main memory, by the same hooks."""
    own = accelerate.cpu_offload
    monkeypatch.setattr(placing, "MAIN_MEMORY", ())
    # Asked for "cpu:0" torch copies what lies on "cpu" each time, as it would not from "cuda:0" to "cuda:0".
    monkeypatch.setattr(
        accelerate, "cpu_offload", lambda model, device, **more: own(model, torch.device("cpu"), **more)
    )


@pytest.fixture
def order(monkeypatch) -> list[str]:
    """The parts that are called, in order, without repeats next to one another."""
    called: list[str] = []
    own = DiffusersGenerator._open

    def watched(generator):
        pipe = own(generator)
        for name in ("text_encoder", "unet"):
            getattr(pipe, name).register_forward_pre_hook(
                lambda *_, name=name: called.append(name) if called[-1:] != [name] else None
            )
        return pipe

    monkeypatch.setattr(DiffusersGenerator, "_open", watched)
    return called


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloaded_images_are_the_same_and_texts_are_encoded_once_a_shard(
    folders, tmp_path, accelerator, order, expected, offload
):
    generator = make(folders, offload=offload)
    made = generate_images(PROMPTS, generator, tmp_path, ["x"], images_per_class=3)
    assert np.abs(pixels(made) - expected).max() <= 1
    assert all(hasattr(getattr(generator.pipe, part), "_hf_hook") for part in ("text_encoder", "unet", "vae"))
    assert (generator.pipe.unet.device.type == "meta") == (offload == "sequential")
    assert order == ["text_encoder", "unet"]  # and not again for each batch of one


def test_real_guidance_is_offloaded_too(folders, accelerator):
    init = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    settings = {"num_inference_steps": 4, "real_guidance": RealGuidanceSettings(t_star=50), "batch_size": 1}
    expected, made = (
        np.stack(make(folders, **settings, offload=offload)(["a dog", "a cat"], [1, 2], init=init)).astype(int)
        for offload in ("none", "model")
    )
    assert np.abs(made - expected).max() <= 1


def test_where_weights_wait_changes_no_fingerprint(folders):
    assert make(folders, offload="model").fingerprint == make(folders).fingerprint


def test_text_encoders_in_the_way_come_once_a_shard(folders, tmp_path, monkeypatch, expected, order):
    brought: list[torch.nn.Module] = []
    monkeypatch.setattr(placing, "free_bytes", lambda device: 1_000)
    monkeypatch.setattr("figment.generate.texts.put", lambda part, *_: brought.append(part))
    generator = make(folders)
    made = generate_images(PROMPTS, generator, tmp_path, ["x"], images_per_class=3)
    assert brought == [generator.pipe.text_encoder] and order == ["text_encoder", "unet"]
    assert np.abs(pixels(made) - expected).max() <= 1


def test_no_more_texts_are_read_ahead_than_are_remembered(folders, monkeypatch):
    """What a shard asks for first must not be forgotten for what it asks for last."""
    generator = make(folders)
    told = generator.texts
    told.waiting = True
    monkeypatch.setattr(texts, "TOGETHER", 2)
    told.read_ahead([(0, "one")], guided=False)
    size = sum(t.nbytes for t in told.encoded[0, "one"].values())
    told.forget()
    monkeypatch.setattr(texts, "WAITING_CACHE_BYTES", 5 * size)
    told.read_ahead([(0, f"text {i}") for i in range(9)], guided=False)
    assert list(told.encoded) == [(0, f"text {i}") for i in range(4)]


def test_text_encoders_stay_where_there_is_room(folders, monkeypatch):
    generator = make(folders)
    monkeypatch.setattr(placing, "free_bytes", lambda device: 2**30)
    assert placing.texts_in_the_way(generator.pipe, "none") == []
    monkeypatch.setattr(placing, "free_bytes", lambda device: 1_000)
    assert placing.texts_in_the_way(generator.pipe, "model") == []  # they come and go as it is


def test_the_automatic_batch_leaves_room_for_what_is_still_to_come(folders, monkeypatch):
    generator, image = make(folders), 64 * 64 * sizes.CUDA_BYTES_PER_PIXEL * 4
    largest = placing.still_to_come(generator.pipe, "model")
    assert (
        largest == sum(p.nbytes for p in generator.pipe.unet.parameters()) and placing.still_to_come(None, "none") == 0
    )
    monkeypatch.setattr(sizes, "free_bytes", lambda device: 10 * image)
    assert sizes.auto_batch_size(generator.pipe, 64, 64) == 10
    assert sizes.auto_batch_size(generator.pipe, 64, 64, to_come=6 * image) == 4


def test_offloading_without_an_accelerator_is_refused(folders, tmp_path):
    with pytest.raises(FigmentError, match="offload: model keeps weights in main memory.* the device is cpu"):
        make(folders, offload="model", device="cpu")
    with pytest.raises(FigmentError, match="Did you mean 'model'"):
        make(folders, offload="modell")
    if not torch.cuda.is_available():
        with pytest.raises(FigmentError, match="offload: sequential .* the device is cpu"):
            generate_images(PROMPTS, make(folders, offload="sequential"), tmp_path, ["x"], images_per_class=3)


def pipeline(dtype: torch.dtype, **parameters: int):
    """Stands in for a pipeline of parts with so many thousand million parameters, none of which takes memory."""
    parts = {
        name: torch.nn.Linear(n * 1_000, 10**6, bias=False, device="meta", dtype=dtype)
        for name, n in parameters.items()
    }
    return SimpleNamespace(components={**parts, "tokenizer": None}, dtype=dtype)


@pytest.mark.parametrize(
    ("free", "offload", "ways", "not_ways"),
    [
        (
            24,
            "none",
            ["dtype: bfloat16 (or float16), 18.1 GiB", "offload: model", "both", "sequential"],
            ["No setting"],
        ),
        (14, "none", ["both, 8.8 GiB", "sequential"], ["(or float16), 18.1", "offload: model, 17.5"]),
        (4, "none", ["offload: sequential"], ["bfloat16", "both"]),
        (24, "model", ["dtype: bfloat16", "offload: sequential"], ["offload: model", "both"]),
        (4, "sequential", ["No setting makes it fit: a smaller or quantised model"], ["generate.dtype", "offload:"]),
        (None, "none", ["dtype: bfloat16", "offload: model", "sequential"], ["are free"]),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(monkeypatch, free, offload, ways, not_ways):
    pipe = pipeline(torch.float32, unet=4, text_encoder_2=4, vae=1)
    pipe.components["unet"] = torch.nn.Linear(4_700, 10**6, bias=False, device="meta")
    said = str(
        placing._does_not_fit(
            pipe, torch.device("cuda"), offload, "The model big", None if free is None else free * 2**30
        )
    )
    assert "The model big in float32 does not fit into the memory of cuda: its weights take 36.1 GiB" in said
    assert "unet 17.5 GiB, text_encoder_2 14.9 GiB, vae 3.7 GiB" in said and "\n" not in said
    assert (free is None) or f"where {free}.0 GiB are free" in said
    assert [way for way in ways if way not in said] == [] and [way for way in not_ways if way in said] == []


@pytest.fixture
def recipe(folders):
    model = {"model": str(folders["sd15"]), "images_per_class": 2}
    task = {"class_names": ["a", "b"]}
    return validate({"task": task, "prompts": {"kind": "templates"}, "generate": model, "filters": []}, "it")


def test_a_dry_run_tells_what_does_not_fit(recipe, tmp_path, monkeypatch):
    opened = []

    def full(pipe, *args, **more):
        opened.append(pipe)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "to", full)
    (said,) = [line for line in forecast(recipe, tmp_path / "run").text if "not known" in line]
    assert "their time is not known: The model" in said and "does not fit into the memory of cpu" in said
    assert len(opened) == 1


def test_a_dry_run_opens_a_model_once_for_all_its_trials(recipe, tmp_path, monkeypatch):
    opened, own = [], DiffusersGenerator._open
    monkeypatch.setattr(DiffusersGenerator, "_open", lambda self: (opened.append(self), own(self))[1])
    assert forecast(recipe, tmp_path / "run").seconds is not None
    assert len(opened) == 1


def test_main_memory_that_runs_out_while_a_model_is_opened_is_told(folders, monkeypatch):
    def full(*args, **more):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("figment.weights.load", full)
    with pytest.raises(
        FigmentError, match="memory of this machine ran out while the .* was opened in float32.*bfloat16"
    ):
        _ = make(folders).pipe
