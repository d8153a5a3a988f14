"""Run many tables, one after another, and make what they have in common once.

    python tools/tables.py recipes/he2023/*.yaml --variant starter --out runs/he2023          all that is missing
    python tools/tables.py recipes/he2023/*.yaml --variant starter --out runs/he2023 --plan   what each would make, and stop

Each table is run as `figment run RECIPE --variant NAME --out OUT/TABLE` runs it, in a folder of its own. Before that, the images that it
asks for and another table of OUT has are copied into it, with all features, trainings and LoRAs: their names say what they are, so
whatever agrees is found and nothing else is used. The same command again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from figment import claims, layout, records
from figment.layout import Run, Study
from figment.recipe import Recipe, load_recipe
from figment.stages.plans import images_key
from figment.studies.table import table_runs

CACHES = ("features", "trainings", "finetune")
NOT_COPIED = shutil.ignore_patterns(".lock*", ".heartbeat", ".*.tmp", "networks", "unfrozen")


def sets_of(recipe: Recipe) -> dict[str, int]:
    """The sets of images that a table asks for, by key, and how many images of each."""
    found: dict[str, int] = {}
    for _, _, own in table_runs(recipe):
        n = own.generate.images_per_class * len(own.task.class_names)
        found[images_key(own)] = max(n, found.get(images_key(own), 0))
    return found


def take_over(table: Path, keys: Iterable[str], others: Sequence[Path]) -> list[str]:
    """Copy into the folder of a table what other tables have of it; of several copies of a set the largest. Returns the sets' keys."""
    there = {key: max((Study(other).sets / key for other in others), key=_made, default=table) for key in keys}
    taken = [key for key, folder in there.items() if _made(folder) and not (Study(table).sets / key).exists()]
    caches = [(other, cache) for other in others for cache in CACHES if (other / cache).is_dir()]
    if taken or caches:
        with claims.claimed(table):
            for key in taken:
                shutil.copytree(there[key], Study(table).sets / key, ignore=NOT_COPIED)
            for other, cache in caches:
                copied = {"ignore": NOT_COPIED, "copy_function": _copy_new, "dirs_exist_ok": True}
                shutil.copytree(other / cache, table / cache, **copied)
    return taken


def _made(folder: Path) -> int:
    """How many images there are of a set that is finished; 0 where it is not."""
    found = records.read(Run(folder).images)
    return int(found.data["counts"]["made"]) if found.state == "finished" else 0


def _copy_new(source: str, target: str) -> None:
    if not Path(target).exists():
        shutil.copy2(source, target)


def plan(recipes: dict[str, Recipe]) -> list[str]:
    """A line a table: runs, sets and images, and how many of these no table before it has."""
    before: dict[str, int] = {}
    lines = []
    for name, recipe in recipes.items():
        sets = sets_of(recipe)
        new = sum(max(0, n - before.get(key, 0)) for key, n in sets.items())
        before |= {key: max(n, before.get(key, 0)) for key, n in sets.items()}
        total = f"{sum(sets.values()):,} images in {len(sets)} sets"
        lines.append(f"{name}: {len(table_runs(recipe))} runs, {total}, {new:,} of them new")
    return [*lines, f"all: {sum(before.values()):,} images in {len(before)} sets"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--variant")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="changes of all recipes")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the tables' folders")
    parser.add_argument("--plan", action="store_true", help="say what there is to make, and stop")
    args = parser.parse_args()
    recipes = {path.stem: load_recipe(path, args.set, args.variant) for path in args.recipes}
    print("\n".join(plan(recipes)), flush=True)
    failed = []
    for path in () if args.plan else args.recipes:
        folder = args.out / path.stem
        others = [other for other in layout.subfolders(args.out) if other != folder and Study(other).is_table]
        take_over(folder, sets_of(recipes[path.stem]), others)
        command = [sys.executable, "-m", "figment.cli", "run", str(path), "--out", str(folder)]
        command += ["--variant", args.variant] if args.variant else []
        command += [text for change in args.set for text in ("--set", change)]
        print(f"== {path.stem}", flush=True)
        if subprocess.run(command, check=False).returncode:
            failed.append(path.stem)
    if failed:
        raise SystemExit(f"Not finished: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
