#!/bin/sh
# Pillow 13.0.0: a TIFF whose PhotometricInterpretation is WhiteIsZero (0) is inverted on reading with 1, 2, 4 and 8 bits a sample, and not with
# 16: the same picture, saved with 8 and with 16 bits by another program, comes out once as it is and once as its negative, with no
# warning. (Big-endian files of 16 bits and WhiteIsZero cannot be opened.)
# Seen: black, grey and white written as WhiteIsZero by tifffile: 8 bits read as 0, 155, 255; 16 bits as 65535, 25700, 0.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'EOP'
import sys, numpy as np, PIL, tifffile
from PIL import Image

read = {}
for dtype, scale in (("uint8", 1), ("uint16", 257)):
    path = f"{sys.argv[1]}/{dtype}.tif"
    stored = (np.array([[255, 100, 0]]) * scale).astype(dtype)  # WhiteIsZero: the highest number is black
    tifffile.imwrite(path, stored, photometric="miniswhite", byteorder="<")
    image = Image.open(path)
    read[dtype] = (image.mode, np.asarray(image).tolist()[0])
print(f"Pillow {PIL.__version__}, tifffile {tifffile.__version__}: black, grey, white as WhiteIsZero read as {read}")
assert read == {"uint8": ("L", [0, 155, 255]), "uint16": ("I;16", [65535, 25700, 0])}
EOP
