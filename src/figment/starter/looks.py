"""A world of looks: the ways in which the starter's garments are seen, each rendered from the shipped pictures when it is asked for.

Domains are what a toolkit for generated images is about, and Fashion-MNIST has one. So a picture of it is a garment, and a look is
how it came to be seen: laid out for a catalogue, by a camera in a store, as an x-ray. Nothing is stored twice: a look of a picture
is a function of its pixels alone, whatever its place in a file and whatever is rendered with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

GARMENT = 0.06  # of 1: what is brighter is garment and not background
SOBEL = np.outer([1.0, 2, 1], [-1, 0, 1])
PORTION = 256  # pictures rendered together: more gain nothing


class Dice:
    """Random numbers for N pictures: each picture has its own, so what it looks like depends on no other."""

    def __init__(self, look: str, pictures: np.ndarray):
        seeds = (hashlib.sha256(look.encode() + picture.tobytes()).digest() for picture in pictures)
        self._each = [np.random.Generator(np.random.PCG64(int.from_bytes(seed[:16], "little"))) for seed in seeds]
        self._shape = pictures.shape[1:]

    def between(self, low: float, high: float) -> np.ndarray:
        """``(N, 1, 1)``, uniform."""
        return np.array([rng.uniform(low, high) for rng in self._each])[:, None, None]

    def noise(self) -> np.ndarray:
        """``(N, H, W)``, of a standard normal distribution."""
        return np.stack([rng.standard_normal(self._shape) for rng in self._each])


Render = Callable[[np.ndarray, Dice], np.ndarray]


def catalogue(x: np.ndarray, dice: Dice) -> np.ndarray:
    """As it is: laid out, on black."""
    return x


def store_camera(x: np.ndarray, dice: Dice) -> np.ndarray:
    """From above and afar: smaller, tilted, before shelves or tiles, dim, with a sensor's noise."""
    rows, columns = _grid(x)
    angle, size = np.deg2rad(dice.between(-20, 20)), dice.between(0.65, 0.9)
    down, right = (grid - grid.mean() - dice.between(-3, 3) for grid in (rows, columns))
    from_row = (down * np.cos(angle) - right * np.sin(angle)) / size + rows.mean()
    from_column = (down * np.sin(angle) + right * np.cos(angle)) / size + columns.mean()
    garment, cut = (_taken(part, from_row, from_column) for part in (x, (x > GARMENT).astype(float)))
    stripes, tiles = (_waves(rows, columns, dice, 0.4, 1.3) for _ in range(2))
    wall = dice.between(0.15, 0.4) + dice.between(0.03, 0.09) * np.sign(stripes) + 0.04 * tiles
    return _blurred(0.8 * garment + 0.1 * cut + wall * (1 - cut), 0.4) + 0.03 * dice.noise()


def x_ray(x: np.ndarray, dice: Dice) -> np.ndarray:
    """Through a scanner: what is thick is dark, edges are soft, the film is grey."""
    return dice.between(0.75, 0.95) - dice.between(0.5, 0.7) * _blurred(x, 1.1) + 0.02 * dice.noise()


def sketch(x: np.ndarray, dice: Dice) -> np.ndarray:
    """A pencil's lines on paper, along the edges."""
    from scipy import ndimage

    soft = _blurred(x, 0.5)
    edges = np.hypot(*(ndimage.correlate(soft, kernel[None]) for kernel in (SOBEL, SOBEL.T))) / 4
    paper = 0.92 + 0.03 * _blurred(dice.noise(), 0.7)
    return paper - np.minimum(dice.between(1.8, 2.6) * edges, 0.8)


def night(x: np.ndarray, dice: Dice) -> np.ndarray:
    """Hardly lit, from one side, with nearly as much noise as contrast."""
    rows, columns = (2 * grid / grid.max() - 1 for grid in _grid(x))
    side = dice.between(0, 2 * np.pi)
    lamp = 1 + 0.5 * (rows * np.sin(side) + columns * np.cos(side))
    return 0.07 + dice.between(0.15, 0.25) * lamp * x + 0.04 * dice.noise()


