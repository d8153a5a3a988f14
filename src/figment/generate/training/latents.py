"""What a VAE sees in images, computed once: in memory, or for large sets in files that are mapped into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from figment.checkpoint import Checkpoint
from figment.generate.opening import quiet

ENCODED_PIXELS = 2**20  # that go through the VAE at a time


@dataclass(frozen=True)
class Latents:
    """Mean and standard deviation of what a VAE sees in each image, as it is and perhaps mirrored: float32 (1 or 2, N, C, h, w)."""

    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return self.mean.shape[1]

    @property
    def views(self) -> int:
        """2 with mirrored ones, else 1."""
        return self.mean.shape[0]

    def of(self, view: Tensor, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and deviation of some images, float32 (B, C, h, w) each; which view of each, int64 (B,)."""
        return self.mean[view, index], self.std[view, index]


def encode_images(vae: Any, pixels: Iterator[Tensor], horizontal_flip: bool = False) -> Latents:
    """What the VAE sees, in batches that are given as float32 (B, C, H, W) in [-1, 1]. Afterwards it lies on the CPU, in float32."""
    with quiet():
        device, vae = vae.device, vae.to(torch.float32)  # SDXL's overflows in half precision
    means, stds = [], []
    for x in pixels:
        views = torch.stack([x, x.flip(-1)] if horizontal_flip else [x])
        with torch.inference_mode():
            seen = vae.encode(views.flatten(0, 1).to(device)).latent_dist
        means.append(seen.mean.unflatten(0, views.shape[:2]).cpu())
        stds.append(seen.std.unflatten(0, views.shape[:2]).cpu())
    vae.to("cpu")  # it is not needed any more
    return Latents(torch.cat(means, 1).clone(), torch.cat(stds, 1).clone())


@dataclass(frozen=True)
class StoredLatents:
    """The same in files of ``per_file`` images, the last of which may hold fewer. What is not looked at takes no memory."""

    files: Sequence[Latents]
    per_file: int

    def __len__(self) -> int:
        return sum(len(file) for file in self.files)

    @property
    def views(self) -> int:
        return self.files[0].views

    def of(self, view: Tensor, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """As `Latents.of`."""
        places = [(v, *divmod(int(i), self.per_file)) for v, i in zip(view, index, strict=True)]
        mean = torch.stack([self.files[file].mean[v, row] for v, file, row in places])
        return mean, torch.stack([self.files[file].std[v, row] for v, file, row in places])


def store_latents(
    vae: Any,
    pixels: Callable[[range], Iterator[Tensor]],
    n: int,
    per_file: int,
    folder: Path,
    horizontal_flip: bool = False,
) -> StoredLatents:
    """What the VAE sees of ``n`` images, kept in a folder that must be of nothing else; files that are there are not made again.

    ``pixels`` gives some of them as `encode_images` takes them.
    """
    device, files = vae.device, []
    for number, start in enumerate(range(0, n, per_file)):
        file = Checkpoint(folder / f"{number:05d}.safetensors", f"latents {number}")
        found = file.read()
        if found is None:
            rows = range(start, min(start + per_file, n))
            seen = encode_images(vae.to(device), pixels(rows), horizontal_flip)
            file.write({"mean": seen.mean, "std": seen.std})
            found = file.read()  # mapped, where it was in memory
        assert found is not None
        files.append(Latents(found["mean"], found["std"]))
    vae.to("cpu")
    return StoredLatents(files, per_file)
