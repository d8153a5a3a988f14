"""The mean intersection over union by hand and by scikit-learn, ADE20k's files, and a head that learns."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import jaccard_score
from torch.nn import functional as F

from figment import FigmentError, open_backbone
from figment.judging.ade20k import IGNORED, labels_of, read_split
from figment.judging.evaluation import Given
from figment.judging.segmentation import Segmentation, UperNet, confusion, ious
from published import ade20k

NETWORKS = ("test_convnext", "test_vit")


def test_mean_intersection_over_union_by_hand():
    """Over the pixels of both images. Class 0: 3 right of 4 true and 4 said; class 1: 1 of 3 and 2; class 2 is nowhere true; 3 is nowhere."""
    true = [np.array([[0, 0, 1, IGNORED]]), np.array([[0, 0, 1, 1]])]
    said = [np.array([[0, 1, 0, 3]]), np.array([[0, 0, 1, 2]])]
    counts = sum(confusion(s, t, 4) for s, t in zip(said, true, strict=True))
    np.testing.assert_allclose(ious(counts), [3 / 5, 1 / 4, 0, np.nan])
    assert counts.sum() == 7


@pytest.mark.parametrize("seed", range(3))
def test_it_is_scikit_learns(seed: int):
    rng = np.random.default_rng(seed)
    true, said = rng.integers(5, size=(40, 30)), rng.integers(5, size=(40, 30))
    said[rng.random((40, 30)) < 0.6] = true[rng.random((40, 30)) < 0.6][0]
    true[:3] = IGNORED
    theirs = jaccard_score(true[3:].ravel(), said[3:].ravel(), average=None, labels=range(5))
    np.testing.assert_allclose(ious(confusion(said, true, 5)), theirs)


def test_nought_is_no_class_and_the_first_one_is(tmp_path):
    folder = ade20k(tmp_path, {"training": 1, "validation": 1})
    (image,) = read_split(folder, "training")
    labels = labels_of(image, 150)
    raw = np.array(Image.open(image.labels))
    assert set(np.unique(labels)) == {0, 1, IGNORED} and ((labels == IGNORED) == (raw == 0)).all()
    assert (labels[raw == 2] == 1).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder, png: png.unlink(), "has no annotation"),
        (lambda folder, png: png.write_bytes(b"not a PNG"), "no annotation of ADE20k's"),
        (lambda folder, png: Image.new("RGB", (48, 40)).save(png), "mode RGB"),
        (lambda folder, png: Image.new("L", (48, 40), 200).save(png), "holds the class 200"),
        (lambda folder, png: (folder / "images").rename(folder / "pictures"), "no images/training"),
    ],
)
def test_what_is_not_ade20k(change, told: str, tmp_path):
    folder = ade20k(tmp_path, {"training": 1})
    change(folder, folder / "annotations" / "training" / "ADE_train_00000000.png")
    with pytest.raises(FigmentError, match=told):
        labels_of(read_split(folder, "training")[0], 150)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    def make(architecture: str, name: str = "judged") -> Given:
        folder = tmp_path_factory.mktemp(architecture)
        torch.manual_seed(0)
        save_file(timm.create_model(architecture).state_dict(), folder / "w.safetensors")
        return Given(open_backbone(architecture, folder / "w.safetensors", device="cpu"), folder / name)

    return make


@pytest.mark.parametrize("architecture", NETWORKS)
def test_upernets_head_sees_all_of_an_image_of_any_size(architecture: str, given):
    module = UperNet(given(architecture).backbone.pyramid(), 3, 16).eval()
    images = torch.randint(256, (2, 3, 40, 75), dtype=torch.uint8)
    labels = torch.randint(3, (2, 40, 75))
    labels[:, :5] = IGNORED
    with torch.no_grad():
        logits = module(images)
        maps = module._maps(images)
        auxiliary = F.interpolate(module.auxiliary(maps), size=(64, 96), mode="bilinear")[..., :40, :75]
        wanted = sum(
            w * F.cross_entropy(a.permute(0, 2, 3, 1)[:, 5:].reshape(-1, 3), labels[:, 5:].reshape(-1))
            for w, a in ((1, logits), (0.4, auxiliary))
        )
        assert logits.shape == (2, 3, 40, 75)
        torch.testing.assert_close(module.loss(images, labels), wanted)


def test_a_head_learns_two_colours_and_goes_on_where_it_was(given, tmp_path):
    folder = ade20k(tmp_path, {"training": 8, "validation": 3})
    own = Segmentation(classes=2, steps=30, batch_size=4, learning_rate=3e-3, warmup=3, side=32, channels=16)
    judged = given("test_convnext")
    found = own.measure(judged, str(folder))
    assert found.values["mIoU"] > 0.8 and found.n == 3 and len(found.details["of_class"]) == 2
    assert own.measure(judged, str(folder)) == found


@pytest.mark.parametrize("split", ["training", "validation"])
def test_labels_of_another_size_than_their_image(split: str, given, tmp_path):
    folder = ade20k(tmp_path, {"training": 2, "validation": 1})
    for png in (folder / "annotations" / split).iterdir():
        Image.new("L", (40, 48), 1).save(png)
    own = Segmentation(classes=2, steps=1, batch_size=2, side=32, channels=8)
    with pytest.raises(FigmentError, match="has 40 x 48 pixels, and its image .* has 48 x 40"):
        own.measure(given("test_convnext"), str(folder))


def test_a_batch_without_a_class_teaches_nothing(given):
    module = UperNet(given("test_convnext").backbone.pyramid(), 3, 8)
    loss = module.loss(torch.zeros((2, 3, 32, 32), dtype=torch.uint8), torch.full((2, 32, 32), IGNORED))
    loss.backward()
    assert loss == 0 and all(p.grad is None or not p.grad.any() for p in module.parameters())


def test_one_training_image_is_too_few(given, tmp_path):
    folder = ade20k(tmp_path, {"training": 1, "validation": 1})
    with pytest.raises(FigmentError, match="one training image"):
        Segmentation().measure(given("test_convnext"), str(folder))