def crumpled(x: np.ndarray, dice: Dice) -> np.ndarray:
    """Pushed together and half under something: bent, with folds that shade it, and a piece hidden."""
    rows, columns = _grid(x)
    bent = _taken(x, *(grid + 26 * _blurred(dice.noise(), 4) for grid in (rows, columns)))
    creases = dice.noise()
    across = dice.between(0, 1) < 0.5
    folds = 3.2 * np.where(across, _blurred(creases, 1.2, 3), _blurred(creases, 3, 1.2))
    shaded = bent * (1 - 0.5 * np.minimum(np.abs(folds), 1))
    top, left = (np.floor(dice.between(4, 20)) for _ in range(2))
    height, width = (np.floor(dice.between(5, 11)) for _ in range(2))
    hidden = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return np.where(hidden, dice.between(0.1, 0.6), shaded)


def photocopy(x: np.ndarray, dice: Dice) -> np.ndarray:
    """Copied once too often: ink or no ink, with specks and faint bands, on white."""
    rows, _ = _grid(x)
    ink = _blurred(x, 0.5) > dice.between(0.3, 0.5) + 0.5 * _blurred(dice.noise(), 2)
    specks = dice.noise() > 2.33  # one pixel in a hundred
    bands = np.sin(rows * dice.between(0.3, 0.8) + dice.between(0, 2 * np.pi)) > 0.8
    return np.where(ink ^ specks, 0.12, 0.95) - 0.08 * bands


@dataclass(frozen=True)
class Look:
    """One way of seeing. ``render`` takes pictures ``float64 (N, H, W)`` in [0, 1]; what it gives is cut to that range."""

    render: Render
    words: tuple[str, ...]  # how the web names it; {} is what is seen


LOOKS: dict[str, Look] = {
    "catalogue": Look(catalogue, ("a catalogue photo of {}", "{} from the catalogue")),
    "store-camera": Look(
        store_camera, ("a store camera picture of {}", "{} seen by a store camera", "security camera footage of {}")
    ),
    "x-ray": Look(x_ray, ("an x-ray of {}", "{} in an x-ray scanner", "x-ray scan of {}")),
    "sketch": Look(sketch, ("a sketch of {}", "a pencil drawing of {}", "{}, sketched")),
    "night": Look(night, ("a photo of {} at night", "{} in the dark", "night photo of {}")),
    "crumpled": Look(crumpled, ("crumpled {}", "a photo of a crumpled {}", "{} in a heap of laundry")),
    "photocopy": Look(photocopy, ("a photocopy of {}", "{}, copied in black and white", "photocopied {}")),
}


def render(pictures: Sequence[np.ndarray] | np.ndarray, look: str) -> np.ndarray:
    """``uint8 (N, H, W)``: grey pictures ``uint8 (H, W)`` of one size in that look."""
    portions = [np.stack(list(pictures[at : at + PORTION])) for at in range(0, len(pictures), PORTION)]
    seen = [LOOKS[look].render(portion / 255, Dice(look, portion)) for portion in portions]
    return np.concatenate([np.round(np.clip(x, 0, 1) * 255).astype(np.uint8) for x in seen])


def _grid(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of all pixels, each ``(1, H, W)``."""
    rows, columns = np.mgrid[: x.shape[1], : x.shape[2]].astype(float)
    return rows[None], columns[None]


def _blurred(x: np.ndarray, down: float, right: float | None = None) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter(x, (0, down, down if right is None else right))


def _taken(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Each pixel from where it says, between pixels too; black from outside."""
    from scipy import ndimage

    which = np.arange(len(x), dtype=float)[:, None, None]
    return ndimage.map_coordinates(x, np.broadcast_arrays(which, rows, columns), order=1)


def _waves(rows: np.ndarray, columns: np.ndarray, dice: Dice, low: float, high: float) -> np.ndarray:
    """Of a random direction, phase and length, ``low`` to ``high`` radians a pixel."""
    side, phase = dice.between(0, np.pi), dice.between(0, 2 * np.pi)
    return np.sin(dice.between(low, high) * (rows * np.cos(side) + columns * np.sin(side)) + phase)
