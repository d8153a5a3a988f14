"""What a VAE makes of start images: diffusers' image-to-image pipelines encode them one by one at every call, and a run has few of them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKLOutput
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

CACHE_BYTES = 256 * 2**20  # of encoded images: two thousand of SD's 512 pixels


class StartImages:
    """Encodes each start image once, those that a batch lacks together, and remembers as many as CACHE_BYTES hold.

    What is remembered is the distribution; a pipeline draws from it, with the seed of each sample, and scales what it drew.
    """

    def __init__(self, vae: Any):
        self.vae = vae
        self.encoded: OrderedDict[bytes, torch.Tensor] = (
            OrderedDict()
        )  # (2 C, h, w) each, the least recently used first

    @contextmanager
    def applied(self, pixels: torch.Tensor) -> Iterator[None]:
        """One call of a pipeline with the images ``pixels`` ``float32 (B, C, H, W)`` in [0, 1], which it encodes in their order."""
        encode = self.vae.encode
        keys = [hashlib.blake2b(one.numpy().tobytes(), digest_size=16).digest() for one in pixels]
        left: list[torch.Tensor] = []

        def remembered(image: torch.Tensor) -> AutoencoderKLOutput:
            """``image`` is one row, as the pipeline has placed it: in [-1, 1]."""
            if not left:
                lacking = {key: row for key, row in zip(keys, pixels, strict=True) if key not in self.encoded}
                if lacking:
                    rows = (2 * torch.stack([*lacking.values()]) - 1).to(image)
                    self.encoded.update(zip(lacking, encode(rows).latent_dist.parameters, strict=True))
                left.extend(self._use(key) for key in keys)
            return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(left.pop(0)[None]))

        self.vae.encode = remembered
        try:
            yield
        finally:
            del self.vae.encode
            while len(self.encoded) > 1 and sum(one.nbytes for one in self.encoded.values()) > CACHE_BYTES:
                self.encoded.popitem(last=False)

    def _use(self, key: bytes) -> torch.Tensor:
        self.encoded.move_to_end(key)
        return self.encoded[key]
