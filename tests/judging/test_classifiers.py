"""Linear probe, neighbours, few shots, L-BFGS, FairFace, ARO and robustness: numbers worked out by hand or by scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf

from figment import FigmentError, open_backbone
from figment.encoders import class_prototypes, open_encoder
from figment.images_in.memory import MemoryImages
from figment.judging import lbfgs
from figment.judging.aro import Aro
from figment.judging.evaluation import Given
from figment.judging.fairface import FairFace
from figment.judging.few_shot import FewShot
from figment.judging.knn import Neighbours
from figment.judging.labelled import Labelled
from figment.judging.lbfgs import Lbfgs
from figment.judging.linear import Linear
from figment.judging.robustness import Robustness
from figment.learners.network.model import NetworkModel
from figment.learners.pretrain.backbone import make_backbone
from figment.probe import held_out, linear_probe, logistic_regression
from pretrained import settings, striped, tinted
from published import aro, class_folders, fairface

RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 230, 20), (20, 20, 230), (250, 250, 250)


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr("figment.probe.MIN_STEPS", 200)


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Given:
    """A small ViT, and images of three kinds of stripes."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("judge")
    NetworkModel(make_backbone(settings("simclr"), None), ["a", "b"]).save(folder / "model")
    own = Given(open_backbone(str(folder), device="cpu"), folder / "judged")
    own._opened["stripes"] = Labelled(["a", "b", "c"], striped(150, 0), striped(120, 1), [])
    return own


def features(given: Given, where: str = "stripes") -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    own = given.labelled(where)
    return given.features(own.train), own.train.labels, given.features(own.test), own.test.labels


# ---- classifiers beside scikit-learn's -------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [1e-3, 1.0, 1e3])
def test_logistic_regression_is_scikit_learns_alone_and_many_at_once(c: float):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 60, 5)), rng.integers(3, size=(4, 60))
    weights, biases = logistic_regression(x, y, 3, l2=1 / c)
    again = logistic_regression(x, y, 3, l2=1 / c, start=(weights, biases))
    torch.testing.assert_close(again[0], weights, atol=1e-5, rtol=1e-4)
    for i in range(4):
        alone, _ = logistic_regression(x[i], y[i], 3, l2=1 / c)
        theirs = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x[i], y[i])
        np.testing.assert_allclose(weights[i], theirs.coef_, atol=2e-4)
        np.testing.assert_allclose(alone, theirs.coef_, atol=2e-4)
        # Adding a number to all biases changes nothing.
        np.testing.assert_allclose(
            biases[i] - biases[i].mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=2e-4
        )


@pytest.mark.slow
def test_the_linear_probe_is_within_half_a_point_of_logistic_regression(given, monkeypatch):
    """On the features of a network of timm's, with and without normalising them; in as many steps as published."""
    monkeypatch.setattr("figment.probe.MIN_STEPS", 1_000)
    given._opened["tints"] = Labelled(["a", "b", "c"], tinted(1_500, 0), tinted(3_000, 1), [])
    x, y, test, truth = features(given, "tints")
    found = Linear().measure(given, "tints")
    mean, std = x.mean(0), x.std(0)
    for name, (a, b) in {"accuracy": (x, test), "with BatchNorm": ((x - mean) / std, (test - mean) / std)}.items():
        theirs = LogisticRegression(C=1, max_iter=5_000).fit(a, y).score(b, truth)
        assert found.values[name] == pytest.approx(theirs, abs=0.005), name


