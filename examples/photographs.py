"""A few of the starter's images as photographs of yours would lie: in class folders. The other examples begin with it.

python examples/photographs.py DIR CLASS,CLASS FOLDER=SOURCE:FIRST:LAST ...
python examples/photographs.py work coat,bag photos/train=starter/pool:0:5 photos/test=starter/test:0:20
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import figment

class_names = figment.load_task("fashion").class_names
if len(sys.argv) < 4 or not set(sys.argv[2].split(",")) <= set(class_names):
    sys.exit(f"{__doc__}\nClasses: {', '.join(class_names)}")
for part in sys.argv[3:]:
    folder, _, told = part.partition("=")
    source, first, last = told.split(":")
    if Path(sys.argv[1], folder).exists():
        print(f"{Path(sys.argv[1], folder)} is there already, and is left as it is.")
        continue
    images = figment.open_images(source, class_names)
    for name in sys.argv[2].split(","):
        out = Path(sys.argv[1], folder, name.replace(" ", "_"))
        out.mkdir(parents=True, exist_ok=True)
        own = np.flatnonzero(images.labels == class_names.index(name))[int(first) : int(last)]
        for i, image in enumerate(images.load(own)):
            Image.fromarray(image).save(out / f"{i:03d}.png")
