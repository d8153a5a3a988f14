"""VOC's average precision by hand, its files as they are published, and a detector that learns, is killed and goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from figment import FigmentError, guard, open_backbone
from figment.checkpoint import Checkpoint
from figment.judging import dense, voc
from figment.judging.average_precision import Boxes, area, average_precisions, iou
from figment.judging.detection import Detection
from figment.judging.evaluation import Given
from published import voc as write_voc
from published import voc_annotation


class Killed(BaseException):
    """As a signal is: nobody catches it."""


def square(x: float, side: float = 10) -> list[float]:
    return [x, 0, x + side, side]


def found(*scored: tuple[float, float]) -> Boxes:
    """Boxes of the class 0, each at x and with a score."""
    boxes = np.array([square(x) for x, _ in scored]).reshape(-1, 4)
    return Boxes(boxes, np.zeros(len(scored), int), np.array([s for _, s in scored]))


def true(*places: float, difficult: tuple[bool, ...] | None = None) -> Boxes:
    boxes = np.array([square(x) for x in places]).reshape(-1, 4)
    return Boxes(boxes, np.zeros(len(places), int), None, None if difficult is None else np.array(difficult))


@pytest.mark.parametrize(
    ("detections", "truths", "area_below", "eleven"),
    [
        # Right, wrong, right, of three: precision 1 up to a third of all, 2/3 up to two thirds.
        ([found((0, 0.9), (500, 0.8), (100, 0.7))], [true(0, 100, 200)], 5 / 9, 6 / 11),
        ([found((0, 0.9), (100, 0.8))], [true(0, 100)], 1, 1),
        ([found()], [true(0)], 0, 0),
        ([found((500, 0.9))], [true(0)], 0, 0),
        # The second one on the same box is wrong, the third finds the other box: 1 up to a half, then 2/3.
        ([found((0, 0.9), (1, 0.8), (100, 0.7))], [true(0, 100)], 1 / 2 + 1 / 3, (6 + 5 * 2 / 3) / 11),
        # What finds a difficult box does not count, however often, and the box is not missed.
        ([found((0, 0.9), (1, 0.85), (100, 0.8))], [true(0, 100, difficult=(True, False))], 1, 1),
        # An image of its own: what lies at the same place in another one is not found.
        ([found((0, 0.9)), found()], [true(), true(0)], 0, 0),
        # Sorted over images: the wrong one of the second image comes first.
        ([found((0, 0.5)), found((0, 0.9))], [true(0), true()], 1 / 2, 1 / 2),
        # A shift of 3 of 10 is 7/13 of an overlap, of 4 it is 6/14.
        ([found((3, 0.9))], [true(0)], 1, 1),
        ([found((4, 0.9))], [true(0)], 0, 0),
        # A precision that rises again counts at lower recalls: wrong, right, right.
        ([found((500, 0.9), (0, 0.8), (100, 0.7))], [true(0, 100)], 2 / 3, 2 / 3),
    ],
)  # fmt: skip
def test_average_precision_by_hand(detections, truths, area_below: float, eleven: float):
    assert average_precisions(detections, truths, 1)[0] == pytest.approx(area_below)
    assert average_precisions(detections, truths, 1, eleven_points=True)[0] == pytest.approx(eleven)


def test_a_class_without_boxes_that_count_has_no_average_precision():
    precisions = average_precisions([found((0, 0.9))], [true(0, difficult=(True,))], 2)
    assert np.isnan(precisions).all()
    assert iou(np.array([[0, 0, 10, 10.0]]), np.array([[5, 5, 15, 15.0], [10, 0, 20, 10]])).tolist() == [[25 / 175, 0]]
    assert area(np.array([]), np.array([])) == 0


def test_overlap_of_exactly_a_half_is_found():
    """The development kit's rule: a shift of a third of the width is an intersection of 2/3 over a union of 4/3."""
    truth = Boxes(np.array([[0.0, 0, 30, 10]]), np.array([0]))
    detection = Boxes(np.array([[10.0, 0, 40, 10]]), np.array([0]), np.array([0.9]))
    assert average_precisions([detection], [truth], 1)[0] == 1


def test_boxes_are_counted_from_one_in_the_file_and_from_nought_here(tmp_path):
    write_voc(tmp_path, {"train": 2})
    path = tmp_path / "Annotations" / "2012_train_000.xml"
    path.write_text(voc_annotation([("cat", (0, 4, 20, 24), 0), ("dog", (30, 0, 64, 48), 1)]))
    assert "<xmin>1</xmin><ymin>5</ymin><xmax>20</xmax><ymax>24</ymax>" in path.read_text()
    first, _ = voc.read_split(tmp_path, "train")
    assert first.boxes.tolist() == [[0, 4, 20, 24], [30, 0, 64, 48]] and first.names == ["cat", "dog"]
    assert first.difficult.tolist() == [False, True] and first.path.name == "2012_train_000.jpg"


