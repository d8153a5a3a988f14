"""A sample's seed: a hash of what it is, so that neither the machine, the batch nor a retry can change its noise."""

from __future__ import annotations

import hashlib


def sample_seed(run_seed: int, prompt_id: str, k: int) -> int:
    """The seed of the ``k``-th image of a prompt: the same on every machine, in [0, 2**63).

    63 bits fit Parquet's and torch's signed integers. torch's CPU generator looks at the lower 32 of them, so in a set
    of a million a hundred pairs share their noise; pairs of one prompt, which would be the same image, do not happen.
    """
    key = f"{run_seed}\0{prompt_id}\0{k}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def stage_seed(seed: int, stage: int) -> int:
    """The seed with which a cascade's stage makes an image: of the first (0) the image's own, of each other one that shares no noise."""
    return seed if stage == 0 else sample_seed(seed, "stage", stage)
