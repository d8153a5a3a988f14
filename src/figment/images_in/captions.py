"""Which images show one caption, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from figment.images_in.relabelled import Relabelled
from figment.images_in.shards import ShardImages
from figment.types import Images


@dataclass(frozen=True)
class Captions:
    """``groups`` int64 (N,): the same number for images of one caption. ``texts``: what it says, of each image."""

    groups: np.ndarray
    texts: Sequence[str]


def captions_of(images: Images) -> Captions | None:
    """Of images that were made from texts; None where nothing says what they were made from.

    Images under the labels of others have their captions as well.
    """
    if isinstance(images, Relabelled):
        own = captions_of(images.images)
        source = images.source
        return None if own is None else Captions(own.groups[source], [own.texts[i] for i in source])
    if not isinstance(images, ShardImages) or images.column("group") is None or not images.prompts:
        return None
    return Captions(images.groups, images.prompts)