@pytest.mark.slow
def test_so_is_that_of_a_model_that_timm_itself_made_and_saved(tmp_path, monkeypatch):
    """Nothing of figment's has had a hand in its files: its features are timm's, and the accuracy on them scikit-learn's."""
    monkeypatch.setattr("figment.probe.MIN_STEPS", 1_000)
    torch.manual_seed(2)
    args = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 24, "num_heads": 3}
    small = {"input_size": (3, 32, 32), "crop_pct": 1.0}
    module = timm.create_model("vit_tiny_patch16_224", num_classes=7, pretrained_cfg_overlay=small, **args).eval()
    save_for_hf(module, tmp_path / "model", model_args=args, safe_serialization=True)
    transform = create_transform(**resolve_data_config({}, model=module), is_training=False)
    module.reset_classifier(0)

    @torch.no_grad()
    def by_timm(images: MemoryImages) -> np.ndarray:
        return module(torch.stack([transform(Image.fromarray(image)) for image in images.images])).numpy()

    own = Labelled(["a", "b", "c"], tinted(4_000, 0), tinted(4_000, 1), [])
    given = Given(open_backbone(str(tmp_path / "model"), device="cpu"), tmp_path / "judged")
    given._opened["tints"] = own
    x, test = by_timm(own.train), by_timm(own.test)
    np.testing.assert_allclose(given.features(own.test), test, atol=1e-4)
    found = Linear().measure(given, "tints")
    mean, std = x.mean(0), x.std(0)
    for name, (a, b) in {"accuracy": (x, test), "with BatchNorm": ((x - mean) / std, (test - mean) / std)}.items():
        theirs = LogisticRegression(C=1, max_iter=5_000).fit(a, own.train.labels).score(b, own.test.labels)
        assert 0.5 < theirs < 0.995  # of three classes, and there is something left to be wrong about
        assert found.values[name] == pytest.approx(theirs, abs=0.005), name


def test_the_linear_probe_is_told_with_and_without_normalising(given):
    x, y, test, truth = features(given)
    found = Linear().measure(given, "stripes")
    for name, normalise in {"accuracy": False, "with BatchNorm": True}.items():
        own = linear_probe(x, y, 3, normalise=normalise)
        assert found.values[name] == (own(test).argmax(1) == truth).mean()
        assert found.details["learning_rates"][name]["rate"] == own.rate
        low, high = found.ci[name]
        assert low < found.values[name] < high
    assert found.n == len(truth) and found.values["accuracy"] != found.values["with BatchNorm"]


@pytest.mark.parametrize("k", [1, 20, 1_000])
def test_neighbours_are_scikit_learns(k: int, given):
    x, y, test, truth = features(given)
    theirs = KNeighborsClassifier(min(k, len(x)), metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07)).fit(x, y)
    assert Neighbours(k=k).measure(given, "stripes").values["accuracy"] == pytest.approx(theirs.score(test, truth))


def test_few_shots_are_logistic_regressions_of_episodes(given):
    x, y, test, truth = features(given)
    x, test = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x.astype(np.float64), test.astype(np.float64)))
    own, rng, right = FewShot(ways=2, shots=3, queries=4, episodes=6), np.random.default_rng(0), []
    of = [[np.flatnonzero(labels == c) for c in range(3)] for labels in (y, truth)]
    for _ in range(6):
        shots, asked = own._episode(rng, [0, 1, 2], *of)
        assert len(set(y[shots[:3]])) == 1 and len(set(y[shots])) == 2 and [len(rows) for rows in asked] == [4, 4]
        theirs = LogisticRegression(C=1, tol=1e-8).fit(x[shots], [0, 0, 0, 1, 1, 1])
        right.append(theirs.score(test[np.concatenate(asked)], [0] * 4 + [1] * 4))
    found = own.measure(given, "stripes")
    assert found.values["accuracy"] == pytest.approx(np.mean(right)) and found.n == 6
    half = 1.96 * np.std(right, ddof=1) / np.sqrt(6)
    assert found.ci["accuracy"] == pytest.approx((np.mean(right) - half, np.mean(right) + half))


def test_lbfgs_chooses_on_held_out_training_images(given, monkeypatch):
    strengths = np.geomspace(1e-3, 10, 5)
    assert len(lbfgs.STRENGTHS) == 45 and lbfgs.STRENGTHS[[0, -1]] == pytest.approx([1e-6, 1e5])
    monkeypatch.setattr(lbfgs, "STRENGTHS", strengths)
    x, y, test, truth = features(given)
    held, own = held_out(y), {"tol": 1e-8, "max_iter": 10_000}
    scores = [LogisticRegression(C=c, **own).fit(x[~held], y[~held]).score(x[held], y[held]) for c in strengths]
    best = LogisticRegression(C=strengths[int(np.argmax(scores))], **own).fit(x, y)
    found = Lbfgs().measure(given, "stripes")
    assert list(found.details["held_out"].values()) == pytest.approx(scores)
    assert found.values["accuracy"] == pytest.approx(best.score(test, truth))
    assert found.values["mean of classes"] == pytest.approx(balanced_accuracy_score(truth, best.predict(test)))


