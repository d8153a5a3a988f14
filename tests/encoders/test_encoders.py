"""Encoders of both libraries: what they see, what can be done with their towers, and what they are saved as."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import tiny
from figment.encoders import ClipEncoder, Features, OpenClipEncoder, class_prototypes, open_encoder
from figment.errors import FigmentError
from figment.images_in import open_images
from figment.learners.clip_head.coop import coop
from figment.starter import folder as starter_folder
from figment.task import load_task

TEXTS = ["a photo of a red thing", "green", "a blue thing, " * 40]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, clip) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("open_clip")
    return {
        "clip": clip,
        "resnet": tiny.open_clip_folder(root / "resnet", "resnet", own_tokenizer=True),
        "vit": tiny.open_clip_folder(root / "vit", "vit", own_tokenizer=False),
    }


@pytest.fixture(params=["clip", "resnet", "vit"])
def encoder(request, folders):
    return open_encoder(str(folders[request.param]), batch_size=3)


def images(n: int = 4) -> list[np.ndarray]:
    """Noise of many shapes, smaller and larger than the model's."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*rng.integers(20, 90, 2), 3), np.uint8) for _ in range(n)]


def unit(x: torch.Tensor) -> np.ndarray:
    return F.normalize(x.detach(), dim=-1).numpy()


# ---- the towers ------------------------------------------------------------------------------------------------------


def test_features_are_what_the_towers_say(encoder):
    decoded = images()
    pixels = encoder.pixels(decoded)
    assert pixels.shape == (4, 3, 32, 32) and pixels.dtype == torch.float32
    features = encoder.images(decoded)
    assert features.shape == (4, encoder.n_features) and features.dtype == np.float32
    assert features == pytest.approx(unit(encoder.image_tower(pixels)), abs=1e-6)
    assert encoder.texts(TEXTS) == pytest.approx(unit(encoder.text_tower(encoder.tokens(TEXTS))), abs=1e-6)
    assert np.abs(features[0] - features[1]).max() > 1e-3  # they do look at the images
    assert encoder.images([]).shape == (0, encoder.n_features)


def test_gradients_reach_both_towers_from_input_to_output(encoder):
    encoder.image_tower(encoder.pixels(images())).square().sum().backward()
    encoder.text_tower(encoder.tokens(TEXTS)).square().sum().backward()
    names = [name for name, _ in encoder.image_tower.named_parameters()]
    parameters = list(encoder.image_tower.parameters())
    assert len(parameters) == len(names) == len(set(map(id, parameters))) and "proj" in names[-1]
    assert parameters[0].grad is not None and parameters[-1].grad is not None
    assert encoder.token_embedding.weight.grad is not None
    assert not any(p is encoder.token_embedding.weight for p in parameters)


def test_a_copy_is_independent(encoder):
    decoded, other = images(), copy.deepcopy(encoder)
    before = encoder.images(decoded)
    with torch.no_grad():
        for parameter in other.image_tower.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    assert np.abs(other.images(decoded) - before).max() > 1e-3
    assert np.array_equal(encoder.images(decoded), before)
    assert np.array_equal(other.texts(TEXTS), encoder.texts(TEXTS))


def test_what_is_saved_opens_again(encoder, tmp_path):
    with torch.no_grad():
        list(encoder.image_tower.parameters())[-1].mul_(1.5)
        encoder.token_embedding.weight.mul_(1.5)
    encoder.save(tmp_path / "tuned")
    again = open_encoder(str(tmp_path / "tuned"))
    assert type(again) is type(encoder) and again.fingerprint != encoder.fingerprint
    assert again.logit_scale == encoder.logit_scale
    assert again.images(images()) == pytest.approx(encoder.images(images()), abs=1e-6)
    assert again.texts(TEXTS) == pytest.approx(encoder.texts(TEXTS), abs=1e-6)


def test_texts_that_are_cut_are_counted(encoder):
    assert encoder.count_cut(TEXTS) == 1 and encoder.count_cut([]) == 0


def test_coop_learns_with_every_kind(encoder):
    y = np.repeat(np.arange(3), 4)
    x = np.eye(3, encoder.n_features, dtype=np.float32)[y]
    names = ["red thing", "green thing", "blue thing"]
    loss = lambda head: F.cross_entropy(torch.tensor(head.predict(x)), torch.tensor(y)).item()
    little, much = (coop(encoder, names, x, y, seed=0, n_context=4, epochs=epochs) for epochs in (1, 30))
    assert loss(much) < 0.5 * loss(little)


def test_coop_says_which_tokenizers_it_cannot_use(folders):
    encoder = open_encoder(str(folders["clip"]))
    encoder.tokens = lambda texts: ClipEncoder.tokens(encoder, texts)[:, 1:]  # no start token
    with pytest.raises(FigmentError, match="CoOp cannot put 4 learnt vectors.*start token"):
        coop(encoder, ["a", "b"], np.eye(2, 32), np.arange(2), seed=0, n_context=4)
    with pytest.raises(FigmentError, match="CoOp cannot put 90 learnt vectors"):
        coop(open_encoder(str(folders["clip"])), ["a", "b"], np.eye(2, 32), np.arange(2), seed=0, n_context=90)


