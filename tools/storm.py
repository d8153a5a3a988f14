"""What kills and flipped bytes do to runs and tables: nothing that is not mended, and nothing unseen. Measured, with raw rows.

    python tools/storm.py --out docs/results/storm.jsonl --page docs/results/storm.md

A hundred ``kill -9`` at random moments of whole runs, few-shot runs, fine-tunings and tables of tiny models, on two engines with two
workers each; then a thousand single bits flipped in every kind of file that they leave. The same command again goes on where it stopped.
About an hour of two cores; ``--kills 8 --flips 40`` looks whether it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # also of the runs: as many threads round alike
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # tiny models, and the storm that the tests have

import tiny
from calibration.rows import Rows
from conftest import write_photos
from made import KINDS, make, of_two_classes, recipe_of_kind
from storming.flips import flips
from storming.kills import kills
from storming.page import page

ENGINES = ("local", "ray")
FLIPS_AT_ONCE = 25  # what an interruption may cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="over both engines and all kinds of runs")
    parser.add_argument("--flips", type=int, default=1_000, help="over all kinds of runs")
    parser.add_argument("--out", type=Path, default=Path("storm.jsonl"), help="rows; those there are left out")
    parser.add_argument("--page", type=Path, help="write the page of all rows here")
    args = parser.parse_args()
    rows = Rows(args.out)
    with tempfile.TemporaryDirectory(prefix="storm-") as temporary:
        root = Path(temporary)
        models = made_models(root / "models")
        for case, (engine, kind, n) in shared_out(args.kills).items():
            where = root / case.replace(" ", "-")
            where.mkdir()
            seed = int.from_bytes(case.encode(), "big") % 2**32
            rows.measure("kills", case, kills(where, models, engine, kind, n, seed))
        for kind in KINDS:
            own = None
            for part in range(-(-args.flips // (len(KINDS) * FLIPS_AT_ONCE))):
                if not rows.has("flips", f"{kind} {part}"):
                    own = own or make(
                        recipe_of_kind(kind, models / "clip", models / "sd15", models / "photos"), root / kind / "run"
                    )
                    rows.measure("flips", f"{kind} {part}", flips(own, FLIPS_AT_ONCE, part))
    if args.page:
        args.page.write_text(page(rows.rows), encoding="utf-8")


def made_models(folder: Path) -> Path:
    """Tiny models and photographs of two classes."""
    folder.mkdir()
    tiny.clip(folder / "clip")
    tiny.sd15(folder / "sd15")
    of_two_classes(write_photos(folder / "all"), folder / "photos")
    return folder


def shared_out(n: int) -> dict[str, tuple[str, str, int]]:
    """Case -> its engine, kind and number of kills, evenly. Local runs come first: all others are compared with a calm one of theirs."""
    cases = [(engine, kind) for engine in ENGINES for kind in KINDS]
    shares = {f"{engine}, {kind}": (engine, kind, n // 8 + (i < n % 8)) for i, (engine, kind) in enumerate(cases)}
    return {case: share for case, share in shares.items() if share[2]}


if __name__ == "__main__":
    main()
