"""Photographs that nobody has labelled: good for what needs no label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in.folder import FileImages, ids_below, images_below


def open_unlabelled(where: Path | str) -> FileImages:
    """All images below a folder, at any depth; names of sub-folders mean nothing, and every label is 0.

    Raises FigmentError where there is no such folder, or no image in it.
    """
    folder = as_path(where)
    if not folder.is_dir():
        raise FigmentError(
            f"The folder of unlabelled images {folder} does not exist. Give one with images, at any depth, or leave"
            " task.real.unlabelled out."
        )
    paths = images_below(folder)
    return FileImages(paths, np.zeros(len(paths), np.int64), ids_below(folder, paths))