# ---- class names that are read alike ----------------------------------------------------------------------------------


@pytest.mark.parametrize("eos", [2, 9, 400])
def test_a_clip_that_reads_all_class_names_alike_is_an_error(folders, tmp_path, eos):
    """Its end token is one that its tokenizer never writes, so the text tower stops at the first token."""
    folder = shutil.copytree(folders["clip"], tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = eos
    (folder / "config.json").write_text(json.dumps(config))
    encoder = open_encoder(str(folder))
    if eos == 2:  # OpenAI's own configurations say so, and mean the greatest token
        assert class_prototypes(encoder, ["red", "green"], ["a {}"]).shape == (2, 32)
        return
    with pytest.raises(FigmentError, match=f"The encoder {folder} reads all class names alike.*eos_token_id"):
        class_prototypes(encoder, ["red", "green", "blue"], ["a photo of a {}", "a {}"])


@pytest.mark.parametrize(("first", "second"), [("Turkey", "turkey"), ("x" * 90, "x" * 91)], ids=["case", "too long"])
def test_two_class_names_that_are_read_alike_are_named(folders, first, second):
    with pytest.raises(FigmentError, match=f"reads the class names '{first}' and '{second}' alike"):
        class_prototypes(open_encoder(str(folders["clip"])), [first, "green", second], ["a {}"])


# ---- open_clip -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("vision", ["resnet", "vit"])
@pytest.mark.parametrize(
    "preprocess",
    [{}, {"interpolation": "bilinear", "resize_mode": "squash"}, {"resize_mode": "longest", "fill_color": 128}],
    ids=["shortest", "squash", "longest"],
)
def test_features_are_open_clips_own(tmp_path, vision, preprocess):
    folder = tiny.open_clip_folder(tmp_path / "model", vision, own_tokenizer=vision == "resnet", **preprocess)
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer, decoded = open_clip.get_tokenizer(f"local-dir:{folder}"), images()
    encoder = OpenClipEncoder(str(folder))
    with torch.no_grad():
        theirs.eval()
        seen = theirs.encode_image(torch.stack([transform(Image.fromarray(i)) for i in decoded]), normalize=True)
        read = theirs.encode_text(tokenizer(TEXTS), normalize=True)
    assert encoder.images(decoded) == pytest.approx(seen.numpy(), abs=1e-5)
    assert encoder.texts(TEXTS) == pytest.approx(read.numpy(), abs=1e-5)
    assert encoder.logit_scale == pytest.approx(theirs.logit_scale.exp().item())


def test_what_is_saved_is_open_clips(folders, tmp_path):
    encoder = OpenClipEncoder(str(folders["vit"]))
    encoder.save(tmp_path / "saved")
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'saved'}").eval()
    with torch.no_grad():
        seen = theirs.encode_image(encoder.pixels(images()), normalize=True)
    assert encoder.images(images()) == pytest.approx(seen.numpy(), abs=1e-6)


def test_batchnorm_keeps_float32(folders):
    decoded = images()
    half, whole = (open_encoder(str(folders["resnet"]), dtype=dtype) for dtype in ("bfloat16", "float32"))
    assert half.dtype == torch.bfloat16 and half.image_tower.visual.conv1.weight.dtype == torch.bfloat16
    norms, same = ([m for m in e.image_tower.modules() if isinstance(m, nn.BatchNorm2d)] for e in (half, whole))
    assert norms and all(torch.equal(a.running_var, b.running_var) for a, b in zip(norms, same, strict=True))
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(norms, same, strict=True))
    cosines = (half.images(decoded) * whole.images(decoded)).sum(1)
    assert cosines == pytest.approx(1, abs=0.01)


def test_the_files_say_which_library(folders, tmp_path):
    both = tmp_path / "both"
    tiny.clip(both)
    for file in folders["vit"].iterdir():
        (both / file.name).write_bytes(file.read_bytes())
    assert isinstance(open_encoder(str(both)), ClipEncoder)
    (both / "config.json").write_text(
        json.dumps({"architecture": "resnet50_clip"})
    )  # timm's, for its image tower alone
    assert isinstance(open_encoder(str(both)), OpenClipEncoder)
    (both / "open_clip_config.json").unlink()
    with pytest.raises(
        FigmentError, match="holds a network of timm, which sees images and reads no words[.].*needs a CLIP"
    ):
        open_encoder(str(both))


def without(name: str):
    return lambda folder: (folder / name).unlink()


def changed(**text_cfg):
    def change(folder: Path) -> None:
        config = json.loads((folder / "open_clip_config.json").read_text())
        config["model_cfg"]["text_cfg"].update(text_cfg)
        (folder / "open_clip_config.json").write_text(json.dumps(config))

    return change


