"""How often is the verdict wrong, and how often right? Measured on the starter, with the code that `figment run` uses.

    python tools/calibrate.py runs/demo runs/demo_1 --out rows.jsonl --page evidence.md
    python tools/calibrate.py runs/night runs/night_1 --task fashion-night --starter build/starter --out rows.jsonl --page night.md

Takes the generated images of finished demos (`figment demo`; the second one its recipe with seed 1; of another look the recipe with
`--set task=fashion-night`), to which nothing is written. Sets are drawn from them, within each class and with replacement, and test images from the 10,000 real ones, so every truth is known. Then everything
is done as `figment run` does it. Sets are few and studies many: the rates of a case share its sets. The same command again goes on where it
stopped. All of it is two hours of one core; ``--sets 12 --studies 24 --networks 1`` looks whether it runs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from calibration.bursts import bursts
from calibration.cases import CASES, NULLS, RIGHT, SHUFFLED, WORDS_AND_IMAGES
from calibration.demo import demo
from calibration.networks import KINDS, network_verdicts
from calibration.other_shots import other_shots
from calibration.page import page, written_by_hand
from calibration.pairs import spread, ten_arms, ten_verdicts, two_sets
from calibration.photographs import photographs
from calibration.rows import Rows
from calibration.two_classes import STEPS, two_classes
from calibration.verdicts import verdicts
from calibration.words import words
from calibration.world import World, open_world

PARTS = ("words", "demo", "verdicts", "pairs", "bursts", "two classes", "photographs", "other shots", "networks")
SIZES = (100, 200, 500, 2_000, 10_000)
STARTS = (RIGHT, replace(RIGHT, start="bias removed"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished demos")
    parser.add_argument("--task", default="fashion", help="a built-in task of the starter, such as fashion-night")
    parser.add_argument("--starter", type=Path, help="a folder with clip/; default: the one that is installed")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="of the verdicts")
    parser.add_argument("--sets", type=int, default=50, help="different sets of each case")
    parser.add_argument("--studies", type=int, default=1_000, help="of each case and number of test images")
    parser.add_argument("--networks", type=int, default=8, help="sets that networks learn from; 10 trainings each")
    parser.add_argument("--out", type=Path, default=Path("calibration.jsonl"), help="rows; those there are left out")
    parser.add_argument("--page", type=Path, help="write the page of all rows here; what is below its line *** stays")
    parser.add_argument("--work", type=Path, default=Path("calibration"), help="features and predictions, kept")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clip = str(args.starter / "clip") if args.starter else "starter/clip"
    w = open_world(args.runs, args.work / "features", args.task, clip)
    rows = Rows(args.out, w.facts)
    for part in args.parts:
        measure(part, w, rows, args)
    if args.page:
        before = args.page.read_text(encoding="utf-8") if args.page.is_file() else ""
        args.page.write_text(page(rows.rows, args.out.name) + written_by_hand(before), encoding="utf-8")


def measure(part: str, w: World, rows: Rows, args: argparse.Namespace) -> None:
    answers = args.work / w.key / "answers"
    if part == "words":
        rows.measure("words", "zero-shot", words(w))
    elif part == "demo":
        for case in (*STARTS, WORDS_AND_IMAGES):
            rows.measure("demo", case.start, demo(case, w))
    elif part == "verdicts":
        for name in args.cases:
            rows.measure("verdict", name, verdicts(CASES[name], w, args.sets, args.studies, SIZES, answers))
    elif part == "pairs":
        for case in (*STARTS, WORDS_AND_IMAGES):
            rows.measure("spread", case.start, spread(case, w, args.sets, answers))
        for case in STARTS:
            found = two_sets(case, w, args.sets, 2 * args.studies, SIZES, answers)
            rows.measure("two sets", case.start, found)
            rows.measure("ten arms", case.start, ten_arms(case, w, args.sets, args.studies, SIZES, answers))
        for case in (replace(SHUFFLED[0], start=case.start) for case in STARTS):
            rows.measure("ten verdicts", case.name, ten_verdicts(case, w, args.sets, args.studies, SIZES, answers))
    elif part == "bursts":
        rows.measure("bursts", RIGHT.start, bursts(RIGHT, w, 4 * args.studies, SIZES, answers))
    elif part == "two classes":
        for steps in STEPS:
            rows.measure("two classes", f"{steps} steps", two_classes(w, 2 * args.sets, steps))
    elif part == "photographs":
        rows.measure("photographs", RIGHT.what, photographs(RIGHT, w, 80, SIZES[2:]))
        for case in (SHUFFLED[1], *(case for case in NULLS[::2] if case.images != "generated")):
            rows.measure("photographs", case.what, photographs(case, w, 20, SIZES[2:]))
    elif part == "other shots":
        for k in (1, 4, 16):
            found = other_shots(w, k, args.sets, args.studies, (200, 2_000, 10_000))
            rows.measure("other shots", f"{k} a class", found)
    elif part == "networks":
        for kind in KINDS:
            found = network_verdicts(w, kind, args.networks, args.studies, (200, 2_000), args.work / w.key / "networks")
            rows.measure("network", kind, found)


if __name__ == "__main__":
    main()
