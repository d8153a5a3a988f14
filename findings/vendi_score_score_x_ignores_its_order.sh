#!/bin/sh
# vendi-score 0.0.3: `score_X(X, q=...)`, the usual way in with features, takes the order q and does not use it: every order gives the
# score of order 1. `score_dual` and `score_K` of the same rows use it. Orders are chosen on purpose (small ones count rare kinds, "inf" the
# commonest alone), so a table of scores by order, made with score_X, has one number in all of its cells, and nothing says why.
# Use score_dual, or score_K(X @ X.T) with rows of unit length.
# Seen: five orthogonal kinds, of 50, 25, 12, 8 and 5 rows in 100: score_dual 5.00, 3.67, 2.98, 2.00 for q = 0, 1, 2, "inf"; score_X 3.67 for all.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet vendi-score==0.0.3 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from vendi_score import vendi

rows = np.repeat(np.eye(5), (50, 25, 12, 8, 5), axis=0)
orders = (0, 1, 2, "inf")
dual = [vendi.score_dual(rows, q=q) for q in orders]
whole = [vendi.score_K(rows @ rows.T, q=q) for q in orders]
direct = [vendi.score_X(rows, q=q) for q in orders]
for name, found in (("score_dual", dual), ("score_X", direct)):
    print(f"vendi-score {version('vendi-score')}, {name}: " + ", ".join(f"q = {q}: {x:.2f}" for q, x in zip(orders, found)))
assert np.round(dual, 2).tolist() == [5.0, 3.67, 2.98, 2.0]
assert np.allclose(whole[1:], dual[1:])
assert np.round(direct, 2).tolist() == [3.67] * 4
PYTHON
