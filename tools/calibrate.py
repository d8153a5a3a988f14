"""How often is the verdict wrong, and how often right? Measured on the starter, with the code that `figment run` uses.

    python tools/calibrate.py runs/demo runs/demo_seed_1 --out rows.jsonl

Takes the generated images of finished demos (`figment demo`; the second one with seed 1), to which nothing is written. Sets are drawn from
them, within each class and with replacement, and test images from the 10,000 real ones, so every truth is known. Then everything is done as
`figment run` does it. Sets are few and studies many: the rates of a case share its sets. The same command again goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from calibration.cases import CASES
from calibration.rows import Rows
from calibration.verdicts import verdicts
from calibration.world import open_world

PARTS = ("verdicts",)
SIZES = (100, 500, 2_000, 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished demos")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="of the verdicts")
    parser.add_argument("--sets", type=int, default=50, help="different sets of each case")
    parser.add_argument("--studies", type=int, default=1_000, help="of each case and number of test images")
    parser.add_argument("--sizes", nargs="+", type=int, default=(100, 200, 500, 2_000, 10_000), help="test images")
    parser.add_argument("--out", type=Path, default=Path("calibration.jsonl"), help="rows; those there are left out")
    parser.add_argument("--work", type=Path, default=Path("calibration"), help="features and predictions, kept")
    args = parser.parse_args()
    torch.set_num_threads(1)
    w, rows = open_world(args.runs, args.work / "features"), Rows(args.out)
    if "verdicts" in args.parts:
        for name in args.cases:
            found = verdicts(CASES[name], w, args.sets, args.studies, args.sizes, args.work / "answers")
            rows.measure("verdict", name, found)


if __name__ == "__main__":
    main()
