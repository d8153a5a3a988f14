#!/bin/bash
# Images are made, looked through by hand, trained on and taken away: a page in the browser, then a model in ONNX that answers as
# figment does. About 40 seconds of CPU, on the embedded starter, without a network.
#
#   examples/curate.sh [DIR]
#
# Needs pip install 'figment-vision[onnx]'. DIR (default: a new one) gets photos/test, 10 images a class. Put your own in their place.
set -euo pipefail

where=${1:-$(mktemp -d)}
python "$(dirname "$0")/photographs.py" "$where" "coat,sandal" photos/test=starter/test:0:10
cd "$where"

[ -e recipe.yaml ] || cat >recipe.yaml <<'RECIPE'
task:
  class_names: [coat, sandal]
  real: {test: photos/test}
prompts: {kind: templates}
generate: {model: starter, images_per_class: 10, num_inference_steps: 2}
train: {encoder: starter/clip}
RECIPE

figment generate recipe.yaml --out run

echo "Open the address: r rejects an image and goes on, u takes it back. Then Ctrl-C here, and the rest follows."
figment look run

figment run recipe.yaml --out run       # trains on what is left
figment export run --to onnx --out onnx
figment predict run photos/test --probabilities --out predictions.csv

python - <<'PYTHON'
import csv
import json

import numpy as np
import onnxruntime
from PIL import Image

rows = list(csv.DictReader(open("predictions.csv", encoding="utf-8")))
session = onnxruntime.InferenceSession("onnx/model.onnx")
names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
# These photographs have the size of the model already. onnx/README.md has the lines that cut others to it.
images = np.stack([np.asarray(Image.open(row["image"]).convert("RGB")) for row in rows])
theirs = session.run(["probabilities"], {"images": images})[0]
ours = np.array([[float(row[f"p({name})"]) for name in names] for row in rows])
same = sum(names[k] == row["class"] for k, row in zip(theirs.argmax(1), rows))
print(f"ONNX Runtime and figment predict agree on {same} of {len(rows)} images; no probability differs by more than {abs(ours - theirs).max():.0e}.")
PYTHON
