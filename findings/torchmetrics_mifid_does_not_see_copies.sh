#!/bin/sh
# torchmetrics 1.9.0: MemorizationInformedFrechetInceptionDistance is to punish generators that hand out their training images. Its authors (Bai et
# al., 2021) take, for each generated image, the distance to the nearest real one. torchmetrics takes, for each real image, the distance to
# the nearest generated one. With fewer generated images than real ones, or a generator that copies a part of its training set, most real images
# have no copy, the mean stays large, and what consists of nothing but copies is let off as if it were new. With the two arguments
# exchanged (real=False for the real images) the distance is the authors', and the Frechet distance, which is symmetric, stays.
# Seen: 2,000 real rows of features, and 200 that are the first 200 of them, byte for byte: the score is the plain Frechet distance, punished by
# nothing; exchanged, it is more than 10^10 times as large. 200 fresh rows: the plain distance in both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torchmetrics
from torch import Tensor, nn
from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance


class Features(nn.Module):
    """Rows that are features already, in place of a network."""

    num_features = 32

    def forward(self, rows: Tensor) -> Tensor:
        return rows


def score(first: Tensor, second: Tensor, eps: float = 0.1) -> float:
    metric = MemorizationInformedFrechetInceptionDistance(Features(), cosine_distance_eps=eps).set_dtype(torch.float64)
    metric.update(first, real=True)
    metric.update(second, real=False)
    return metric.compute().item()


def nearest(rows: Tensor, others: Tensor) -> float:
    """The mean over `rows` of the cosine distance to the nearest of `others`."""
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (rows, others))
    return (1 - (a @ b.T).abs()).min(dim=1).values.mean().item()


draw = torch.Generator().manual_seed(0)
real = torch.rand(2000, 32, generator=draw, dtype=torch.float64) ** 6
made = {"copies": real[:200].clone(), "fresh": torch.rand(200, 32, generator=draw, dtype=torch.float64) ** 6}
for name, rows in made.items():
    as_told, exchanged, plain = score(real, rows), score(rows, real), score(real, rows, eps=1e-30)
    print(
        f"torchmetrics {torchmetrics.__version__}, 200 {name}: {as_told:.4g}, exchanged {exchanged:.4g}, plain Frechet distance {plain:.4g};"
        f" mean distance of a generated row to the nearest real one {nearest(rows, real):.2g}, of a real one to the nearest generated {nearest(real, rows):.2g}"
    )
    assert abs(as_told / plain - 1) < 1e-6
    assert exchanged > 1e10 * plain if name == "copies" else abs(exchanged / plain - 1) < 1e-6
PYTHON
