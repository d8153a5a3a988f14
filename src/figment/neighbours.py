"""Nearest neighbours among unit features, block by block: what is held in memory does not grow with the sets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 2048  # rows and columns of cosines held at a time: 16 MB


def nearest(
    queries: np.ndarray,
    keys: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
    block: int = BLOCK,
) -> tuple[np.ndarray, np.ndarray]:
    """The cosine of each query and its nearest key, ``float32 (Q,)`` up to 1, and which key that is, ``int64 (Q,)``.

    ``queries`` ``float32 (Q, D)`` and ``keys`` ``(K, D)`` are L2-normalised. ``groups``, ``int (Q,)`` and ``(K,)``, leave out the keys of
    a query's own group: labels give the nearest image of another class, row numbers on both sides the nearest one but
    itself. Of equally near keys the first; -inf and -1 where no key is left. The cost is Q * K * D multiplications.
    """
    cosine = np.full(len(queries), -np.inf, np.float32)
    index = np.full(len(queries), -1, np.int64)
    for rows in slices(len(queries), block):
        for columns in slices(len(keys), block):
            cosines = queries[rows] @ keys[columns].T  # (b, b)
            if groups is not None:
                cosines[groups[0][rows, None] == groups[1][columns]] = -np.inf
            best = cosines.argmax(1)
            found = cosines[np.arange(len(best)), best]
            better = found > cosine[rows]
            cosine[rows][better] = found[better]
            index[rows][better] = best[better] + columns.start
    return np.minimum(cosine, 1), index


def nearest_of_own(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How near each of ``rows``, ``int64 (n,)``, comes to another of ``features`` ``float32 (N, D)``: cosines, ``float32 (n,)``."""
    return nearest(features[rows], features, (rows, np.arange(len(features))))[0]


def nearest_few(query: np.ndarray, keys: np.ndarray, few: int) -> tuple[np.ndarray, np.ndarray]:
    """The cosines of one query ``float32 (D,)`` and its ``few`` nearest keys, ``float32 (k,)`` up to 1, nearest first, and which keys these
    are, ``int64 (k,)``. Of equally near keys the first."""
    cosines = keys @ query  # (K,)
    order = np.argsort(-cosines, kind="stable")[:few]
    return np.minimum(cosines[order], 1), order


def limit_of(cosine: np.ndarray, quantile: float) -> float:
    """The cosine above which an image is a copy: nearer to another than a share ``quantile`` of images are that are none."""
    return float(np.quantile(cosine.astype(np.float64), quantile))


def slices(n: int, block: int) -> Iterator[slice]:
    """``range(n)`` in pieces of ``block``, the last one shorter."""
    return (slice(start, min(start + block, n)) for start in range(0, n, block))
