"""A backbone by any name: its features are those that the library which wrote it gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf
from torch.nn import functional as F

from figment import FigmentError, judge_backbone, open_backbone
from figment.claims import RUN
from figment.encoders import TimmEncoder, open_encoder
from figment.judging.evaluations import EVALUATIONS
from figment.judging.pyramid import Pyramid
from figment.learners.network.model import NetworkModel
from figment.learners.pretrain.backbone import make_backbone
from pretrained import settings
from published import class_folders

ROOT = Path(__file__).parents[2]


def images(n: int = 5) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (n, 40, 32, 3), np.uint8))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a run that pre-trained a ViT with patches of 8 pixels."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    NetworkModel(make_backbone(settings("simclr"), None), ["a", "b"]).save(folder / "model")
    return folder


@pytest.fixture(scope="module")
def of_timm(tmp_path_factory) -> Path:
    """As timm itself saves a classifier for the Hub."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("timm")
    save_for_hf(timm.create_model("test_resnet", num_classes=7), folder, safe_serialization=True)
    return folder


def by_timm(module: torch.nn.Module) -> np.ndarray:
    transform = create_transform(**resolve_data_config({}, pretrained_cfg=module.pretrained_cfg), is_training=False)
    with torch.no_grad():
        return module.eval()(torch.stack([transform(Image.fromarray(i)) for i in images()])).numpy()


@pytest.mark.parametrize("name", ["{run}", "{run}/model", "local-dir:{run}/model", "{of_timm}", "local-dir:{of_timm}"])
def test_features_are_timms(name: str, run, of_timm):
    name = name.format(run=run, of_timm=of_timm)
    place = name.removeprefix("local-dir:")
    place = f"{place}/model" if place == str(run) else place
    theirs = by_timm(timm.create_model(f"local-dir:{place}", pretrained=True, num_classes=0))
    found = open_backbone(name, device="cpu")
    np.testing.assert_allclose(found.images(images()), theirs, atol=1e-5)
    assert not found.reads and found.n_features == theirs.shape[1]


def test_features_of_an_architecture_with_weights_from_a_file(tmp_path):
    torch.manual_seed(0)
    module = timm.create_model("test_resnet")
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    module.reset_classifier(0)
    found = open_backbone("test_resnet", tmp_path / "w.safetensors", device="cpu")
    np.testing.assert_allclose(found.images(images()), by_timm(module), atol=1e-5)


def test_a_clip_is_read_as_encoders_read_it(clip):
    found, encoder = open_backbone(str(clip), device="cpu"), open_encoder(str(clip), device="cpu")
    x = torch.from_numpy(found.images(images()))
    np.testing.assert_allclose(F.normalize(x, dim=-1).numpy(), encoder.images(images()), atol=1e-6)
    assert found.reads and (x.norm(dim=-1) - 1).abs().max() > 0.01
    np.testing.assert_array_equal(found.texts(["a cat"]), encoder.texts(["a cat"]))


