"""What a run trained, in the formats of others: each opened by its owner's library, by the lines that its card shows."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import hubs
import tiny
from colours import NAMES, coloured
from figment.cli import app
from figment.encoders import open_encoder
from figment.encoders.timm import open_timm
from figment.errors import FigmentError
from figment.exports.models import export as export_module
from figment.exports.models import onnx, safetensors, timm, transformers
from figment.exports.models.card import IMPORTS, _licensed
from figment.exports.models.export import compare, export_model, formats
from figment.learners.clip_head.head import Head, HeadCard
from figment.learners.network.architectures import make
from figment.learners.network.model import NetworkModel
from figment.learners.network.settings import NetworkSettings
from figment.learners.saved import Saved, SavedHead, SavedNetwork, open_saved
from figment.report.backbone_card import NOT_STATED
from figment.trained import open_trained, softmax

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
FORMATS = {"onnx", "safetensors", "timm", "transformers"}
#: Case -> the formats that hold it, beside ONNX and safetensors, which hold all.
ALSO = {
    "clip": {"transformers"},
    "open_clip": set(),
    "on timm": {"timm"},
    "network": {"timm", "transformers"},
    "resnet": {"timm", "transformers"},
    "probed": {"timm", "transformers"},
    "small_cnn": set(),
}


def head_on(encoder) -> SavedHead:
    """At random, and never quite sure: that all weights arrived can be told from its probabilities."""
    torch.manual_seed(0)
    head = Head(encoder.n_features, len(NAMES))
    torch.nn.init.normal_(head.linear.weight, std=2)
    typical = head.predict(encoder.images(coloured(9).images)).mean(0)
    return SavedHead(encoder, head.shifted(-typical), HeadCard(tuple(NAMES), (), "", encoder.fingerprint))


def network(architecture: str, **changed) -> NetworkModel:
    torch.manual_seed(0)
    made = make(NetworkSettings(**{"architecture": architecture, "image_size": 32, **changed}), len(NAMES))
    for module in made.module.modules():  # as after training: with other statistics than 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    return NetworkModel(replace(made, module=made.module.eval()), NAMES)


def probed() -> SavedNetwork:
    model = network("test_resnet")
    width = model.network.module.num_features
    model.network.module.reset_classifier(0)
    bare = replace(model.network, args={**model.network.args, "num_classes": 0})
    saved = SavedNetwork(
        NetworkModel(bare, NAMES), {"weight": 0.3 * torch.randn(len(NAMES), width), "bias": torch.zeros(3)}
    )
    typical = torch.from_numpy(saved.logits(coloured(9).images).mean(0))
    return replace(saved, probe={**saved.probe, "bias": -typical})


@pytest.fixture(scope="module")
def cases(tmp_path_factory, clip) -> dict[str, Saved]:
    tmp = tmp_path_factory.mktemp("cases")
    vit = network("test_vit", options={"patch_size": 8})
    vit.save(tmp / "vit")
    return {
        "clip": head_on(open_encoder(str(clip), "cpu", "float32")),
        "open_clip": head_on(
            open_encoder(str(tiny.open_clip_folder(tmp / "rn", "resnet", own_tokenizer=False)), "cpu", "float32")
        ),
        "on timm": head_on(open_timm(str(tmp / "vit"), "cpu", "float32")),
        "network": SavedNetwork(vit),
        "resnet": SavedNetwork(network("test_resnet", image_size=40, crop_pct=0.8)),
        "probed": probed(),
        "small_cnn": SavedNetwork(network("small_cnn", crop_pct=0.8)),
    }


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [(50, 71, 3), (90, 33, 3), (32, 32, 3), (17, 40, 3)]
    return [*coloured(5).images, *(rng.integers(0, 256, shape, np.uint8) for shape in shapes)]


def needs(to: str) -> None:
    if to == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")


def by_the_lines(classify: Callable, folder: Path, monkeypatch) -> Callable:
    """The function that the card shows, from its source, where there is no figment."""
    names: dict = {}
    exec(IMPORTS + inspect.getsource(classify), names)
    for module in [name for name in sys.modules if name.partition(".")[0] == "figment"]:
        monkeypatch.setitem(sys.modules, module, None)
    return names[classify.__name__]


def check(saved: Saved, to: str, images: list[np.ndarray], folder: Path, monkeypatch) -> None:
    needs(to)
    portable = saved.elsewhere()
    classify = formats()[to](folder, portable)
    agreement = compare(saved, portable, lambda some: classify(str(folder), some), images)
    resized_by_others = to == "onnx" and portable.library == "transformers"
    assert agreement.resized < (1e-2 if resized_by_others else 1e-5)
    own = softmax(saved.logits(images))
    assert own[0].max() < 0.95 and own.std(0).max() > 1e-3  # else anything would agree
    lines = len(inspect.getsource(classify).strip().splitlines())
    assert lines <= 22, "the lines that open it are few"
    alone = by_the_lines(classify, folder, monkeypatch)
    for n in (1, 3):  # a batch is as large as it likes
        theirs = alone(str(folder), [Image.fromarray(image) for image in images[:n]])
        np.testing.assert_allclose(theirs, own[:n], atol=1e-2 if resized_by_others else 1e-5)


@pytest.mark.parametrize(
    ("case", "to"), [(case, to) for case, also in ALSO.items() for to in sorted(also | {"safetensors"})]
)
def test_its_owners_library_opens_it_without_figment(cases, images, case, to, tmp_path, monkeypatch):
    check(cases[case], to, images, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "case", ["small_cnn", *(pytest.param(c, marks=pytest.mark.slow) for c in ("clip", "open_clip"))]
)
def test_onnxruntime_opens_it_without_figment(cases, images, case, tmp_path, monkeypatch):
    check(cases[case], "onnx", images, tmp_path, monkeypatch)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = sys.modules["onnxruntime"].InferenceSession(tmp_path / "model.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", 32, 32, 3])
    assert [(out.name, out.shape) for out in session.get_outputs()] == [
        ("logits", ["batch", 3]),
        ("probabilities", ["batch", 3]),
    ]
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == NAMES


@pytest.mark.parametrize(
    ("case", "to"), [(case, to) for case, also in ALSO.items() for to in sorted({"timm", "transformers"} - also)]
)
def test_what_a_format_cannot_hold_is_refused_and_another_named(cases, case, to, tmp_path):
    with pytest.raises(FigmentError, match="safetensors or onnx"):
        formats()[to](tmp_path, cases[case].elsewhere())
    assert list(tmp_path.iterdir()) == []


def test_the_whole_clip_still_reads_words(cases, tmp_path):
    """What was exported is a CLIP to transformers' own pipeline too, with the class names that were not trained on."""
    from transformers import pipeline

    formats()["transformers"](tmp_path, cases["clip"].elsewhere())
    zero_shot = pipeline("zero-shot-image-classification", str(tmp_path))
    image = Image.fromarray(coloured(1).images[0])
    told = zero_shot(image, candidate_labels=NAMES)
    assert {one["label"] for one in told} == set(NAMES) and sum(one["score"] for one in told) == pytest.approx(1)


