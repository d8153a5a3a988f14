"""Encoders that read no words: timm's with weights from a file, and FID's Inception network."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from figment import measures
from figment.context import Context
from figment.encoders import Features, InceptionEncoder, TimmEncoder, identity, inception, open_encoder, raw
from figment.encoders.timm import open_timm
from figment.errors import FigmentError
from figment.layout import Run
from figment.learners.network.architectures import make
from figment.learners.network.model import NetworkModel
from figment.learners.network.settings import NetworkSettings
from figment.learners.pretrain.backbone import make_backbone
from figment.learners.pretrain.settings import SimCLRSettings
from figment.recipe import load_recipe, validate
from trials import colours

NETWORK = "test_efficientnet"  # timm's own, of 4 layers


def images(n: int, *sides: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (sides[i % len(sides)], sides[-1], 3), np.uint8) for i in range(n)]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(NETWORK).eval()


@pytest.fixture
def state(network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def saved(folder: Path, state: dict, name: str) -> Path:
    path = folder / name
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path


def headless(state: dict) -> dict:
    return {name: t for name, t in state.items() if not name.startswith("classifier")}


def renamed(state: dict) -> dict:
    """As a network ported from elsewhere: other names, the same order."""
    return {f"layer{i}.{name.rpartition('.')[2]}": t for i, (name, t) in enumerate(state.items())}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt"])
@pytest.mark.parametrize("change", [dict, headless])
def test_features_are_what_the_network_gives_its_classifier(network, state, tmp_path, name, change):
    encoder = TimmEncoder(NETWORK, saved(tmp_path, change(state), name), batch_size=3)
    decoded = images(4, 20, 300, 7)
    with torch.inference_mode():
        expected = F.normalize(
            network.forward_head(network.forward_features(encoder.pixels(decoded)), pre_logits=True), dim=1
        )
    features = encoder.images(decoded)
    assert features == pytest.approx(expected.numpy(), abs=1e-6) and features.shape == (4, encoder.n_features)
    assert np.abs(features[0] - features[1]).max() > 1e-4 and encoder.images([]).shape == (0, encoder.n_features)


def test_images_are_prepared_as_timm_says(state, tmp_path):
    encoder = TimmEncoder(NETWORK, saved(tmp_path, state, "w.pth"))
    (image,) = images(1, 90, 200)
    config = timm.data.resolve_data_config({}, model=timm.create_model(NETWORK))
    expected = timm.data.create_transform(**config, is_training=False)(Image.fromarray(image))
    assert torch.equal(encoder.pixels([image])[0], expected)
    told = identity(encoder)
    assert (
        told["encoder"] == f"timm/{NETWORK}" and told["dtype"] == "float32" and told["weights"] == encoder.fingerprint
    )
    assert told["resize"].startswith(f"{config['input_size'][-1]} bicubic, crop")


def test_weights_with_other_names_are_taken_in_order_where_every_shape_agrees(state, tmp_path):
    own = TimmEncoder(NETWORK, saved(tmp_path, state, "own.pth"))
    for name, change in (("all.pth", state), ("headless.pth", headless(state))):
        ported = TimmEncoder(NETWORK, saved(tmp_path, renamed(change), name))
        assert np.array_equal(ported.images(images(2, 40)), own.images(images(2, 40)))
        assert ported.fingerprint != own.fingerprint  # of other bytes


def without_one(state: dict) -> dict:
    return {name: t for name, t in state.items() if name != "conv_stem.weight"}


def with_another_shape(state: dict) -> dict:
    return {**state, "conv_stem.weight": torch.zeros(3, 3, 3, 3)}


def with_nan(state: dict) -> dict:
    return {**state, "conv_stem.weight": torch.full_like(state["conv_stem.weight"], torch.nan)}


def reordered(state: dict) -> dict:
    return dict(reversed(renamed(state).items()))


def bias_first(state: dict) -> dict:
    """A port whose norms have their bias before their weight: every shape agrees."""
    ends = {"weight": 0, "bias": -1}
    layers = {name.rpartition(".")[0]: {} for name in state}
    for name, tensor in state.items():
        layers[name.rpartition(".")[0]][name.rpartition(".")[2]] = tensor
    return {
        f"net.{layer}.{end}": own[end]
        for layer, own in layers.items()
        for end in sorted(own, key=lambda end: ends.get(end, 1) if "running_mean" in own else 0)
    }


def with_more(state: dict) -> dict:
    return {**renamed(state), **{f"more{i}": torch.zeros(1) for i in range(3)}}


def inside(state: dict) -> dict:
    return {"state_dict": state, "epoch": 3}


def with_code(state: dict) -> argparse.Namespace:
    return argparse.Namespace(**{"a": 1})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_one, "1 are missing.*conv_stem.weight"),
        (with_another_shape, r"1 have another shape \(conv_stem.weight \(3, 3, 3, 3\) for"),
        (with_nan, "1 hold NaN or infinity"),
        (reordered, "are missing"),
        (bias_first, "are missing"),
        (with_more, "are missing"),
        (inside, "other things than tensors.*state_dict"),
        (with_code, "cannot be read.*torch.save"),
    ],
)
def test_weights_that_are_not_its_own_are_refused(state, tmp_path, change, said):
    with pytest.raises(FigmentError, match=said):
        TimmEncoder(NETWORK, saved(tmp_path, change(state), "w.pth"))


def test_what_is_not_there_is_refused(state, tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights")
    for architecture, path, said in (
        ("test_eficientnet", "w.pth", "no architecture 'test_eficientnet'. Did you mean 'test_efficientnet'"),
        (NETWORK, "absent.pth", "absent.pth: there is no such file"),
        (NETWORK, "text.safetensors", "cannot be read"),
    ):
        with pytest.raises(FigmentError, match=said):
            TimmEncoder(architecture, tmp_path / path)


def test_features_of_half_precision_are_not_taken_for_whole_ones(state, tmp_path):
    """As where a run began on a GPU and is measured again without one: the results name the precision."""
    path, given = saved(tmp_path, state, "w.pth"), colours(1, 0)
    half, whole = (TimmEncoder(NETWORK, path, dtype=dtype) for dtype in ("bfloat16", "float32"))
    kept = Features(half, tmp_path)(given)
    assert not np.array_equal(Features(whole, tmp_path)(given), kept)
    assert np.array_equal(Features(half, tmp_path)(given), kept)
    assert {path.name for path in tmp_path.glob("timm-*")} == {
        f"timm-test-efficientnet-{whole.fingerprint[:12]}{end}" for end in ("", "-bfloat16")
    }


def test_raw_features_are_what_the_network_gives_and_are_kept_apart(network, state, tmp_path):
    encoder, given = TimmEncoder(NETWORK, saved(tmp_path, state, "w.pth")), colours(2, 0)
    pixels = encoder.pixels(given.load(range(len(given))))
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(pixels), pre_logits=True).numpy()
    unit, own = Features(encoder, tmp_path)(given), Features(raw(encoder), tmp_path)(given)
    assert own == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert raw(encoder).images(given.load(range(len(given)))) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert np.linalg.norm(unit, axis=1) == pytest.approx(1) and abs(np.linalg.norm(own[0]) - 1) > 0.1
    assert np.array_equal(Features(raw(encoder), tmp_path)(given), own)
    assert np.array_equal(Features(encoder, tmp_path)(given), unit)
    assert {path.name for path in tmp_path.glob("timm-*")} == {
        f"timm-test-efficientnet-{encoder.fingerprint[:12]}{end}" for end in ("", "-raw")
    }
    assert (identity(encoder)["features"], identity(raw(encoder))["features"]) == ("unit length", "raw")
    assert identity(encoder)["weights"] == identity(raw(encoder))["weights"]


def test_measures_may_look_with_another_encoder_than_the_recipes(state, tmp_path):
    saved(tmp_path, state, "w.pth")
    path = recipe_with(tmp_path, "starter/clip")
    path.write_text(path.read_text() + f"evaluate: {{encoder: {{timm: {NETWORK}, weights: w.pth}}}}\n")
    recipe = load_recipe(path)
    assert recipe.evaluate.encoder.weights == str(tmp_path / "w.pth") and recipe.looks_with == "starter/clip"
    ctx = Context(recipe, Run(tmp_path / "run"))
    unit, own = ctx.features(recipe.evaluate.encoder), ctx.features(recipe.evaluate.encoder, raw=True)
    assert unit.encoder.image_tower is own.encoder.image_tower and own is not unit  # one network in memory
    assert ctx.features(recipe.evaluate.encoder, raw=True) is own and own.folder.name == f"{unit.folder.name}-raw"


def recipe_with(folder: Path, encoder: str) -> Path:
    (folder / "recipe.yaml").write_text(
        f"task: {{class_names: [red, green]}}\ngenerate: {{kind: procedural}}\nencoder: {encoder}\n"
    )
    return folder / "recipe.yaml"


def test_a_recipe_names_it_and_filters_that_read_words_take_a_clip(state, tmp_path):
    saved(tmp_path, state, "w.pth")
    recipe = load_recipe(recipe_with(tmp_path, f"{{timm: {NETWORK}, weights: w.pth}}"))
    assert recipe.encoder.weights == str(tmp_path / "w.pth")  # from wherever figment is called
    assert (recipe.encoder_name, recipe.words_encoder) == (f"timm/{NETWORK}", "starter/clip")
    ctx = Context(validate(recipe.model_dump(mode="json"), "again"), Run(tmp_path / "run"))
    assert isinstance(ctx.features().encoder, TimmEncoder)
    assert recipe.filters[1].build(ctx).features.encoder.name == "starter/clip"
    with pytest.raises(FigmentError, match="reads no words.*starter/clip"):
        ctx.features().encoder.texts(["red"])


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("{timm: resnet18, weights: w.pth, size: 3}", "encoder.size: there is no such field"),
        ("3", r"encoder: input should be a valid string \(got '3'\)"),
        ("inception", "inception is FID's network.*fid, kid and inception_score"),
        ("starter/clip\nfilters: [{kind: centroid, model: inception}]", "inception is FID's network"),
    ],
)
def test_a_recipe_that_names_it_wrongly_is_told_where(tmp_path, encoder, said):
    with pytest.raises(FigmentError, match=said):
        load_recipe(recipe_with(tmp_path, encoder))


# ---- folders of timm's, as figment and timm write them ---------------------------------------------------------------


def a_network(folder: Path) -> torch.nn.Module:
    own = NetworkSettings(architecture="test_vit", image_size=32, options={"patch_size": 8})
    made = make(own, 3)
    NetworkModel(made, ["a", "b", "c"]).save(folder)
    return made.module


def a_backbone(folder: Path) -> torch.nn.Module:
    own = SimCLRSettings(backbone="test_vit", image_size=32, options={"patch_size": 8})
    made = make_backbone(own, None)
    NetworkModel(made, ["a", "b", "c"]).save(folder)
    return made.module


def of_timm(folder: Path) -> torch.nn.Module:
    module = timm.create_model(NETWORK, num_classes=4)
    timm.models.save_for_hf(module, folder, model_config={"num_classes": 4}, safe_serialization=True)
    return module


def of_old_timm(folder: Path) -> torch.nn.Module:
    """Architecture and preparation in one dict, the weights under another name."""
    module = of_timm(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"architecture": NETWORK, **config["pretrained_cfg"]}))
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    return module


@pytest.mark.parametrize("write", [a_network, a_backbone, of_timm, of_old_timm])
def test_a_folder_of_a_model_is_an_encoder(tmp_path, write):
    torch.manual_seed(1)
    module = write(tmp_path / "model").eval()
    encoder = open_timm(str(tmp_path / "model"))
    decoded = images(3, 40, 64)
    with torch.inference_mode():
        features = module.forward_head(module.forward_features(encoder.pixels(decoded)), pre_logits=True)
    assert encoder.images(decoded) == pytest.approx(F.normalize(features, dim=1).numpy(), abs=1e-5)
    assert encoder.pixels(decoded).shape[-1] == (32 if write in (a_network, a_backbone) else 160)
    torch.manual_seed(2)
    write(tmp_path / "other")
    assert open_timm(str(tmp_path / "other")).fingerprint != encoder.fingerprint


def of_another(config: dict) -> dict:
    return {**config, "architecture": "resnet18"}


def of_nobody(config: dict) -> dict:
    return {name: value for name, value in config.items() if name != "architecture"}


def of_no_architecture(config: dict) -> dict:
    return {**config, "architecture": "test_eficientnet"}


def prepared(**settings):
    return lambda config: {**config, "pretrained_cfg": {**config["pretrained_cfg"], **settings}}


def with_strange_arguments(config: dict) -> dict:
    return {**config, "model_args": {"patches": 3}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (of_another, "are missing"),
        (of_nobody, "its config.json names no architecture"),
        (of_no_architecture, "no architecture 'test_eficientnet'. Did you mean 'test_efficientnet'"),
        (with_strange_arguments, "timm cannot make test_efficientnet with the options {'patches': 3}"),
        (lambda config: [config], "its config.json names no architecture"),
        (lambda config: {**config, "model_args": ["patches"]}, "model_args of its config.json is"),
        (lambda config: {**config, "pretrained_cfg": "as usual"}, "pretrained_cfg of its config.json is 'as usual'"),
        (prepared(input_size=160), "timm cannot prepare images.*input_size"),
        (prepared(input_size=[3, 0, 0]), "timm cannot prepare images"),
        (prepared(mean="grey"), "timm cannot prepare images"),
        (prepared(interpolation="by eye"), "timm cannot prepare images.*KeyError"),
    ],
)
def test_a_folder_that_does_not_hold_what_it_says_is_refused(tmp_path, change, said):
    of_timm(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(change(json.loads(config.read_text()))))
    with pytest.raises(FigmentError, match=said):
        open_timm(str(tmp_path))


@pytest.mark.parametrize("name", [NETWORK, "resnet18"])
def test_an_architecture_alone_has_no_weights(name):
    with pytest.raises(FigmentError, match=rf"{name}}} names an architecture and no weights.*runs/NAME/model"):
        open_timm(name)


def test_a_backbone_is_what_images_alone_are_learnt_on(tmp_path):
    a_backbone(tmp_path / "model")
    (tmp_path / "recipe.yaml").write_text(
        "task: {class_names: [red, green]}\ngenerate: {kind: procedural}\ntrain: {kind: images_only, encoder: {timm: model}}\n"
        "arms: {another: {train.encoder: {timm: model}}}\n"
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    where = str(tmp_path / "model")
    assert recipe.train.encoder.timm == recipe.encoder_name == where and recipe.words_encoder == "starter/clip"
    assert recipe.arms["another"]["train.encoder"] == {"timm": where}
    assert not measures.starts_untrained(recipe) and "top1/zero_shot" not in measures.metrics(recipe)
    learner = recipe.train.build(Context(recipe, Run(tmp_path / "run")))
    assert learner.untrained() is None
    given = colours(4, 0)
    model = learner.learn(None, given.take(range(8)), 0)
    model.save(tmp_path / "head")
    assert json.loads((tmp_path / "head" / "head.json").read_text())["encoder"] == where
    with pytest.raises(FigmentError, match=rf"reads no words.*write encoder: {{timm: {where}}}"):
        open_encoder(where)


@pytest.mark.parametrize("kind", [{}, {"kind": "words_and_images"}, {"kind": "clip_head"}])
def test_a_learner_that_goes_by_words_wants_a_clip(kind):
    train = {**kind, "encoder": {"timm": "somewhere"}}
    with pytest.raises(FigmentError, match=r"train.encoder: a network of timm reads no words.*train.kind: images_only"):
        validate({"task": {"class_names": ["red", "green"]}, "train": train}, "it")


# ---- Inception -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory) -> Path:
    """Random weights in the file that the published ones would be, below a TORCH_HOME."""
    home = tmp_path_factory.mktemp("torch")
    path = home / "hub" / "checkpoints" / inception.FILE
    path.parent.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patch.setattr(torch, "load", lambda *args, **kwargs: {})
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path="none")
    torch.save({name: t.contiguous() for name, t in network.state_dict().items()}, path)
    return path


@pytest.fixture
def home(inception_weights, monkeypatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(inception_weights.parents[2]))
    return inception_weights


def test_weights_of_another_hash_are_refused(home):
    with pytest.raises(FigmentError, match="not the published ones.*6726825d.*fetch it again"):
        open_encoder("inception")
    task = {"class_names": ["red", "green"], "real": {"train": "somewhere"}}
    own = validate({"task": task, "evaluate": {"measures": ["kid"]}}, "test")
    with pytest.raises(FigmentError, match="not the published ones"):  # before an image is made, too
        measures.check(own, {})


def test_fids_network_without_torch_fidelity_is_refused_before_anything_is_spent(home, monkeypatch):
    monkeypatch.setattr(inception, "find_spec", lambda name: None)
    with pytest.raises(FigmentError, match="pip install 'figment-vision\\[fid\\]'"):
        inception.weights_file()


@pytest.mark.slow
def test_features_are_those_of_torch_fidelitys_network_for_images_of_any_size(home, monkeypatch):
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(home.read_bytes()).hexdigest())
    encoder = open_encoder("inception")
    assert isinstance(encoder, InceptionEncoder) and identity(encoder) == {
        "encoder": "inception",
        "weights": inception.SHA256[:16],
        "resize": "299 bilinear, as TensorFlow 1 (torch-fidelity)",
        "dtype": "float32",
        "features": "raw",
    }
    theirs = FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(home))
    given = images(3, 32, 41)  # of 32 x 41, 41 x 41 and 32 x 41 pixels
    rows = encoder.images(given)
    assert rows.shape == (3, 3056) and rows.dtype == np.float32
    for image, row in zip(given, rows, strict=True):
        pooled, logits = theirs(torch.from_numpy(image).permute(2, 0, 1)[None])
        assert row[: inception.N_FEATURES] == pytest.approx(pooled[0].numpy(), rel=1e-4, abs=1e-5)
        assert row[inception.N_FEATURES :] == pytest.approx(logits[0].numpy(), rel=1e-4, abs=1e-5)
    with pytest.raises(FigmentError, match="reads no words"):
        encoder.texts(["a cat"])


@pytest.mark.slow
def test_inception_sees_fewer_images_at_a_time_where_memory_runs_out(home, monkeypatch):
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(home.read_bytes()).hexdigest())
    encoder, tried = InceptionEncoder("cpu"), []
    shown, network = images(3, 20), encoder.network
    expected = encoder.images(shown)

    def small(batch):
        tried.append(len(batch))
        if len(batch) > 1:
            raise RuntimeError("GET was unable to find an engine to execute this computation")
        return network(batch)

    encoder.network = small
    assert encoder.images(shown) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert tried == [3, 1, 1, 1] and encoder.batch_size == 1
