#!/bin/sh
# pytorch-fid 0.3.0: compute_statistics_of_path (and so `python -m pytorch_fid`) takes the images of a folder whose extension is in small letters. On
# file systems that tell case apart, ImageNet's .JPEG, a camera's .JPG and a scanner's .PNG are left out without a word, and the distance is that
# of the rest: of the generated images all, which a program named, and of the photographs those that somebody happened to rename. (Where nothing
# is left it raises.) clean-fid and torch-fidelity take them; torch-fidelity leaves .webp and .tif out, which pytorch-fid takes.
# Seen: a folder of a.png, b.JPG, c.JPEG, d.PNG, e.jpeg, f.webp: 3 of 6 images reach the network, a.png, e.jpeg and f.webp.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pytorch-fid==0.3.0 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 scipy==1.17.1 pillow==13.0.0
"$folder/venv/bin/python" -W ignore - "$folder/images" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import Image
from pytorch_fid.fid_score import compute_statistics_of_path

root = Path(sys.argv[1])
root.mkdir()
names = ["a.png", "b.JPG", "c.JPEG", "d.PNG", "e.jpeg", "f.webp"]
for shade, name in enumerate(names):
    Image.new("RGB", (8, 8), (50 * shade,) * 3).save(root / name)  # the image says which file it is of
seen = []


class Network(torch.nn.Module):
    """In Inception's place: two features, and a list of what it was shown."""

    def forward(self, images):
        seen.extend(names[round(shade * 5.1)] for shade in images.mean((1, 2, 3)).tolist())
        return [images.mean((2, 3), keepdim=True)[:, :2]]


compute_statistics_of_path(str(root), Network(), batch_size=2, dims=2, device="cpu", num_workers=0)
print(f"pytorch-fid {version('pytorch-fid')}: {len(seen)} of {len(names)} images reach the network: {', '.join(sorted(seen))}")
assert sorted(seen) == ["a.png", "e.jpeg", "f.webp"]
PYTHON