def test_transformers_names_the_classes_of_a_network(cases, tmp_path):
    from transformers import pipeline

    formats()["transformers"](tmp_path, cases["network"].elsewhere())
    told = pipeline("image-classification", str(tmp_path))(Image.fromarray(coloured(1).images[0]))
    assert {one["label"] for one in told} == set(NAMES)


# ---- what is compared ------------------------------------------------------------------------------------------------


class Sure:
    """Says of every image the same, and is sure of it."""

    class_names = NAMES

    def logits(self, images):
        return np.tile(np.float32([60, 0, -60]), (len(images), 1))


@pytest.mark.parametrize(
    ("theirs", "agrees"),
    [
        ([60, 0, -60], True),
        ([59.9, 0, -60], True),
        ([40, 0, -60], False),  # no probability differs, and its weights are others
        ([60, 0], False),
        ([np.nan] * 3, False),
    ],
)
def test_probabilities_and_their_logarithms_have_to_agree(cases, images, theirs, agrees):
    def classify(some):
        return softmax(np.tile(np.float64(theirs), (len(some), 1))).astype(np.float32)

    portable = cases["network"].elsewhere()
    if agrees:
        assert compare(Sure(), portable, classify, images).same_pixels < 1e-3
        return
    with pytest.raises(FigmentError, match="does not predict as figment does"):
        compare(Sure(), portable, classify, images)


def test_another_resize_alone_is_told_apart_from_other_weights(cases, images):
    """As where transformers' resize is not Pillow's: the pixels that need no resizing decide."""
    saved = cases["clip"]
    exact = [image.shape == (32, 32, 3) for image in images]

    def off_by(amount: float, everywhere: bool):
        def classify(some):
            own = softmax(saved.logits([np.asarray(image) for image in some]))
            off = np.array([everywhere or image.size != (32, 32) for image in some])
            own[off, 0] += amount
            return own.astype(np.float32)

        return classify

    assert any(exact) and not all(exact)
    agreement = compare(saved, saved.elsewhere(), off_by(0.01, False), images)
    assert agreement.same_pixels < 1e-6 and agreement.resized == pytest.approx(0.01, rel=1e-3)
    for amount, everywhere in ((0.01, True), (0.2, False)):
        with pytest.raises(FigmentError, match="does not predict"):
            compare(saved, saved.elsewhere(), off_by(amount, everywhere), images)


# ---- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_is_exported_with_a_card_and_once(fitted, tmp_path):
    out = tmp_path / "out"
    done = export_model(fitted, "safetensors", out)
    assert done.written and done.agreement.images == 12 and done.agreement.same_pixels < 1e-5
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {"model.safetensors", "README.md"}
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "- Starts from: " in card and "- Generator of the images: procedural" in card and "licence" in card
    assert re.search(r"\| \d+\.\d % \(\d+\.\d to \d+\.\d\) \| 36 real test images \|", card)
    assert all(name in card for name in NAMES) and "## Intended use" in card
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert not export_model(fitted, "safetensors", out).written
    assert {path: path.stat().st_mtime_ns for path in out.iterdir() if path.name != ".lock"} == before


