"""Images that are nearly all black, for whatever reason: then something read them wrongly, here or before."""

from __future__ import annotations

import logging

import numpy as np

from figment.types import Images

log = logging.getLogger(__name__)

BLACK = 32  # of 255: no pixel of a black image is brighter. Night and microscopy have bright spots; 12 bits read as 16 end at 15
LOOKED_AT, NEARLY_ALL = 32, 0.9


def warn_of_black(images: Images, where: str) -> None:
    """Say so where nine of ten images are black, by some that are spread over all. They must be readable."""
    some = np.unique(np.linspace(0, len(images) - 1, min(LOOKED_AT, len(images))).astype(int))
    black = sum(int(image.max(initial=0)) < BLACK for i in some for image in images.load([i]))
    if black and black >= NEARLY_ALL * len(some):
        log.warning(
            f"nearly every image in {where} is black ({black} of {len(some)} that were looked at have no pixel above {BLACK} of 255), such as"
            f" {images.ids[int(some[0])]}. Open one and look. Save them again so that white is 255, or 65535 with 16 bits."
        )
