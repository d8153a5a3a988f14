#!/bin/sh
# prdc 0.2: a real row that is there more than nearest_k times is covered by nothing, not even by itself. Its k-th nearest neighbour is a
# copy at distance 0, and only what is strictly nearer than that counts as inside of its ball. A set with frames of a still video, blank
# pages or "no image" placeholders so has a ceiling far below 1, in coverage and in precision: not the generator's fault, and not said.
# Take the copies out first, or count the rows that are there more than k times and read coverage as a share of the rest.
# Seen: 100 rows of which 40 are one image, against the very same 100 rows: coverage .6, precision .6. Without the copies: 1 and 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet prdc==0.2 numpy==2.4.6 scikit-learn==1.9.1
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib, io
from importlib.metadata import version

import numpy as np
from prdc import compute_prdc


def against_itself(rows: np.ndarray) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        return compute_prdc(real_features=rows, fake_features=rows.copy(), nearest_k=5)


rows = np.random.default_rng(0).integers(0, 256, (100, 16)).astype(np.float64)
rows[:40] = rows[0]
copies, single = against_itself(rows), against_itself(rows[39:])
for what, found in (("with 40 copies", copies), ("without", single)):
    print(f"prdc {version('prdc')}, a set against itself, {what}: coverage {found['coverage']:.2f}, precision {found['precision']:.2f}")
assert copies["coverage"] == copies["precision"] == 0.6
assert single["coverage"] == single["precision"] == 1
PYTHON