def test_licences_are_those_of_the_cards(clip):
    assert _licensed("starter/clip") == ["starter/clip", "apache-2.0"]
    assert _licensed(str(clip)) == [clip.name, NOT_STATED] and _licensed("owner/of-nothing")[1] == NOT_STATED


def test_the_lines_of_the_card_run(fitted, tmp_path, monkeypatch):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["export", str(fitted), "--to", "transformers", "--out", str(out)])
    assert result.exit_code == 0 and "no probability differs by more than" in result.output, result.output
    photo = coloured(1, height=61, width=47).images[0]
    Image.fromarray(photo).save(out / "photo.jpg")
    seen = np.asarray(Image.open(out / "photo.jpg").convert("RGB"))
    (lines,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(out)
    names: dict = {}
    exec(lines, names)
    own = softmax(open_trained(fitted, "cpu", "float32").saved.logits([seen]))
    np.testing.assert_allclose(names["probabilities"], own, atol=1e-3)


def test_what_does_not_agree_is_not_written(fitted, tmp_path, monkeypatch):
    def wrong(out, portable):
        (out / "model").write_bytes(b"")
        return lambda folder, images: np.full((len(images), len(NAMES)), 1 / len(NAMES), np.float32)

    monkeypatch.setattr(export_module, "formats", lambda: {"safetensors": wrong})
    with pytest.raises(FigmentError, match="does not predict as figment does"):
        export_model(fitted, "safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_hub_gets_a_model_with_its_card_in_one_commit(fitted, tmp_path, monkeypatch):
    with hubs.taking(monkeypatch, [".gitattributes"]) as server:
        arguments = ["export", str(fitted), "--to", "safetensors", "--push", "me/pets"]
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and f"{server.server_port}/me/pets" in result.output, result.output
    ((asked, token),) = server.created
    assert (asked["organization"], asked["name"], asked.get("type", "model")) == ("me", "pets", "model")
    assert hubs.is_private(asked) and token == "Bearer hf_secret"
    (files,) = server.commits
    export_model(fitted, "safetensors", tmp_path / "out")
    assert files == {name: (tmp_path / "out" / name).read_bytes() for name in ("model.safetensors", "README.md")}
    assert b"pipeline_tag: image-classification" in files["README.md"]


def test_a_model_on_the_hub_is_never_written_over_nor_public_by_accident(fitted, monkeypatch):
    with hubs.taking(monkeypatch, ["model.safetensors"]) as server:
        with pytest.raises(FigmentError, match="The model me/pets holds files already, such as model.safetensors"):
            export_model(fitted, "safetensors", push="me/pets")
        server.holds, server.private = [], False
        with pytest.raises(FigmentError, match="The model me/pets is there, empty, and public"):
            export_model(fitted, "safetensors", push="me/pets")
        assert not server.commits
        export_model(fitted, "safetensors", push="me/pets", public=True)
        assert len(server.commits) == 1 and not hubs.is_private(server.created[-1][0])


def test_without_a_token_no_model_is_made_for_the_hub(fitted, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr(export_module, "open_trained", lambda *_: pytest.fail("opened"))
    with pytest.raises(FigmentError, match="token of the Hub that may write, and there is none here: hf auth login"):
        export_model(fitted, "safetensors", push="me/pets")


def test_a_folder_with_something_in_it_is_left_as_it_is(fitted, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FigmentError, match="not empty"):
        export_model(fitted, "safetensors", tmp_path)
    with pytest.raises(FigmentError):
        export_model(fitted, "safetensors", fitted / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "safetensors", "--all"], "are of images"),
        (["--to", "onx"], "Did you mean 'onnx'"),
        (["--to", "timm"], "Export it with --to transformers, safetensors or onnx"),
    ],
)
def test_what_cannot_be_is_told(fitted, arguments, said, tmp_path):
    result = CliRunner().invoke(app, ["export", str(fitted), *arguments, "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, FigmentError) and said in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(cases, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(FigmentError, match=r"pip install 'figment-vision\[onnx\]'"):
        formats()["onnx"](tmp_path, cases["small_cnn"].elsewhere())


def test_a_head_whose_encoder_changed_is_refused(cases, tmp_path):
    saved = cases["clip"]
    saved.head.save(tmp_path, replace(saved.card, encoder="starter/clip", encoder_fingerprint="another"))
    with pytest.raises(FigmentError, match="has other weights today"):
        open_saved(tmp_path, lambda _: saved.encoder, torch.device("cpu"))


def test_the_page_shows_the_lines_of_every_format():
    page, shown = DOCS.read_text(encoding="utf-8"), formats()
    assert shown.keys() == FORMATS
    functions = [
        *(onnx.classify, timm.classify, timm.with_head, transformers.classify, transformers.with_head),
        *(safetensors.of_transformers, safetensors.of_open_clip, safetensors.of_timm, safetensors.of_torch),
    ]
    assert [f.__name__ for f in functions if inspect.getsource(f).strip() not in page] == []
