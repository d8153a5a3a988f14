"""Do generated images look like the real ones? What He et al. 2023 report in Table A.16.

Neither number says what a classifier learns from the images: in that table the CLIP filter, which helps the
classifier, makes the distance larger. They describe a set; the classification accuracy score judges it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from figment.evaluate.accuracy import Answers, accuracy
from figment.evaluate.sets import QUANTILE, chunks, fitting, floor
from figment.types import Result

WHAT = "A Fréchet distance"
FEWEST = 4  # images of each kind, without which halves have no covariance


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between two Gaussians with the means and covariances of two sets of features (Heusel et al. 2017, section 2).

    ``|mean_a - mean_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a C_b)^(1/2))``, in float64. A set's centred features, divided by
    the square root of n - 1, are a root of its covariance, and the last trace is the sum of the singular values of the
    product of two such roots. Nothing is squared on the way, so that directions without variance add no noise, and with
    fewer images than dimensions the product is as small as the sets are; with more of them a set is gone through some images at a
    time, and of the D x D root alone is kept what they add: sets that are mapped from a disk never are in memory whole.

    A finite set is always some way from its own kind: the distance is too large by about a constant times
    ``1 / n + 1 / m``, for unit Gaussians ``D + D (D + 1) / 4``. Sets of different sizes are therefore not comparable,
    and with fewer images than D the number says more about their count than about the images. `frechet` estimates
    the excess.

    Args:
        a: features, float (n, D), n at least 2.
        b: features, float (m, D), m at least 2.

    Returns:
        The distance, in squared units of the features, 0 for equal means and covariances. FID is this on the 2048
        features of one certain Inception network; on an encoder's normalised features it lies in [0, 4].

    Raises:
        FigmentError: for arrays that do not fit, too few rows, or features that are not finite.
    """
    a, b = fitting(a, b, WHAT, fewest=2)
    first, second = _Set.of(a), _Set.of(b)
    overlap = float(np.linalg.svd(first.root @ second.root.T, compute_uv=False).sum())
    return _distance(first, second, overlap)


def frechet(features_a: np.ndarray, features_b: np.ndarray, extractor: str, seed: int = 0) -> Result:
    """`frechet_distance` of generated images and real ones, with a 95 % interval and a floor.

    The interval is the infinitesimal jackknife (Efron 1981): the derivative of the distance to the weight of each image,
    for which one singular value decomposition is enough. It agrees with leaving out groups in turn, also where
    there are fewer images than dimensions, at a twentieth of the work. It covers what sets of these sizes measure on average,
    with their excess. A bootstrap would not do: images drawn twice are an excess of their own.

    Args:
        features_a: of generated images, float (n, D).
        features_b: of real images, float (m, D), from the same extractor.
        extractor: what made the features, as an encoder's name. Call the result FID only where it is that Inception.
        seed: of the halves.

    Returns:
        ``value`` as others report it, not corrected; named ``frechet/<extractor>``; ``n`` is the size of the smaller
        set. ``details`` holds ``extractor``, ``n_a``, ``n_b``, ``dimensions``, ``standard_error``, ``without_excess``
        (the value less its excess, told by how much larger it is for halves; near 0, and at times below it, for images of one
        kind), ``note``, which is not empty where there are fewer images than dimensions, and the
        `figment.evaluate.sets.floor`.

    Raises:
        FigmentError: as `frechet_distance` does, and for fewer than `FEWEST` images of either kind.
    """
    a, b = fitting(features_a, features_b, WHAT, FEWEST)
    value, error = _with_error(a, b)
    at = floor(frechet_distance, b, a, seed)
    n_a, n_b, dimensions = len(a), len(b), a.shape[1]
    smaller = min(n_a, n_b)
    note = (
        f"{smaller:,} images for {dimensions:,} dimensions: most of the distance may be excess"
        if smaller <= dimensions
        else ""
    )
    details = {
        "extractor": extractor,
        "n_a": n_a,
        "n_b": n_b,
        "dimensions": dimensions,
        "standard_error": error,
        "without_excess": _without_excess(value, n_a, n_b, at),
        "note": note,
        **at,
    }
    half = QUANTILE * error
    return Result(f"frechet/{extractor}", value, smaller, (max(0.0, value - half), value + half), details=details)