def pickled(folder: Path) -> None:
    weights = folder / "open_clip_model.safetensors"
    torch.save(load_file(weights), folder / "open_clip_pytorch_model.bin")
    weights.rename(folder / "model.safetensors")  # timm's name for an image tower: never taken for the whole


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (changed(width=48), "cannot be opened by open_clip"),
        (changed(widht=32), "cannot be opened by open_clip.*widht"),
        (changed(hf_model_name="xlm-roberta-base"), "xlm-roberta-base, which does not lie in its folder"),
        (lambda f: (f / "open_clip_config.json").write_text("{}"), "no open_clip_config.json with a model_cfg"),
        (lambda f: (f / "open_clip_config.json").write_text("[1"), "no open_clip_config.json with a model_cfg"),
        (lambda f: (f / "open_clip_model.safetensors").write_bytes(b"x" * 99), "cannot be opened by open_clip"),
        (without("tokenizer.json"), "no tokenizer beside its weights"),
        (pickled, "no open_clip_model.safetensors.*allow_pickle"),
    ],
    ids=["shapes", "a key", "text tower", "empty", "no json", "weights", "tokenizer", "pickle"],
)
def test_damaged_models_get_a_clear_answer(folders, tmp_path, damage, message):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in folders["resnet"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    damage(folder)
    with pytest.raises(FigmentError, match=message) as caught:
        open_encoder(str(folder))
    assert "\n" not in str(caught.value)


def test_pickles_open_where_they_are_trusted(folders, tmp_path):
    folder = tiny.open_clip_folder(tmp_path / "model", "resnet", own_tokenizer=True)
    pickled(folder)
    trusted = open_encoder(str(folder), allow_pickle=True)
    assert np.array_equal(trusted.texts(TEXTS), open_encoder(str(folders["resnet"])).texts(TEXTS))


def test_the_missing_library_is_named(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(FigmentError, match=r"pip install 'figment-vision\[open_clip\]'"):
        open_encoder(str(folders["resnet"]))


# ---- the starter's -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_starter_has_a_clip_with_batchnorm():
    encoder, task = open_encoder("starter/clip_rn"), load_task("fashion")
    assert sum(isinstance(m, nn.BatchNorm2d) for m in encoder.image_tower.modules()) > 10
    pool = open_images(starter_folder("pool"), task.class_names).take(range(300))
    prototypes = encoder.texts([f"a photo of a {name}" for name in task.class_names])
    features = encoder.images(pool.load(range(len(pool))))
    assert ((features @ prototypes.T).argmax(1) == pool.labels).mean() > 0.6


def test_features_of_a_folder_that_serves_many_tasks_are_found_again(photos, clip, tmp_path):
    train = open_images(photos / "train", ["red thing", "green thing", "blue thing"])
    first = Features(open_encoder(str(clip)), tmp_path, chunk=5)
    everything = first(train)
    again = Features(open_encoder(str(clip)), tmp_path)
    again.encoder.images = None  # type: ignore[method-assign,assignment]  # nothing is encoded a second time
    assert np.array_equal(again(train.take([7, 2])), everything[[7, 2]])
    assert np.array_equal(again(train), everything)


# ---- memory that runs out --------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A tower in too small a memory: more than ``most`` at a time do not fit."""

    def __init__(self, tower: nn.Module, most: int, error: Exception):
        super().__init__()
        self.tower, self.most, self.error, self.tried = tower, most, error, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.tried.append(len(x))
        if len(x) > self.most:
            raise self.error
        return self.tower(x)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_batches_are_halved_until_they_fit_and_features_stay_the_same(clip, error):
    encoder = ClipEncoder(str(clip), "cpu", batch_size=8)
    decoded, texts = images(9), [f"a photo of thing {i}" for i in range(9)]
    expected = encoder.images(decoded), encoder.texts(texts)
    encoder.image_tower = tower = Small(encoder.image_tower, 2, error)
    assert encoder.images(decoded) == pytest.approx(expected[0], abs=1e-6)
    assert tower.tried == [8, 4, 2, 2, 2, 2, 1] and encoder.batch_size == 2
    encoder.images(decoded)
    assert tower.tried[7:] == [2, 2, 2, 2, 1]  # it remembers
    encoder.batch_size, encoder.text_tower = 8, Small(encoder.text_tower, 3, error)
    assert encoder.texts(texts) == pytest.approx(expected[1], abs=1e-6) and encoder.batch_size == 2


def test_one_image_that_does_not_fit_is_said(clip):
    encoder = ClipEncoder(str(clip), "cpu", batch_size=4)
    encoder.image_tower = Small(encoder.image_tower, 0, RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"))
    with pytest.raises(FigmentError, match=r"looked at an image alone, in float32 on cpu .*Choose a smaller encoder"):
        encoder.images(images(3))
    assert encoder.batch_size == 4
    encoder.image_tower.error = RuntimeError("shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="multiplied"):
        encoder.images(images(3))
