"""What would the papers' tables cost at full size? Images, disk and hours, counted by the dry run's own code.

    python tools/plans.py docs/results/plans.md      a minute, without network, data or models

Counts are exact. Hours are estimates: published seconds of one image, and published ratios of other machines to that one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from figment.recipe import Recipe, load_recipe
from figment.studies.table import table_runs
from figment.studies.table_forecast import TableForecast, forecast_table

RECIPES = Path(__file__).parents[1] / "recipes"
#: Folder -> the tables of it; None = every one.
PAPERS: dict[str, tuple[str, ...] | None] = {"he2023": ("table1",), "azizi2023": None, "stablerep": None}

A100 = (
    0.8 / 100
)  # seconds a pass of the denoiser: .8 s for 50 steps, each of two passes (Tian et al. 2023, Stable Diffusion at 512 pixels)
DEEPFLOYD = 5.0  # seconds an image of DeepFloyd IF's first two stages in 150 steps, what the recipe's header takes; nobody published it
H100 = 54.5 / 35.6  # steps of Stable Diffusion's denoiser a second, of an H100 and an A100, at batch 1 in plain torch
H100_FAST = 104.6 / 61.8  # the same with stable-fast on both
RTX_4090 = 3.8 / 3.4  # SDXL in 25 steps: 3.8 s on an A100, 3.4 s on an RTX 4090

SOURCES = f"""| number | source |
|---|---|
| .8 s an image of 50 steps, Stable Diffusion at 512 pixels on an A100 | Tian et al. 2023 (StableRep); guided, so two passes of the denoiser a step. Rows with other steps, or without guidance, are counted by their passes, as if every model were this one |
| 5 s an image of DeepFloyd IF, 100 and 50 steps | what the header of `azizi2023/figure4` takes; nobody published it |
| an H100 takes {H100:.2f} times as many denoising steps a second as an A100 in plain torch (54.5 against 35.6), {H100_FAST:.2f} times with stable-fast on both (104.6 against 61.8) | stable-fast's README: Stable Diffusion 1.5 at 512 pixels, half precision, batch 1. That an H200, the same chip with more and faster memory, is as fast as an H100 is an assumption |
| 8 A100s take an eighth | images do not depend on one another; an assumption about disks and networks |
| an RTX 4090 (24 GB) takes 3.4 s where an A100 takes 3.8 | SDXL in 25 steps, the Hugging Face blog post `lcm_lora` |
| 1.6 bytes a pixel of PNG | of photographs, by which figment also sizes its files; 512 x 512 pixels, 256 x 256 of DeepFloyd IF's second stage. `generate.format: jpeg` takes .5 |"""


@dataclass(frozen=True)
class Plan:
    """One seed of a table, and the ``seconds`` that its images take one A100."""

    name: str
    told: TableForecast
    seconds: float

    @property
    def hours(self) -> float:
        return self.seconds / 3600


def plans() -> Iterator[Plan]:
    """Of every table asked for, in the order of their papers."""
    for paper, asked in PAPERS.items():
        for name in asked or sorted(path.stem for path in (RECIPES / paper).glob("*.yaml")):
            yield plan(f"{paper}/{name}")


def read(name: str) -> Recipe:
    """One seed of it."""
    return load_recipe(RECIPES / f"{name}.yaml").changed({"table.seeds": 1}, "one seed")


def plan(name: str) -> Plan:
    """Raises FigmentError as the dry run does."""
    recipe = read(name)
    assert recipe.generate.passes is not None
    each = DEEPFLOYD if recipe.generate.kind == "cascade" else A100 * recipe.generate.passes
    told = forecast_table(recipe, Path("nowhere"), seconds_per_image=each)
    seconds = told.work["images"].seconds
    assert seconds is not None
    return Plan(name, told, seconds)


def images_alone(recipe: Recipe) -> int:
    """As many as there would be if every row made its own."""
    rows = {row: own for group, _, own in table_runs(recipe) for row, _ in group.cells}
    assert recipe.table is not None
    return sum(rows[row].generate.images_per_class * rows[row].n_labels for row in recipe.table.rows)


# ---- the page --------------------------------------------------------------------------------------------------------


def page() -> str:
    """In Markdown."""
    found = list(plans())
    first = found[0]
    alone = images_alone(read(first.name))
    before = first.hours * alone / first.told.images
    rows = "\n".join(map(_row, found))
    return f"""# What the papers' tables would cost at full size

**Estimates: none of them was run at full size.** Images, fine-tuning steps and trainings are counted by the code of `figment run --dry-run`; hours and
disk follow from [published numbers](#sources). Written by `python tools/plans.py docs/results/plans.md`, for one seed of each table, generation alone;
each recipe asks for three seeds or more. Your own machine's hours come from a trial: `figment run RECIPE --dry-run`, or from `--seconds-per-image`.

| table | images | sets | disk | one A100 | one H200 | 8 A100s | one RTX 4090 | steps of fine-tuning | trainings, at most |
|---|---|---|---|---|---|---|---|---|---|
{rows}

An H200's hours are an A100's by the ratio of an H100 in plain torch, {H100:.2f}; with stable-fast on both it would be {H100_FAST:.2f}. Fine-tuning and trainings come on
top: the headers in `recipes/` have estimates of theirs.

## He et al.'s Table 1, before and after

| | images a seed | one A100 | one H200 | 8 A100s | one RTX 4090 |
|---|---|---|---|---|---|
| every task makes its own | {alone:,} | {_machines(before)} |
| tasks share ImageNet's | {first.told.images:,} | {_machines(first.hours)} |

The first build of figment made images for ImageNet and ImageNet-Sketch, which have the same classes, twice. What is left are the images that
the paper asks for, 2,000 a class; `--set generate.images_per_class=200` takes a tenth.

## Sources

{SOURCES}
"""


def _row(plan: Plan) -> str:
    told = plan.told
    cells = [f"{told.images:,}", str(told.sets), f"{told.bytes / 1e9:,.0f} GB", _machines(plan.hours)]
    cells += [f"{told.steps:,}", f"{told.trainings:,}"]
    return f"| `{plan.name}` | {' | '.join(cells)} |"


def _machines(hours: float) -> str:
    """Hours of an A100 as cells, one a machine."""
    own = (hours, hours / H100, hours / 8, hours / RTX_4090)
    return " | ".join(f"{h:,.0f} h" if h >= 1 else "under 1 h" for h in own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="Markdown to write")
    parser.parse_args().page.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
