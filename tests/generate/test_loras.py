"""LoRAs that others made: what diffusers makes of them, and a paragraph where it would make nothing of them without a word."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

import tiny
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.finetune import Finetuning
from figment.generate.finetune_settings import FinetuneSettings
from figment.generate.loras import merge, resolve_loras
from figment.generate.loras_settings import LoraSettings
from figment.images_in import open_images
from figment.recipe import validate
from figment.stages.plans import images_key

pytest.importorskip("peft")

NAME = "pytorch_lora_weights.safetensors"
SAMPLING = {"num_inference_steps": 2, "dtype": "float32", "batch_size": 4}


@pytest.fixture(scope="module")
def matrices(sd15) -> dict[str, torch.Tensor]:
    """Of a LoRA on attention and convolutions, as LCM-LoRA's, by diffusers' names."""
    unet = diffusers.UNet2DConditionModel.from_pretrained(sd15, subfolder="unet")
    draws, found = torch.Generator().manual_seed(0), {}
    for name, module in unet.named_modules():
        if name.endswith(("to_q", "to_v", "conv1")):
            out, into, *kernel = module.weight.shape
            found[f"unet.{name}.lora_A.weight"] = 0.3 * torch.randn(4, into, *kernel, generator=draws)
            found[f"unet.{name}.lora_B.weight"] = 0.3 * torch.randn(out, 4, *(1 for _ in kernel), generator=draws)
    return found


def kohya(matrices: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same by kohya's names, at half its strength: alpha is 2, and the rank 4."""
    found = {}
    for name, tensor in matrices.items():
        layer, _, end = name.removeprefix("unet.").rpartition(".lora_")
        layer = f"lora_unet_{layer.replace('.', '_')}"
        found[f"{layer}.lora_{'down' if end[0] == 'A' else 'up'}.weight"] = tensor
        found[f"{layer}.alpha"] = torch.tensor(2.0)
    return found


