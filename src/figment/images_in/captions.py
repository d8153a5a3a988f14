"""Which images show one caption, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from figment import records
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


def shown(images: Images, captions: bool = False) -> str:
    """The fingerprint of labelled images: of what they show and what they are called, and with ``captions`` of their texts, for those
    who learn from these."""
    own = captions_of(images) if captions else None
    texts = [] if own is None else [own.groups.tolist(), list(own.texts)]
    return records.fingerprint([list(images.digests), np.asarray(images.labels).tolist(), *texts])