def test_the_mean_of_classes_counts_each_class_once(given):
    """Two of two right and four of eight: .6 of images, .75 of classes."""
    from figment.judging.evaluation import accuracies

    labels = np.array([0, 0] + [1] * 8)
    values, _ = accuracies({"accuracy": np.array([0] * 6 + [1] * 4)}, labels, "mean of classes")
    assert values == pytest.approx({"accuracy": 0.6, "mean of classes": 0.75})


# ---- FairFace --------------------------------------------------------------------------------------------------------

GROUPS = {("Black", "Female"): RED, ("Black", "Male"): GREEN, ("White", "Female"): BLUE, ("White", "Male"): WHITE}


def faces(root: Path) -> Path:
    """Four classes of three test images; one of a class looks like another class, two of another do."""
    train = [(*group, np.clip(np.array(colour) - i, 0, 255)) for group, colour in GROUPS.items() for i in range(5)]
    val = [(*group, colour) for group, colour in GROUPS.items() for _ in range(3)]
    val[0] = ("Black", "Female", BLUE)
    val[9:11] = [("White", "Male", GREEN)] * 2
    return fairface(root, {"train": train, "val": val})


def test_fairface_by_a_probe(given, tmp_path):
    found = FairFace().measure(given, str(faces(tmp_path)))
    assert found.details["by"] == "probe" and found.n == 12
    wanted = {"Black Female": 2 / 3, "Black Male": 1, "White Female": 1, "White Male": 1 / 3}
    assert found.details["of_class"] == pytest.approx(wanted)
    wanted = {"accuracy": 9 / 12, "mean of classes": 9 / 12, "best class": 1, "worst class": 1 / 3}
    assert dict(found.values) == pytest.approx(wanted)


def test_fairface_by_words(clip, tmp_path):
    folder = faces(tmp_path / "faces")
    found = FairFace().measure(Given(open_backbone(str(clip), device="cpu"), tmp_path), str(folder))
    encoder = open_encoder(str(clip), device="cpu")
    words = class_prototypes(encoder, ["black woman", "black man", "white woman", "white man"], ["a photo of a {}."])
    pixels = [np.array(Image.open(folder / "val" / f"{i}.jpg")) for i in range(1, 13)]
    answers = (encoder.images(pixels) @ words.T).argmax(1)
    assert found.details["by"] == "words"
    assert found.values["accuracy"] == pytest.approx((answers == np.repeat(range(4), 3)).mean())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("gender", "sex"), "no column 'gender'"),
        (lambda text: text.replace("Female", "F"), "gender is one of Male, Female"),
        (lambda text: text.splitlines()[0] + "\n", "no lines"),
        (lambda text: text.replace("val/", "elsewhere/"), "are not there"),
    ],
)
def test_a_table_that_is_not_fairfaces(change, told: str, given, tmp_path):
    table = faces(tmp_path) / "fairface_label_val.csv"
    table.write_text(change(table.read_text()))
    with pytest.raises(FigmentError, match=told):
        FairFace().measure(given, str(tmp_path))


# ---- ARO -------------------------------------------------------------------------------------------------------------


