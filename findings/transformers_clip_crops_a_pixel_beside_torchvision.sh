#!/bin/sh
# transformers 5.24.0: CLIPImageProcessor cuts the middle out of an image from int(margin / 2). torchvision's CenterCrop, which CLIP's own
# preprocessing and open_clip's are made of, takes round(margin / 2), to the even number. So where the margin is 3 more than a multiple of 4,
# the same checkpoint sees its image one pixel further left (or up) in transformers: a photograph of 640 x 427, resized to 335 x 224, is cut
# at column 55 by one and at 56 by the other. Whoever writes the preparation down for a third program has to know whose it was.
# Seen: an image whose pixels say in which column they are, 224 x 335, which needs no resizing; the first column of what is left.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet transformers==5.24.0 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 pillow
"$folder/venv/bin/python" -W ignore - <<'EOF'
import numpy as np, torchvision, transformers
from PIL import Image
from torchvision.transforms import CenterCrop

processor = transformers.CLIPImageProcessor(do_normalize=False, do_rescale=False)  # CLIP's own: shorter side 224, crop 224
first = {}
for width in (333, 334, 335, 336):
    columns = np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None], (224, width, 3)) % 250
    image = Image.fromarray(np.ascontiguousarray(columns))
    theirs = int(np.asarray(processor(images=[image], return_tensors="np")["pixel_values"])[0, 0, 0, 0])
    first[width] = theirs, int(np.asarray(CenterCrop(224)(image))[0, 0, 0])
print(f"transformers {transformers.__version__}, torchvision {torchvision.__version__}: first column by width: {first}")
assert first == {333: (54, 54), 334: (55, 55), 335: (55, 56), 336: (56, 56)}
EOF
