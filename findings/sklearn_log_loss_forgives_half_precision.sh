#!/bin/sh
# scikit-learn 1.9.1: log_loss raises probabilities to the smallest step of their own type before it takes the logarithm: 2.2e-16 in float64, 1.2e-7 in
# float32 and .00098 in float16. So the worst that a wrong answer can cost is 36, 15.9 and 6.9, and of predictions in half precision, as
# autocast gives them and as they are kept to save space, every one below a thousandth counts as a thousandth. float16 itself goes
# down to 6e-8: the values are there, and are not used. The surer of two models is forgiven what it is sure of, and can so win.
# Convert to float64 before log_loss; what has become 0 in float16 is lost either way.
# Seen: a model that is sure and wrong about 3 in 100 images, and one that is never sure: .42 and .29 in float64, .22 and .29 in float16,
# where every probability is the same number within one part in 15.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
import sklearn
from sklearn.metrics import log_loss

warnings.simplefilter("error")
labels = np.arange(1000) % 2
wrong = np.arange(1000) < 30


def probabilities(of_label: np.ndarray) -> np.ndarray:
    return np.where(np.eye(2)[labels] == 1, of_label[:, None], 1 - of_label[:, None])


sure = probabilities(np.where(wrong, 1e-6, 0.99))
unsure = probabilities(np.full(1000, 0.75))
kinds = (np.float64, np.float32, np.float16)
losses = {kind.__name__: (log_loss(labels, sure.astype(kind)), log_loss(labels, unsure.astype(kind))) for kind in kinds}
print(f"scikit-learn {sklearn.__version__}, the sure model and the unsure one: " + ", ".join(f"{name} {a:.2f} {b:.2f}" for name, (a, b) in losses.items()))
kept = sure.astype(np.float16).astype(np.float64)
kept /= kept.sum(axis=1, keepdims=True)
print(f"float16 keeps 1e-6 as {kept.min():.2e}; converted to float64 first: {log_loss(labels, kept):.2f}")
assert np.round(losses["float64"], 2).tolist() == np.round(losses["float32"], 2).tolist() == [0.42, 0.29]
assert np.round(losses["float16"], 2).tolist() == [0.22, 0.29]
assert round(log_loss(labels, kept), 2) == 0.42 and abs(kept.min() / 1e-6 - 1) < 1 / 15
PYTHON