@pytest.mark.parametrize("name", ["{run}", "{of_timm}"])
def test_its_maps_are_those_of_its_weights_and_learn_without_it(name: str, run, of_timm):
    found = open_backbone(name.format(run=run, of_timm=of_timm), device="cpu")
    pyramid = found.pyramid().eval()
    before = found.images(images())
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = pyramid(x)
        whole = pyramid.body.forward_features(x)
    assert [m.shape[1] for m in maps] == pyramid.channels
    sides = [64 // m.shape[2] for m in maps]
    assert sides == ([2, 4, 8, 16] if name == "{run}" else [4, 8, 16, 32])
    if not pyramid.is_plain:
        torch.testing.assert_close(maps[-1], whole)
    for p in pyramid.parameters():
        p.data += 1
    np.testing.assert_array_equal(found.images(images()), before)


@pytest.mark.parametrize(
    ("name", "on", "told"),
    [
        ("resnet50", "linear={photos}", "--weights FILE"),
        ("no/such/folder/here", "linear={photos}", "no model folder"),
        ("{photos}", "linear={photos}", "holds no model"),
        ("{run}", "no_such=x", "There is no evaluation 'no_such'"),
        ("{run}", "linaer=x", "Did you mean 'linear'"),
        ("{run}", "linear=", "names no data set"),
        ("{run}", "linear=nowhere", "There is no data set 'nowhere'"),
        ("{run}", "nowhere/a=b", "There is no data set 'nowhere/a=b'"),
        ("{run}", "linear={photos}/train", "has no folder train"),
        ("{run}", "linear=pets", "task.real.train and task.real.test"),
        ("{run}", "robustness={photos}", "robustness.train"),
        ("{run}", "few_shot={photos}", "few_shot.ways=3"),
        ("{run}", "fairface={photos}", "not laid out as FairFace"),
        ("{run}", "aro={photos}", "not laid out as ARO"),
        ("{run}", "detection={photos}", "not laid out as PASCAL VOC"),
        ("{run}", "segmentation={photos}", "not laid out as ADE20k"),
    ],
)
def test_what_cannot_be_judged_is_one_paragraph(name: str, on: str, told: str, run, photos, tmp_path):
    name, on = (text.format(run=run, photos=photos) for text in (name, on))
    with pytest.raises(FigmentError) as error:
        judge_backbone(open_backbone(name, device="cpu"), [on], tmp_path)
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", EVALUATIONS)
def test_the_page_has_every_evaluation(name: str):
    page, own = (ROOT / "docs" / "judge.md").read_text(encoding="utf-8"), EVALUATIONS[name]
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    file = row.rpartition("`")[0].rpartition("`")[2]
    assert (ROOT / "src" / "figment" / "judging" / file).is_file() and own.__module__.endswith(file.removesuffix(".py"))
    assert own.layout and own.protocol and own.paper


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("k=3", "EVALUATION.FIELD=VALUE"),
        ("knn.k", "EVALUATION.FIELD=VALUE"),
        ("few_shot.ways=3", "not among the evaluations"),
        ("knn.kk=3", "Did you mean 'k'"),
        ("knn.k=0", "knn.k: input should be greater than or equal to 1"),
        ("linear.k=3", "It has none"),
    ],
)
def test_a_wrong_setting_is_one_paragraph(change: str, told: str, run, photos, tmp_path):
    with pytest.raises(FigmentError) as error:
        judge_backbone(open_backbone(str(run), device="cpu"), [str(photos)], tmp_path, [change])
    assert told in str(error.value)


def test_a_network_without_maps_or_words_says_so(tmp_path, clip):
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    found = open_backbone("test_resnet", tmp_path / "w.safetensors", device="cpu")
    with pytest.raises(FigmentError, match="reads no words"):
        found.texts(["a cat"])
    found.encoder.image_tower.feature_info = []  # as architectures have it that timm makes without features_only
    with pytest.raises(FigmentError, match="maps of features"):
        found.pyramid()
    with pytest.raises(FigmentError, match="is a CLIP"):
        open_backbone(str(clip), device="cpu").pyramid()


def test_a_folder_may_not_say_where_else_weights_lie(run, tmp_path):
    """Options of a folder are the architecture's own: what would make timm open or fetch other files is left out."""
    from figment.files import read_json, write_json

    config = read_json(run / "model" / "config.json")
    config["model_args"] |= {"pretrained": True, "checkpoint_path": "elsewhere.pth", "num_classes": 3}
    write_json(tmp_path / "config.json", config)
    (tmp_path / "model.safetensors").write_bytes((run / "model" / "model.safetensors").read_bytes())
    found, own = open_backbone(str(tmp_path), device="cpu"), open_backbone(str(run), device="cpu")
    np.testing.assert_array_equal(found.images(images()), own.images(images()))
    assert found.fingerprint == own.fingerprint


VIT = {"depth": 1, "embed_dim": 24, "num_heads": 3, "img_size": 56}
SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "img_size": 56}


