"""Fashion-MNIST, read and split as the starter card says, and the web that is made of it."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figment.starter.looks import LOOKS, render

CLASS_NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

#: Where Debian's package ``dataset-fashion-mnist`` puts the four IDX files.
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def _read_idx(path: Path, header: int) -> np.ndarray:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def load(split: str, folder: Path = DEBIAN_FOLDER) -> tuple[np.ndarray, np.ndarray]:
    """Images ``uint8 (N, 28, 28)`` and labels ``uint8 (N,)`` of one of the starter's splits.

    ``web`` is the first 50,000 training images (what the generator and CLIP learn from), ``pool`` the last 10,000
    (a user's own photographs), ``test`` the official 10,000.
    """
    if not folder.is_dir():
        raise SystemExit(
            f"{folder} is missing. Install Debian's dataset-fashion-mnist, or pass --data with the IDX files."
        )
    stem = "t10k" if split == "test" else "train"
    images = _read_idx(folder / f"{stem}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = _read_idx(folder / f"{stem}-labels-idx1-ubyte.gz", 8)
    part = {"web": slice(0, 50_000), "pool": slice(50_000, 60_000), "test": slice(None)}[split]
    return images[part], labels[part]


CATALOGUE_SHARE = 0.8  # of the generator's web; the other looks share the rest evenly
#: Of CLIP's web, which is a smaller and earlier one, as CLIP's was beside LAION: 250 pictures of each other look, 25 a class. With the
#: generator's web CLIP tells the looks' garments by their names as well as 10,000 labelled photographs teach it.
CLIP_CATALOGUE_SHARE = 0.97


@dataclass(frozen=True)
class Web:
    """What the models learn from. Each picture was seen once, in one look."""

    images: np.ndarray  # uint8 (N, 32, 32), as seen
    pictures: np.ndarray  # uint8 (N, 28, 28), what captions are made from
    labels: np.ndarray  # uint8 (N,)
    looks: np.ndarray  # int (N,), positions in LOOKS


def web(folder: Path = DEBIAN_FOLDER, catalogue: float = CATALOGUE_SHARE) -> Web:
    """The first 50,000 training images: a world mostly of catalogues, with corners that few have photographed."""
    pictures, labels = load("web", folder)
    others = (1 - catalogue) / (len(LOOKS) - 1)
    looks = np.random.default_rng(0).choice(len(LOOKS), len(labels), p=[catalogue] + [others] * (len(LOOKS) - 1))
    seen = pad(pictures)
    for number, look in enumerate(LOOKS):
        own = looks == number
        if own.any():
            seen[own] = render(seen[own], look)
    return Web(seen, pictures, labels, looks)


def pad(images: np.ndarray) -> np.ndarray:
    """``(N, 28, 28)`` to ``(N, 32, 32)``: sides that halve evenly, the black background continued."""
    return np.pad(images, ((0, 0), (2, 2), (2, 2)))