def saved(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    safetensors.torch.save_file({name: t.contiguous() for name, t in tensors.items()}, path)
    return path


def attention(matrices: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in matrices.items() if "conv1" not in name}


@pytest.mark.parametrize(("form", "scale"), [(dict, -0.5), (kohya, 1.0)])
def test_images_are_those_of_diffusers_own_loading(sd15, matrices, tmp_path, form, scale):
    path = saved(form(matrices if form is dict else attention(matrices)), tmp_path / NAME)
    made = DiffusersGenerator(model=str(sd15), loras=[{"lora": str(tmp_path), "scale": scale}], **SAMPLING)(["a"], [3])[
        0
    ]
    pipe = diffusers.DiffusionPipeline.from_pretrained(sd15)
    asked = {"num_inference_steps": 2, "guidance_scale": 2.0}
    draws = lambda: torch.Generator().manual_seed(3)
    before = np.asarray(pipe("a", generator=draws(), **asked).images[0]).astype(int)
    pipe.load_lora_weights(path.parent, adapter_name="own")
    pipe.set_adapters("own", scale)
    expected = np.asarray(pipe("a", generator=draws(), **asked).images[0]).astype(int)
    assert np.abs(made - expected).max() <= 1 < 5 < np.abs(made - before).max()


FOREIGN = {
    "of a transformer": (lambda m: {n.replace("unet.", "transformer."): t for n, t in m.items()}, "changes nothing in"),
    "without its part": (lambda m: {n.removeprefix("unet."): t for n, t in m.items()}, "changes nothing in"),
    "of other layers": (lambda m: {n.replace("attentions", "mixers"): t for n, t in m.items()}, "does not go with"),
    "of other sizes": (lambda m: {n: t.repeat(1, 2) if "_A" in n else t for n, t in m.items()}, "does not go with"),
    "not a LoRA": (lambda m: {"unet.conv_in.weight": torch.zeros(2)}, "is none: no tensor"),
    "not a number": (lambda m: {n: t * float("nan") for n, t in m.items()}, "hold NaN"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_one_that_fits_nothing_is_refused_in_a_paragraph(sd15, matrices, tmp_path, kind):
    change, said = FOREIGN[kind]
    path = saved(change(attention(matrices)), tmp_path / "style.safetensors")
    pipe = diffusers.DiffusionPipeline.from_pretrained(sd15)
    with pytest.raises(FigmentError, match=said) as told:
        merge(pipe, resolve_loras([path]), "the model")
    assert "style.safetensors" in str(told.value) and "\n" not in str(told.value)


def test_one_that_fits_in_part_is_warned_of(sd15, matrices, tmp_path, caplog):
    more = {"unet.middle.to_q.lora_A.weight": torch.zeros(4, 32), "unet.middle.to_q.lora_B.weight": torch.zeros(32, 4)}
    path = saved({**attention(matrices), **more}, tmp_path / "it.safetensors")
    merge(diffusers.DiffusionPipeline.from_pretrained(sd15), resolve_loras([path]), "the model")
    n = len(attention(matrices))
    assert f"of its {n + 2} matrices {n} fit the model" in caplog.text


def test_all_parts_of_a_pipeline_are_changed(tmp_path):
    """Of Flux's, diffusers merges the transformer's matrices alone where nothing else is said, and drops the text encoder's."""
    pipe, draws, found = (
        diffusers.DiffusionPipeline.from_pretrained(tiny.flux(tmp_path / "flux")),
        torch.Generator(),
        {},
    )
    for part in ("transformer", "text_encoder"):
        for name, module in getattr(pipe, part).named_modules():
            if name.endswith(("attn.to_q", "attn.q_proj")):
                out, into = module.weight.shape
                found[f"{part}.{name}.lora_A.weight"] = torch.randn(4, into, generator=draws)
                found[f"{part}.{name}.lora_B.weight"] = torch.randn(out, 4, generator=draws)
    layers = [name.removesuffix(".lora_A.weight") for name in found if "lora_A" in name]
    before = {
        name: pipe.components[name.split(".")[0]].get_submodule(name.partition(".")[2]).weight.clone()
        for name in layers
    }
    merge(pipe, resolve_loras([{"lora": str(saved(found, tmp_path / "it.safetensors")), "scale": 0.5}]), "the model")
    for name in layers:
        part, _, layer = name.partition(".")
        change = found[f"{name}.lora_B.weight"] @ found[f"{name}.lora_A.weight"]
        torch.testing.assert_close(getattr(pipe, part).get_submodule(layer).weight, before[name] + 0.5 * change)
    assert {name.partition(".")[0] for name in layers} == {"transformer", "text_encoder"}


def test_a_file_that_was_changed_since_the_images_were_named_is_refused(sd15, matrices, tmp_path):
    path = saved(attention(matrices), tmp_path / "it.safetensors")
    given = resolve_loras([path])
    saved({name: 2 * tensor for name, tensor in attention(matrices).items()}, path)
    with pytest.raises(FigmentError, match=r"it\.safetensors was changed\. Start again"):
        merge(diffusers.DiffusionPipeline.from_pretrained(sd15), given, "the model")


def test_files_are_found_or_named(matrices, tmp_path, monkeypatch):
    one, two = (saved(attention(matrices), tmp_path / "several" / f"{n}.safetensors") for n in ("one", "two"))
    alone = saved(attention(matrices), tmp_path / "alone" / "it.safetensors")
    usual = saved(attention(matrices), tmp_path / "usual" / NAME)
    saved(attention(matrices), usual.with_name("another.safetensors"))
    for given, found in (
        (one, one),
        (alone.parent, alone),
        (usual.parent, usual),
        (LoraSettings(lora=str(two.parent), weight_name="two.safetensors"), two),
    ):
        assert resolve_loras([given])[0].path == found.resolve()
    (tmp_path / "it.bin").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for given, said in (
        (one.parent, r"no single file: it has one\.safetensors, two\.safetensors\. Set weight_name"),
        ({"lora": str(one.parent), "weight_name": "three.safetensors"}, "has no three.safetensors: it has one"),
        (tmp_path / "empty", "no .safetensors file is there"),
        (tmp_path / "none", "There is no LoRA"),
        (tmp_path / "it.bin", "Pickles can run code"),
        ("owner/name", "is not on this machine"),
    ):
        with pytest.raises(FigmentError, match=said):
            resolve_loras([given])
    for name in ("it.bin", "a/it.safetensors"):
        with pytest.raises(ValidationError, match="name of a .safetensors file"):
            LoraSettings(lora="a", weight_name=name)
    monkeypatch.setattr("figment.generate.loras.importlib.util.find_spec", lambda name: None)
    with pytest.raises(FigmentError, match=r"pip install 'figment-vision\[finetune\]'"):
        resolve_loras([one])


def test_images_depend_on_its_bytes_and_its_scale_and_not_on_its_place(sd15, photos, matrices, tmp_path):
    a, b = (saved(attention(matrices), tmp_path / f"{n}.safetensors") for n in "ab")
    c = saved(matrices, tmp_path / "c.safetensors")
    made = lambda *loras: DiffusersGenerator(model=str(sd15), loras=loras, **SAMPLING)
    assert made(a).fingerprint == made(b).fingerprint and made(a).model_fingerprint == made(b).model_fingerprint
    different = [made(), made(a), made(c), made({"lora": str(a), "scale": 0.5}), made(a, c), made(c, a)]
    assert len({g.fingerprint for g in different}) == len({g.model_fingerprint for g in different}) == 6
    images = open_images(photos / "train", ["red thing", "green thing", "blue thing"])
    full = Finetuning(made(a), images, ("a", "b", "c"), FinetuneSettings(method="full", steps=200), tmp_path)
    with pytest.raises(FigmentError, match=r"generate\.loras change it"):
        full.check()


@pytest.mark.parametrize(
    "changes",
    [
        {"generate.denoiser": "a"},
        {"generate.loras": [{"lora": "a"}]},
        {"generate.finetune": {"contexts": "a.csv"}},
        {"prompts": {"kind": "contexts", "contexts": "a.csv"}},
    ],
)
def test_runs_of_a_study_share_no_images_where_places_differ(changes):
    """Their fingerprints are known only when what lies there is opened, which comes later."""
    own = validate({"task": {"class_names": ["a", "b"]}, "generate": {}}, "it")
    other = {key: "b.csv" if value == "a.csv" else "b" for key, value in changes.items() if isinstance(value, str)}
    assert len(
        {images_key(own), images_key(own.changed(changes)), *(images_key(own.changed(other)) for _ in other)}
    ) == (3 if other else 2)


@pytest.mark.parametrize(
    ("change", "same"), [({"task.real.val": "w"}, False), ({"encoder": "e"}, False), ({"filters": []}, True)]
)
def test_runs_of_a_study_share_no_images_where_weights_are_chosen_by_others(change, same):
    task = {"class_names": ["a", "b"], "real": {"train": "t", "val": "v"}}
    own = validate({"task": task, "generate": {"finetune": {"validate_steps": 5}}}, "it")
    last = own.changed({"generate.finetune.validate_steps": None})
    assert (images_key(own) == images_key(own.changed(change))) is same
    assert images_key(last) == images_key(last.changed(change))
