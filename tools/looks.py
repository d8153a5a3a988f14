"""What generated images brought on each look, from the folders of finished demos.

    for look in catalogue sketch x-ray night photocopy crumpled store-camera; do figment demo --look $look --out runs/demo-$look; done
    python tools/looks.py runs/demo-* --out docs/results/looks.md

Nothing is measured here. Three arms of each demo are read: plain prompts, and the look's words with a filter, both without photographs; and
16 photographs a class with the images of the second.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from figment.layout import Run, subfolders
from figment.recipe import load_recipe
from figment.report.results import latest_results
from figment.report.text import points_interval
from figment.starter import task_of
from figment.starter.looks import LOOKS
from figment.types import Result

HEADER = """# What generated images bring on each look

(Of the starter's [second edition](../tasks.md#editions-of-the-starter).) `figment demo --look NAME`, 1,000 images of each look, one set of images, 10,000 test images, top-1 in percent; made by `python tools/looks.py`.

**Without photographs**: class names alone, bias removed, and the look's words with a filter, whose gain is over the best rival (bias removed, or a placebo)."""
WITH = """
**With 16 photographs a class**: these alone, and with the generated images, whose gain is over the best rival (the photographs, the same in as many steps, a placebo). Last, how many photographs a class the images are worth to a learner that has never seen the class names; and all 10,000 photographs, which is the room there is."""
WORDS = ("class names", "bias removed", "plain prompts", "its words and a filter", "gain", "verdict")
SHOTS = ("16 photographs", "and generated images", "gain", "verdict", "worth photographs", "all photographs")


def percent(found: Mapping[str, Result], metric: str) -> str:
    return f"{100 * found[metric].value:.1f}"


def verdict(found: Mapping[str, Result]) -> list[str]:
    worth = found["worth"]
    return [points_interval(worth), worth.details["verdict"]]


def rows(folder: Path) -> tuple[str, list[str], list[str]]:
    """The look of a demo, and what its two tables say of it."""
    task = load_recipe(Run(folder).recipe).task
    look = next(look for look in LOOKS if task_of(look) == task.name)
    plain, words = (latest_results(arm) for arm in sorted(subfolders(folder / "arms")))
    own = latest_results(folder)
    known = [percent(words, "top1/zero_shot"), percent(words, "top1/bias_removed"), percent(plain, "top1/synthetic")]
    alone = [*known, percent(words, "top1/synthetic"), *verdict(words)]
    mixed = [percent(own, "top1/real_only"), percent(own, "top1/synthetic"), *verdict(own)]
    worth = own["exchange_rate"].details["text"] if "exchange_rate" in own else ""
    return look, alone, [*mixed, worth.replace(" real photographs a class", ""), percent(own, "top1/real_all")]


def table(heading: tuple[str, ...], lines: Mapping[str, list[str]]) -> str:
    of_looks = [f"| {look} | {' | '.join(lines[look])} |" for look in LOOKS if look in lines]
    return "\n".join([f"| look | {' | '.join(heading)} |", "|---" * (len(heading) + 1) + "|", *of_looks])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished demos")
    parser.add_argument("--out", type=Path, default=Path("looks.md"))
    args = parser.parse_args()
    found = [rows(folder) for folder in args.runs]
    alone, mixed = ({look: part[i] for look, *part in found} for i in (0, 1))
    args.out.write_text("\n\n".join([HEADER, table(WORDS, alone), WITH.strip(), table(SHOTS, mixed)]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