def test_aro_is_the_mean_over_relations_of_what_the_model_prefers(clip, tmp_path):
    pairs = [("a dog on a cat", "a cat on a dog"), ("a cup by a tree", "a tree by a cup"), ("a red car", "a car red")]
    relations = [("on", *pairs[i % 3]) for i in range(5)] + [("by", *pairs[i % 3][::-1]) for i in range(2)]
    folder = aro(tmp_path, [*relations, ("by", "the same", "the same")], [(["red", "old"], *pairs[2])])
    found = Aro().measure(Given(open_backbone(str(clip), device="cpu"), tmp_path), str(folder))
    encoder, right = open_encoder(str(clip), device="cpu"), []
    for i, (_, true, false) in enumerate(relations):
        whole = Image.open(folder / "images" / f"relation{i}.jpg").crop((3 + i, 4, 23 + i, 19))
        x = encoder.images([np.array(whole)])[0]
        right.append(float(x @ encoder.texts([true])[0] > x @ encoder.texts([false])[0]))
    right.append(0.0)  # equal captions
    assert found.values["relation"] == pytest.approx((np.mean(right[:5]) + np.mean(right[5:])) / 2)
    assert found.values["relation, all pairs"] == pytest.approx(np.mean(right))
    assert found.values["attribution"] in (0, 1) and found.n == 9


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[:-3], "is no JSON"),
        (lambda text: "{}", "must be a list"),
        (lambda text: text.replace("bbox_w", "width"), "row 0 must have"),
        (lambda text: text.replace("relation_name", "relation"), "row 0 must have"),
        (lambda text: text.replace('"bbox_x": 3', '"bbox_x": 300'), "holds none"),
        (lambda text: text.replace('"bbox_y": 4', '"bbox_y": -30'), "holds none"),  # it ends above the image
        (lambda text: text.replace('"bbox_x": 3', '"bbox_x": -30'), "holds none"),
        (lambda text: text.replace('"bbox_x": 3', '"bbox_x": NaN'), "row 0 must have"),
        (lambda text: text.replace('"bbox_x": 3', '"bbox_x": 1e999'), "row 0 must have"),
    ],
)
def test_a_file_that_is_not_aros(change, told: str, clip, tmp_path):
    folder = aro(tmp_path, [("on", "a", "b")], [])
    path = folder / "visual_genome_relation.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(FigmentError, match=told):
        Aro().measure(Given(open_backbone(str(clip), device="cpu"), tmp_path), str(folder))


def test_aro_needs_a_model_that_reads(given, tmp_path):
    with pytest.raises(FigmentError, match="reads no words"):
        Aro().measure(given, str(aro(tmp_path, [("on", "a", "b")], [])))


# ---- robustness ------------------------------------------------------------------------------------------------------


def learnt(root: Path) -> Path:
    """A recipe of four classes whose data set calls them by WordNet ids."""
    colours = {"n01": RED, "n02": GREEN, "n03": BLUE, "n04": WHITE}
    own = {name: [np.clip(np.array(c) - i, 0, 255) for i in range(5)] for name, c in colours.items()}
    for split in ("train", "test"):
        class_folders(root / split, own)
    task = {
        "class_names": ["apple", "leaf", "sea", "snow"],
        "own_names": list(colours),
        "real": {"train": "train", "test": "test"},
    }
    (root / "task.yaml").write_text(json.dumps({"task": task}))
    return root / "task.yaml"


@pytest.mark.parametrize("names", [("n01", "n03"), ("apple", "sea"), ("0", "2")])
def test_robustness_is_asked_among_the_classes_that_are_there(names: tuple[str, str], given, tmp_path):
    """Apples red, red and blue; the sea blue and green. The green one cannot be called a leaf: there are none."""
    shifted = class_folders(tmp_path / "shifted", {names[0]: [RED, RED, BLUE], names[1]: [BLUE, BLUE]})
    found = Robustness(train=str(learnt(tmp_path))).measure(given, str(shifted))
    assert found.values["accuracy"] == pytest.approx(4 / 5)
    assert found.details["classes"] == 2 and found.details["of"] == 4


@pytest.mark.parametrize(
    ("names", "told"), [(("apple", "pear"), "'pear'"), (("0", "4"), "'4'"), ((), "no folders of classes")]
)
def test_classes_that_the_probe_does_not_know(names: tuple[str, ...], told: str, given, tmp_path):
    shifted = class_folders(tmp_path / "shifted", {name: [RED] for name in names})
    shifted.mkdir(exist_ok=True)
    with pytest.raises(FigmentError, match=told):
        Robustness(train=str(learnt(tmp_path))).measure(given, str(shifted))


def test_answers_are_not_of_classes_that_are_away(given, tmp_path):
    """A green image is a leaf to the probe; where there are none it is one of those that are there."""
    shifted = class_folders(tmp_path / "shifted", {"n01": [RED], "n03": [GREEN, GREEN]})
    found = Robustness(train=str(learnt(tmp_path))).measure(given, str(shifted))
    probe = given.labelled(str(tmp_path / "task.yaml"))
    x = given.features(MemoryImages([np.full((8, 8, 3), 0, np.uint8) + np.array(GREEN, np.uint8)], np.array([2])))
    logits = linear_probe(given.features(probe.train), probe.train.labels, 4)(x)[0]
    assert logits.argmax() == 1 and found.values["accuracy"] == pytest.approx((1 + 2 * (logits[2] > logits[0])) / 3)
