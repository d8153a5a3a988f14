"""The starter's looks: the same pixels everywhere, each picture by itself, and real images like any others."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figment import starter
from figment.errors import FigmentError
from figment.images_in import open_images
from figment.records import digest
from figment.starter.looks import LOOKS, render
from figment.task import builtin_names, load_task

#: Of the first 64 test images. Another digest is another look: raise images_in.changed.LOOKS_VERSION, and train the starter on it.
DIGESTS = {
    "catalogue": "5fdff0622ea40c95",
    "store-camera": "40534914406a5d9d",
    "x-ray": "286d2e6364e861bf",
    "sketch": "e1fb3921187977e9",
    "night": "073d87b8e9c01017",
    "crumpled": "c7c78b32443fef3a",
    "photocopy": "2fda439b574f5166",
}
SEEN = [look for look in LOOKS if look != starter.AS_IT_IS]
NAMES = load_task("fashion").class_names


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.stack(open_images("starter/test", NAMES).load(range(64)))[..., 0]


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_keeps_its_pixels(pictures, look):
    assert digest(render(pictures, look).tobytes())[:16] == DIGESTS[look]


@pytest.mark.parametrize("look", LOOKS)
def test_what_is_rendered_together_changes_nothing(pictures, look):
    together = render(pictures, look)
    assert (render(pictures[5:6], look)[0] == together[5]).all()
    assert (render(pictures[::-1], look) == together[::-1]).all()


def test_the_catalogue_is_what_is_stored(pictures):
    assert (render(pictures, starter.AS_IT_IS) == pictures).all()
    assert type(open_images("starter/catalogue/test", NAMES)) is type(open_images("starter/test", NAMES))


@pytest.mark.parametrize("look", SEEN)
def test_a_task_of_a_look(pictures, look):
    task = load_task(f"fashion-{look}")
    assert task.class_names == NAMES and task.templates != load_task("fashion").templates
    assert task.synonyms and task.attributes  # fashion's own
    train, test = (open_images(where, task.class_names) for where in (task.real.train, task.real.test))
    assert len(train) == len(test) == 10_000
    assert (test.load([3, 1])[0] == render(pictures[3:4], look)[0][..., None]).all()


def test_every_look_has_its_task():
    assert {name for name in builtin_names() if name.startswith("fashion-")} == {f"fashion-{look}" for look in SEEN}


def test_rendered_images_are_images(pictures):
    images = open_images("starter/night/test", NAMES)
    some = pickle.loads(pickle.dumps(images.take([9, 2])))  # as for a worker
    assert some.ids == [images.ids[9], images.ids[2]] and some.labels.tolist() == images.labels[[9, 2]].tolist()
    assert some.digests == [images.digests[9], images.digests[2]]
    assert (np.asarray(Image.open(io.BytesIO(some.data(1)))) == images.load([2])[0]).all()
    assert images.load([]) == []
    others = [open_images(f"starter/{look}/test", NAMES).digests[0] for look in (*LOOKS, "catalogue")]
    assert len(set(others)) == len(LOOKS)  # no cache mixes them up


def test_a_path_is_a_folder_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FigmentError, match="does not exist"):
        open_images(Path("starter/mine"), NAMES)


@pytest.mark.parametrize(
    "where", ["starter/skech/test", "starter/sketch/tets", "starter/sketch", "starter/clip", "starter/"]
)
def test_a_wrong_look_is_told(where):
    with pytest.raises(FigmentError, match="The starter has no images .* It has starter/pool"):
        open_images(where, NAMES)
