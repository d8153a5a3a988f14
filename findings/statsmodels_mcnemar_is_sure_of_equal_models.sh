#!/bin/sh
# statsmodels 0.15.0: mcnemar(table, exact=False) of two classifiers that agree about every image, so that there is nothing in which they differ, gives
# an infinite statistic and p = 0: the strongest evidence there can be, that two equal models are not equal. The correction for continuity,
# on by default, takes 1 from a difference of 0 and divides its square by 0. NumPy's RuntimeWarning is all that is said, and a table
# of tests (one a class, or one a pair of seeds) that is sorted by p, or corrected for many tests, has these pairs on top.
# exact=True, the default, says p = 1; without the correction it is nan. Ask for no test where the two off-diagonal counts are both 0.
# Seen: counts 50, 0, 0, 40: p = 0 with exact=False, 1 with exact=True; with one image apart (50, 1, 0, 40) p = 1 for both; in Holm's
# correction of five tests the equal pair is the only one that is rejected.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet statsmodels==0.15.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import statsmodels
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

warnings.simplefilter("ignore", RuntimeWarning)
tables = {(b, c): [[50, b], [c, 40]] for b, c in ((0, 0), (1, 0), (3, 4), (9, 5), (30, 20))}
chi = {cells: mcnemar(table, exact=False).pvalue for cells, table in tables.items()}
exact = {cells: mcnemar(table, exact=True).pvalue for cells, table in tables.items()}
rejected = [cells for cells, no in zip(chi, multipletests(list(chi.values()), method="holm")[0]) if no]
for cells in tables:
    print(f"statsmodels {statsmodels.__version__}, only one of them right {cells}: p = {chi[cells]:.2f}, exact {exact[cells]:.2f}")
print(f"rejected by Holm's correction: {rejected}; statistic {mcnemar(tables[0, 0], exact=False).statistic}")
assert chi[0, 0] == 0 and exact[0, 0] == 1
assert all(p > 0.1 for cells, p in chi.items() if cells != (0, 0))
assert rejected == [(0, 0)]
PYTHON
