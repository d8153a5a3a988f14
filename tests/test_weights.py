"""No model with random weights in it is ever used: whatever a checkpoint lacks is told by name, by every loader."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM

import tiny
from figment.encoders import open_encoder
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.lora import Applied, Lora, pack
from figment.learners.network.network import NetworkLearner
from figment.learners.network.settings import NetworkSettings
from figment.models import resolve
from figment.prompts.sampling import open_model

State = dict[str, Tensor]


def rewrite(file: Path, change: Callable[[State], State]) -> None:
    changed = {name: tensor.contiguous() for name, tensor in change(safetensors.torch.load_file(file)).items()}
    safetensors.torch.save_file(changed, file, {"format": "pt"})


def with_value(value: float) -> Callable[[State], State]:
    def change(state: State) -> State:
        name = max(state, key=lambda n: state[n].numel())
        state[name].view(-1)[7] = value
        return state

    return change


def without_largest(state: State) -> State:
    del state[max(state, key=lambda n: state[n].numel())]
    return state


def longer(state: State) -> State:
    name = max(state, key=lambda n: state[n].numel())
    return {**state, name: torch.cat([state[name], state[name]])}


DAMAGES = {
    "one is missing": (without_largest, r"\d are missing|Missing key"),
    "DataParallel": (
        lambda s: {f"module.{n}": t for n, t in s.items()},
        "saved from inside a DataParallel|Missing key",
    ),
    "another shape": (longer, "another shape|size mismatch"),
    "NaN": (with_value(float("nan")), r"\d hold NaN or infinity"),
    "infinity": (with_value(float("-inf")), r"\d hold NaN or infinity"),
}


def pipeline(part: str) -> tuple[str, Callable[[Path], object]]:
    file = "model" if part == "text_encoder" else "diffusion_pytorch_model"
    opened = lambda folder: DiffusersGenerator(model=str(folder), dtype="float32").pipe
    return f"{part}/{file}.safetensors", opened


def network(folder: Path) -> object:
    settings = NetworkSettings(architecture="test_resnet", image_size=32, pretrained=str(folder))
    return NetworkLearner(settings, ["a", "b"], device="cpu")


LOADERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "CLIP": ("clip", "model.safetensors", lambda f: open_encoder(str(f))),
    "open_clip": ("open_clip", "open_clip_model.safetensors", lambda f: open_encoder(str(f))),
    "unet": ("sd15", *pipeline("unet")),
    "vae": ("sd15", *pipeline("vae")),
    "text encoder": ("sd15", *pipeline("text_encoder")),
    "writer": ("t5", "model.safetensors", lambda f: open_model(AutoModelForSeq2SeqLM, resolve(str(f)), False)),
    "network": ("timm", "model.safetensors", network),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory, clip, sd15) -> dict[str, Path]:
    from transformers import T5Config, T5ForConditionalGeneration

    root = tmp_path_factory.mktemp("whole")
    config = T5Config(vocab_size=32, d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(root / "t5")
    return {
        "clip": clip,
        "sd15": sd15,
        "open_clip": tiny.open_clip_folder(root / "open_clip", "vit", own_tokenizer=True),
        "t5": root / "t5",
        "timm": _timm(root / "timm"),
    }


def _timm(folder: Path) -> Path:
    import timm

    folder.mkdir()
    module = timm.create_model("test_resnet", num_classes=3)
    safetensors.torch.save_file(module.state_dict(), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": {}}))
    return folder


# open_clip takes the prefix off, and has whole weights then
CASES = [
    (loader, damage) for loader in LOADERS for damage in DAMAGES if (loader, damage) != ("open_clip", "DataParallel")
]


@pytest.mark.parametrize(("loader", "damage"), CASES)
def test_weights_that_do_not_fit_are_refused_by_name(models, tmp_path, loader, damage):
    model, file, opened = LOADERS[loader]
    change, message = DAMAGES[damage]
    folder = shutil.copytree(models[model], tmp_path / "model")
    rewrite(folder / file, change)
    with pytest.raises(FigmentError, match=message) as caught:
        opened(folder)
    assert "\n" not in str(caught.value) and "model" in str(caught.value)
    assert file.partition("/")[0] in str(caught.value) or "/" not in file  # which part


@pytest.mark.parametrize("loader", LOADERS)
def test_whole_weights_open(models, loader):
    model, _, opened = LOADERS[loader]
    assert opened(models[model]) is not None


def with_more(**more: Tensor) -> Callable[[State], State]:
    return lambda state: {**state, **more}


OLD_VAE = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def as_older_versions_name_it(state: State) -> State:
    """The attention of a VAE as Stable Diffusion 1.5 is published with."""
    old = lambda name: next((name.replace(f".{a}.", f".{b}.") for a, b in OLD_VAE.items() if f".{a}." in name), name)
    return {old(name): tensor for name, tensor in state.items()}


HARMLESS = {
    "position ids in a pipeline": (
        "sd15",
        "text_encoder/model.safetensors",
        with_more(**{"text_model.embeddings.position_ids": torch.arange(77)[None]}),
    ),
    "a VAE with older names": ("sd15", "vae/diffusion_pytorch_model.safetensors", as_older_versions_name_it),
    "position ids, as older versions wrote them": (
        "clip",
        "model.safetensors",
        with_more(**{"text_model.embeddings.position_ids": torch.arange(77)[None]}),
    ),
    "the other tower of a CLIP": (
        "sd15",
        "text_encoder/model.safetensors",
        with_more(**{"vision_model.post_layernorm.weight": torch.ones(3), "logit_scale": torch.ones(())}),
    ),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_does_no_harm_is_let_pass(models, tmp_path, case):
    model, file, change = HARMLESS[case]
    folder = shutil.copytree(models[model], tmp_path / "model")
    rewrite(folder / file, change)
    opened = next(opened for of, at, opened in LOADERS.values() if (of, at) == (model, file))
    assert opened(folder) is not None


@pytest.mark.parametrize("file", ["model.safetensors", "text_encoder/model.safetensors"])
def test_layers_that_the_configuration_has_not_are_no_whole_part(models, tmp_path, file):
    """A text tower of three layers, of which config.json says there are two."""
    model = "sd15" if "/" in file else "clip"
    folder = shutil.copytree(models[model], tmp_path / "model")
    third = lambda s: {**s, **{n.replace("layers.1", "layers.2"): t.clone() for n, t in s.items() if "layers.1" in n}}
    rewrite(folder / file, third)
    opened = next(opened for of, at, opened in LOADERS.values() if (of, at) == (model, file))
    with pytest.raises(FigmentError, match=r"have names that it does not know \(.*layers\.2"):
        opened(folder)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("model", ["clip", "sd15", "t5"])
def test_half_precision_alone_is_opened(models, tmp_path, model, precision):
    """As ``save_pretrained(folder, variant="fp16")`` leaves a model."""
    folder = shutil.copytree(models[model], tmp_path / "model")
    for file in folder.rglob("*.safetensors"):
        rewrite(file, lambda s: {n: t.half() if t.is_floating_point() else t for n, t in s.items()})
        file.rename(file.with_suffix(f".{precision}.safetensors"))
    opened = next(opened for of, _, opened in LOADERS.values() if of == model)
    assert opened(folder) is not None


# ---- LoRAs -----------------------------------------------------------------------------------------------------------

LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
PAIR = {f"{LAYER}.lora_A.weight": torch.ones(2, 32), f"{LAYER}.lora_B.weight": torch.ones(32, 2)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "is empty"),
        ({f"unet.{name}": t for name, t in PAIR.items()}, "2 have names that it does not know"),
        ({name.replace("lora_A", "down").replace("lora_B", "up"): t for name, t in PAIR.items()}, "2 have names"),
        ({f"{LAYER}.lora_A.weight": torch.ones(2, 32)}, "1 are missing.*lora_B"),
        ({name: t[:, :1] for name, t in PAIR.items()}, "1 have another shape"),
        ({name: t * float("nan") for name, t in PAIR.items()}, "2 hold NaN"),
    ],
    ids=["empty", "no such layer", "other words", "half", "shape", "NaN"],
)
def test_a_lora_that_changes_nothing_or_too_much_is_refused(sd15, tmp_path, monkeypatch, tensors, message):
    pipe = DiffusersGenerator(model=str(sd15), dtype="float32").pipe
    lora = Lora(tmp_path, "model", per_class=False, trained="")
    monkeypatch.setattr(Lora, "read", lambda self, label: safetensors.torch.load(pack(tensors)))
    with pytest.raises(FigmentError, match=f"The LoRA in .*{message}"):
        Applied(lora, pipe).choose([0])


def test_a_lora_of_the_pipeline_is_taken(sd15, tmp_path, monkeypatch):
    pipe = DiffusersGenerator(model=str(sd15), dtype="float32").pipe
    monkeypatch.setattr(Lora, "read", lambda self, label: safetensors.torch.load(pack(PAIR)))
    applied = Applied(Lora(tmp_path, "model", per_class=False, trained=""), pipe)
    applied.choose([0])
    assert list(applied.down) == [LAYER]
