"""Photographs without labels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from figment.errors import FigmentError
from figment.images_in.unlabelled import open_unlabelled


def test_every_image_below_a_folder_whatever_its_subfolders_are_called(tmp_path):
    for i, name in enumerate(["b.png", "deep/er/a.jpg", "cat/c.png", ".hidden.png", "notes.txt"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            Image.fromarray(np.full((4, 5, 3), 40 * i, np.uint8)).save(tmp_path / name)
    images = open_unlabelled(tmp_path)
    assert images.ids == ["b.png", "cat/c.png", "deep/er/a.jpg"]
    assert images.labels.tolist() == [0, 0, 0] and images.load([0])[0].shape == (4, 5, 3)


def test_nothing_there(tmp_path):
    with pytest.raises(FigmentError, match="unlabelled images .* does not exist"):
        open_unlabelled(tmp_path / "no")
    with pytest.raises(FigmentError, match="holds no images"):
        open_unlabelled(tmp_path)
