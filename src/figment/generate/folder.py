"""Images that are there already, in the place of a generator: a set from anywhere is judged as one's own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from figment import records
from figment.errors import FigmentError
from figment.images_in import Unreadable, open_images
from figment.images_in.provenance import Stored
from figment.task import real_folder
from figment.words import printable


class FolderGenerator:
    """ "Makes" the images of a set: the one that stands at the place which the prompt's id ends in (``003-cat/00127``, see
    :class:`figment.prompts.of_images.OfImages`).

    Args:
        where: as :func:`figment.images_in.open_images` takes it, for the classes ``class_names``, or ``own_names``.
    """

    wants_ids = True
    batch_size = 64

    def __init__(self, where: str, class_names: Sequence[str], own_names: Sequence[str] = ()):
        self.where, self.class_names, self.own_names = where, list(class_names), list(own_names)

    def __reduce__(self) -> tuple[Any, ...]:
        return FolderGenerator, (self.where, self.class_names, self.own_names)  # other processes open it themselves

    @cached_property
    def images(self) -> Stored:
        """Raises FigmentError where there are none, or of other classes."""
        return open_images(real_folder(self.where), self.class_names, self.own_names)

    @cached_property
    def fingerprint(self) -> str:
        """Of the images and their classes, in their order; wherever they lie."""
        return records.fingerprint(["folder", 1, list(self.images.digests), self.images.labels.tolist()])

    def __call__(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        init: np.ndarray | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[np.ndarray | None]:
        """One ``uint8 (H, W, 3)`` image for each of ``ids``, of any sizes; without ids, which a trial has none of, those at the places
        ``seeds``. Raises ValueError for an image that cannot be read."""
        if init is not None:
            raise FigmentError("Images that are there already start from no others (init). Leave real guidance out.")
        places = seeds if ids is None else [int(id.rpartition("/")[2]) for id in ids]
        try:
            return list(self.images.load([place % len(self.images) for place in places]))
        except Unreadable as error:  # an attempt that failed, and no reason to stop
            raise ValueError(printable(f"{error.where}: {error.reason}")) from error

    def describe(self) -> dict[str, Any]:
        """For the dataset card."""
        return {
            "model": f"not known: {len(self.images):,} images that were there",
            "licence": "not stated",
            "sampler": "not known",
        }
