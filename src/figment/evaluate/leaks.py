"""Images as near to each other as copies are, by features; and classes that can be told by how their images were made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from figment.errors import FigmentError
from figment.neighbours import limit_of, nearest, nearest_of_own

SHARE = 0.001  # of different photographs, that are taken for copies
LEVEL = 0.001  # of tests that warn: they are made in every run
MOST_OWN = 10_000  # images whose nearest ones the limit is taken from
RATIO = 2.0  # between the odds of a class and those of the others


@dataclass(frozen=True)
class Near:
    """``pairs`` int64 (k, 2), positions of a query and its nearest reference, the nearest first; ``cosine`` float32 (k,) above
    ``limit``. ``by_chance``: how many there would be among different photographs. ``p``: how likely so many are then."""

    pairs: np.ndarray
    cosine: np.ndarray
    limit: float
    by_chance: float
    p: float

    @property
    def surely(self) -> bool:
        """More than chance."""
        return self.p < LEVEL


def near_copies(queries: np.ndarray, reference: np.ndarray, seed: int = 0) -> Near:
    """The queries that are nearer to a reference than 999 of 1,000 references are to another one.

    Unit features ``float32 (Q, D)`` and ``(R, D)``, R > 1. The limit is the quantile of the filter `memorised`, so it fits any encoder
    and any density; new photographs of the same kind, compared with as many, pass it once in 1,000. ``by_chance`` and ``p``
    allow for the limit's being an estimate. References come near one another in pairs, so that m of n beyond the limit are m / 2
    events, and the number of queries beyond it is negative binomial with m / 2 + 1 successes.

    On Fashion-MNIST with the starter's CLIP, split at random into different photographs (2,000 and 10,000; 500 and 10,000; 2,000,
    1,000 and 200 and 2,000, 1,000 and 2,000; 660 splits): 2.7, .6, 4.1, 2.2 and .5 pairs, by chance 2.4, .6, 4.0, 2.1 and .4, and
    p < .001 in one. Of its 10,000 test images 4 are near to one of 10,000 in the pool. Copies found there: JPEG of quality 90, 75, 60,
    30 in 100, 99, 92, 41 %; noise of 5 grey levels 100 %. Not found: a shift of one pixel of 32, 10 % more light, half the
    resolution, a mirror image (0 to 1 %), which that encoder sees as other images.

    The cost is (Q + min(R, 10,000)) * R * D multiplications. Raises FigmentError for fewer than two references.
    """
    from scipy.stats import nbinom  # takes most of a second, and not every command asks

    if len(reference) < 2:
        raise FigmentError("How near different photographs come to each other takes two of them or more.")
    own = np.arange(len(reference))
    if len(own) > MOST_OWN:
        own = np.sort(np.random.default_rng(seed).choice(own, MOST_OWN, replace=False))
    usual = nearest_of_own(reference, own)
    limit = limit_of(usual, 1 - SHARE)
    beyond, n = int((usual > limit).sum()), len(usual)
    cosine, index = nearest(queries, reference)
    found = np.flatnonzero(cosine > limit)
    found = found[np.argsort(-cosine[found], kind="stable")]
    p = float(nbinom.sf(len(found) - 1, beyond / 2 + 1, n / (n + 2 * len(queries))))
    return Near(np.stack([found, index[found]], 1), cosine[found], limit, (beyond + 2) * len(queries) / n, p)


@dataclass(frozen=True)
class Shortcut:
    """How far the class that stands out most does so. ``ratio``: its odds of being generated over those of the other classes,
    with its 95 % interval; ``p`` of a chi-square test that all classes have the same share of generated images."""

    label: int
    ratio: float
    ci: tuple[float, float]
    share: float
    share_of_others: float
    p: float

    @property
    def is_one(self) -> bool:
        """Whether a classifier can gain from it: surely, and by a factor of more than two."""
        return self.p < LEVEL and not 1 / RATIO <= self.ratio <= RATIO


def source_shortcut(synthetic: np.ndarray, real: np.ndarray) -> Shortcut:
    """Does it tell the class whether an image is generated? Counts of images by class, int (N,), N > 1, some of each kind.

    Odds, not shares: where one image in ten is real, shares of .9 and .95 look alike, and a real image is twice as likely to
    be of the first class. Where a count is 0, half an image is added to all (Haldane).
    """
    from scipy.stats import chi2_contingency

    table = np.stack([synthetic, real]).astype(np.float64)  # (2, N)
    own, others = table, table.sum(1, keepdims=True) - table
    if not (own.all() and others.all()):
        own, others = own + 0.5, others + 0.5
    logs = np.log(own[0] / own[1]) - np.log(others[0] / others[1])  # (N,)
    label = int(np.abs(logs).argmax())
    error = np.sqrt((1 / own[:, label] + 1 / others[:, label]).sum())
    ends = np.exp(logs[label] + np.array([-1.96, 1.96]) * error)
    seen = table[:, table.sum(0) > 0]
    p = float(chi2_contingency(seen).pvalue) if seen.shape[1] > 1 and (seen.sum(1) > 0).all() else 1.0
    shares = (table[0, label] / max(1.0, table[:, label].sum()), _share_without(table, label))
    return Shortcut(label, float(np.exp(logs[label])), (float(ends[0]), float(ends[1])), *shares, p)


def _share_without(table: np.ndarray, label: int) -> float:
    rest = np.delete(table, label, 1)
    return float(rest[0].sum() / max(1.0, rest.sum()))


def shortcut_sentence(found: Shortcut, class_name: str) -> str:
    """What it means, and what to do."""
    return (
        f"Of the images of {class_name[:40]!r} that are learnt from, {100 * found.share:.1f} % are generated, of the other classes"
        f" {100 * found.share_of_others:.1f} %: how an image was made tells something of its class, and a classifier may learn that"
        " in place of what it shows. Keep as many generated images for each real one in every class: with train.images_per_class,"
        " or the clip filter's rule top_k."
    )