@pytest.mark.parametrize(
    ("architecture", "options", "strides"),
    [
        ("test_efficientnet", {}, [4, 8, 16, 32]),
        ("test_nfnet", {}, [4, 8, 16, 32]),
        ("swin_tiny_patch4_window7_224", SWIN, [4, 8, 16, 32]),
        # torchvision takes strides for powers of two: patches of 14 pixels count as 16.
        ("eva02_tiny_patch14_224", {"depth": 2, "img_size": 56}, [4, 8, 16, 32]),
        ("vit_tiny_patch16_224", {**VIT, "patch_size": 14}, [4, 8, 16, 32]),
        ("test_maxvit", {}, []),
    ],
)
def test_maps_of_all_kinds_of_networks_or_a_paragraph(architecture: str, options: dict, strides: list[int], tmp_path):
    """MaxViT's windows must fit an image."""
    torch.manual_seed(0)
    save_file(timm.create_model(architecture, num_classes=0, **options).state_dict(), tmp_path / "w.safetensors")
    encoder = TimmEncoder(architecture, tmp_path / "w.safetensors", device="cpu", options=options)
    if not strides:
        with pytest.raises(FigmentError, match="maps of features for images of any size"):
            Pyramid(encoder)
        return
    pyramid = Pyramid(encoder).eval()
    with torch.no_grad():
        maps = pyramid(torch.zeros(1, 3, 96, 160))
    assert [(96 / m.shape[2], 160 / m.shape[3]) for m in maps] == [(s, s) for s in strides]
    assert [m.shape[1] for m in maps] == pyramid.channels


def test_features_beyond_half_precision_are_not_passed_on(tmp_path):
    torch.manual_seed(0)
    module = timm.create_model("test_resnet")
    for p in module.parameters():
        p.data *= 30
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    half = open_backbone("test_resnet", tmp_path / "w.safetensors", device="cpu", dtype="float16")
    with pytest.raises(FigmentError, match="in float16.*--dtype float32"):
        half.images(images())
    assert np.isfinite(open_backbone("test_resnet", tmp_path / "w.safetensors", device="cpu").images(images())).all()


def test_other_weights_of_an_architecture_are_judged_in_another_folder():
    from figment.cli.judged import _judged_folder

    folders = {_judged_folder("resnet50", weights) for weights in (None, Path("a.pth"), Path("b.pth"))}
    assert len(folders) == 3 and _judged_folder("runs/pets", None) == Path("runs/judge-runs-pets")


def test_files_of_others_are_left_alone(run, photos, tmp_path):
    (tmp_path / "judge.json").write_text("mine")
    with pytest.raises(FigmentError, match="did not make there"):
        judge_backbone(open_backbone(str(run), device="cpu"), [f"knn={photos}"], tmp_path)
    assert (tmp_path / "judge.json").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(FigmentError, match="lies in"):
        (run / ".figment").write_bytes(RUN.mark)
        judge_backbone(open_backbone(str(run), device="cpu"), [f"knn={photos}"], run / "model" / "judged")


def test_the_command_prints_a_table_and_writes_all_of_it(run, tmp_path, monkeypatch):
    import json

    from test_cli import figment

    monkeypatch.setattr("figment.probe.MIN_STEPS", 100)
    root = tmp_path / "photos"
    for split in ("train", "val"):
        class_folders(
            root / split, {"red": [(230 - i, 20, 20) for i in range(6)], "blue": [(20, 20, 230 - i) for i in range(6)]}
        )
    done = figment("judge", run, "--on", root, "--on", f"few_shot={root}", "--set", "few_shot.ways=2", "--out", tmp_path / "out", "--set", "few_shot.episodes=4", "--device", "cpu")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert [r["evaluation"] for r in told["results"]] == ["linear", "knn", "few_shot"]
    assert all(r["backbone"]["features"] == 64 and r["seconds"] >= 0 and r["paper"] for r in told["results"])
    assert told["results"][2]["settings"] == {"ways": 2, "shots": 5, "queries": 15, "episodes": 4}
    assert "with BatchNorm" in done.stdout and "100.0 %" in done.stdout and "judge.html" in done.stdout
