#!/bin/sh
# ImageHash 4.3.2, imagededup 0.3.3.post2: both give an image a perceptual hash (pHash) of 64 bits, written as 16 hexadecimal digits, from a grey
# image of 32 x 32 and the low frequencies of its cosine transform. ImageHash compares these 64 numbers with the median of all of them,
# imagededup with the median of the 63 without the first. With an even count the median lies between two numbers, with an odd one it is one of
# them: so the two hashes of one and the same picture practically never agree, and mostly differ in a single bit. Hashes that were
# stored by one of them and are looked up with the other find no copy at all, if equal hashes are looked for, as cleanvision does with ImageHash.
# Keep the name of the library beside stored hashes, and allow a distance.
# Seen: 60 pictures, each hashed by both from the same pixels: no pHash is equal, 59 are apart by 1 bit and 1 by 3.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet imagededup==0.3.3.post2 imagehash==4.3.2 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 scipy==1.17.1 pillow==13.0.0
"$folder/venv/bin/python" - <<'PYTHON'
from collections import Counter
from importlib.metadata import version

import imagehash
import numpy as np
from imagededup.methods import PHash
from PIL import Image

SIDE = 256
rng, hasher = np.random.default_rng(0), PHash(verbose=False)
frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
frequency[0, 0] = 1


def picture() -> np.ndarray:
    """Coloured clouds: noise with a photograph's share of high and low frequencies."""
    waves = np.fft.fft2(rng.normal(size=(SIDE, SIDE, 3)), axes=(0, 1)) / frequency[..., None] ** 1.2
    clouds = np.fft.ifft2(waves, axes=(0, 1)).real
    return ((clouds - clouds.min()) / np.ptp(clouds) * 255).astype(np.uint8)


bits = Counter()
for _ in range(60):
    pixels = picture()
    theirs, others = imagehash.phash(Image.fromarray(pixels)), imagehash.hex_to_hash(hasher.encode_image(image_array=pixels))
    bits[int(theirs - others)] += 1
print(f"ImageHash {version('imagehash')}, imagededup {version('imagededup')}: bits by which the pHashes of 60 pictures differ: {dict(bits)}")
assert bits[0] == 0 and bits[1] >= 50
PYTHON