def recognisability(answers: Answers, labels: np.ndarray, class_names: Sequence[str], classifier: str) -> Result:
    """Share of generated images that a classifier calls by the class they were asked for ("CLIP accuracy").

    He et al. 2023 ask the zero-shot ViT-B/16, another than the one they tune. It is a check on label noise, not on
    usefulness: what is easiest to recognise is not the best to learn from.

    Args:
        answers: of the generated images: logits, float (n, N), or predictions, int (n,).
        labels: int (n,) in [0, N), the classes that were asked for.
        class_names: N names.
        classifier: whose answers these are.

    Returns:
        As `figment.evaluate.accuracy.accuracy`, in [0, 1], with ``details["classifier"]`` and ``details["f1"]``, the mean over classes of F1, as
        Fan et al. 2024 (arXiv 2312.04567) report it: of a class that is called by another's name too often, accuracy says nothing. The
        interval is for more images of the same kind, and takes them to be independent of one another.

    Raises:
        FigmentError: as `figment.evaluate.accuracy.accuracy` does.
    """
    result = accuracy(answers, labels, class_names, "recognisability")
    confusion = np.array(result.details["confusion"])  # (N, N), true by predicted
    asked, called = confusion.sum(axis=1), confusion.sum(axis=0)
    there = asked + called > 0
    f1 = 2 * confusion.diagonal()[there] / (asked + called)[there]
    return replace(result, details={**result.details, "classifier": classifier, "f1": float(f1.mean())})


@dataclass(frozen=True)
class _Set:
    """``features`` (n, D) as they were given, and ``root`` (r, D), r = min(n, D): ``root^T root`` is their covariance."""

    features: np.ndarray
    mean: np.ndarray
    root: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> _Set:
        n, dimensions = x.shape
        mean = np.zeros(dimensions)
        for _, some in chunks(x):
            mean += some.sum(axis=0) / n
        centred = (some - mean for _, some in chunks(x))
        if n <= dimensions:
            root = np.concatenate(list(centred))
        else:  # of what is above another, R of a QR decomposition is that of R of the first and the second
            root = np.zeros((0, dimensions))
            for some in centred:
                root = np.asarray(np.linalg.qr(np.concatenate([root, some]), mode="r"))
        return cls(x, mean, root / math.sqrt(n - 1))

    def influence(self, gap: np.ndarray, turned: np.ndarray) -> np.ndarray:
        """The derivative of the distance to the weight of each image, but for a constant: float (n,). ``turned`` is (r, D)."""
        return np.concatenate(list(self._influence(gap, turned)))

    def _influence(self, gap: np.ndarray, turned: np.ndarray) -> Iterator[np.ndarray]:
        n, dimensions = self.features.shape
        few = n <= dimensions  # then an image is its own row of the root, and else one of the root's rows mixed
        mixed = math.sqrt(n - 1) * turned if few else np.linalg.pinv(self.root) @ turned
        for rows, some in chunks(self.features):
            centred = some - self.mean
            moved = mixed[rows] if few else centred @ mixed  # (m, D)
            yield 2 * centred @ gap + np.einsum("nd,nd->n", centred - moved, centred)


def _distance(a: _Set, b: _Set, overlap: float) -> float:
    gap = a.mean - b.mean
    distance = gap @ gap + np.square(a.root).sum() + np.square(b.root).sum() - 2 * overlap
    return max(0.0, float(distance))  # rounding may leave -1e-15


def _with_error(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The distance and its standard error.

    The nuclear norm of ``P = root_a root_b^T`` has the derivative ``U V^T`` (P = U S V^T), so along ``x x^T - C_a`` that of
    its double is ``q^T U V^T root_b x``, where x is ``root_a^T q``, less a constant.
    """
    first, second = _Set.of(a), _Set.of(b)
    u, s, vt = np.linalg.svd(first.root @ second.root.T, full_matrices=False)
    turn, gap = u @ vt, first.mean - second.mean  # (r_a, r_b)
    of_a = first.influence(gap, turn @ second.root)
    of_b = second.influence(-gap, turn.T @ first.root)
    variance = of_a.var(ddof=1) / len(a) + of_b.var(ddof=1) / len(b)
    return _distance(first, second, float(s.sum())), math.sqrt(variance)


def _without_excess(value: float, n_a: int, n_b: int, at: dict[str, Any]) -> float:
    """The excess falls as ``1 / n + 1 / m`` (Chong and Forsyth 2020, section 3), so two sizes tell what no excess would leave."""
    ratio = at["floor_n"] / 2 * (1 / n_a + 1 / n_b)
    return float((value - ratio * at["at_floor_n"]) / (1 - ratio))