def test_all_years_of_a_devkit(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        write_voc(tmp_path / year, {"trainval": 1})
    assert [p.name for p in voc.years(tmp_path)] == ["VOC2007", "VOC2012"]
    assert voc.years(tmp_path / "VOC2007") == [tmp_path / "VOC2007"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("</annotation>", ""), "no annotation of VOC's"),
        (lambda text: text.replace("xmax", "right"), "no annotation of VOC's"),
        (lambda text: text.replace("<name>cat</name>", ""), "without a name"),
        (lambda text: text.replace("<xmin>1<", "<xmin>30<"), "box without area"),
        (lambda text: text.replace("<xmin>1<", "<xmin>nan<"), "without a name, or a box"),
        (lambda text: '<!DOCTYPE annotation [<!ENTITY cat "a cat">]>' + text, "declares entities"),
    ],
)
def test_an_annotation_that_is_not_vocs(change, told: str, tmp_path):
    write_voc(tmp_path, {"train": 1})
    path = tmp_path / "Annotations" / "2012_train_000.xml"
    path.write_text(change(voc_annotation([("cat", (0, 4, 20, 24), 0)])))
    with pytest.raises(FigmentError, match=told):
        voc.read_split(tmp_path, "train")


def test_an_annotation_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    write_voc(tmp_path, {"train": 1})
    monkeypatch.setitem(guard.MOST, "annotation", 100)
    with pytest.raises(FigmentError, match="too large"):
        voc.read_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("lost", "told"),
    [("JPEGImages/2012_train_000.jpg", "there is no"), ("ImageSets/Main/train.txt", "no split 'train'")],
)
def test_what_is_missing_is_named(lost: str, told: str, tmp_path):
    write_voc(tmp_path, {"train": 1, "test": 1})
    (tmp_path / lost).unlink()
    with pytest.raises(FigmentError, match=told) as error:
        voc.read_split(tmp_path, "train")
    assert "Its splits: test" in str(error.value) or "2012_train_000" in str(error.value)


def test_images_that_are_learnt_are_not_tested(data, network, tmp_path):
    (data / "ImageSets" / "Main" / "val.txt").write_text("2012_trainval_001\n2012_test_000\n")
    with pytest.raises(FigmentError, match="1 of the 2 test images.*2012_trainval_001.*--set detection.train=train"):
        Detection(test="val").measure(given(network, tmp_path), str(data))


SMALL = {"train": "trainval", "batch_size": 2, "warmup": 2, "channels": 16, "sides": [48], "longest": 64}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_voc(tmp_path_factory.mktemp("VOC2012"), {"trainval": 4, "test": 2})


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "w.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


def given(network: Path, folder: Path) -> Given:
    return Given(open_backbone("test_resnet", network, device="cpu"), folder)


def test_a_detector_that_was_killed_ends_as_it_would_have(data, network, tmp_path, monkeypatch):
    own = Detection(steps=4, **SMALL)
    update, taken = dense.Updates.__call__, []

    def until(updates, step, loss, module):
        taken.append(loss.detach())
        if len(taken) in (2, 4):
            raise Killed
        return update(updates, step, loss, module)

    monkeypatch.setattr(dense, "Checkpoint", partial(Checkpoint, seconds=0))
    first = own.measure(given(network, tmp_path / "calm"), str(data))
    monkeypatch.setattr(dense.Updates, "__call__", until)
    for _ in range(2):
        with pytest.raises(Killed):
            own.measure(given(network, tmp_path / "killed"), str(data))
    again = own.measure(given(network, tmp_path / "killed"), str(data))
    assert again == first and len(taken) == 6  # four steps, and two that were begun in vain
    own.measure(given(network, tmp_path / "killed"), str(data))
    assert len(taken) == 6  # and is not repeated
    states = [p.read_bytes() for name in ("calm", "killed") for p in (tmp_path / name / "training").iterdir()]
    assert len(states) == 2 and states[0] == states[1]
    assert first.n == 2 and set(first.details["of_class"]) == {"cat", "dog"}


@pytest.mark.slow
def test_a_detector_learns_squares(data, network, tmp_path):
    own = Detection(steps=60, learning_rate=0.02, **SMALL)
    found = own.measure(given(network, tmp_path), str(data))
    assert found.values["AP50"] > 0.4 and found.values["AP50, 11 points"] > 0.4, found


def test_the_rate_rises_and_falls_as_published():
    rates = Detection()._rates()
    assert len(rates) == 24_000 and rates[0] == pytest.approx(0.02 / 101)
    assert [rates[i] for i in (100, 17_999, 18_000, 21_999, 22_000)] == pytest.approx([0.02, 0.02, 2e-3, 2e-3, 2e-4])
