"""Test images that come in groups (bursts, videos, patients) say less than as many independent ones."""

from __future__ import annotations

import numpy as np

from figment.errors import FigmentError


def variance_of_mean(values: np.ndarray, groups: np.ndarray) -> tuple[float, int]:
    """The variance of the mean of ``values``, float (n,), whose images are independent between ``groups``, int (n,), only; and its
    degrees of freedom, the number of groups less one.

    The usual cluster-robust estimate: what the images of a group miss the mean by is summed up, and the sums are squared (CR1).
    Of groups of one size these are the sums less their mean; of others it is the spread of the ratio, not of the groups' sizes.
    One group alone has no spread: nought with nought degrees of freedom.
    """
    values = np.asarray(values, np.float64)
    if np.shape(groups) != values.shape:
        raise FigmentError("Groups need one number for each test image, the same images everywhere.")
    of_group = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(of_group, weights=values - values.mean())
    n_groups = len(sums)
    if n_groups < 2:
        return 0.0, 0
    return float(n_groups / (n_groups - 1) * np.square(sums).sum() / len(values) ** 2), n_groups - 1
