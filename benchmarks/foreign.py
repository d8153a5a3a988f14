"""Domains that the starter does not know: what builds of figment say of generated images there, and what is true.

    python benchmarks/foreign.py .venv/bin/figment ../figment-0.1.0/.venv/bin/figment --out /tmp/foreign

Three domains: scikit-learn's digits, letters of Pillow's own font, and gratings of eight directions. Images of the domain itself
stand in for a generator's, once by the class that was asked for and once of any class at random, which nobody can learn from. Each build runs
the same recipe with its own defaults on 300 test images; for the truth the last one is run on 2,000 others. Prints a Markdown table; rows go to foreign.jsonl.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

N_TEST, N_POOL = 300, 300
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LETTERS = [f"letter {c}" for c in "ABCDEFGHIJ"]
ANGLES = [f"{round(a, 1):g} degrees" for a in np.arange(0, 180, 22.5)]


digits_of = cache(load_digits)


def digits(label: int, rng: np.random.Generator, real: bool) -> np.ndarray:
    """Of people whom the other side does not know: the data set's second half for real images."""
    data = digits_of()
    own = (np.arange(len(data.target)) >= len(data.target) // 2) == real
    image = data.images[rng.choice(np.flatnonzero(own & (data.target == label)))]
    return np.kron(image * 15, np.ones((4, 4))) + rng.normal(0, 12, (32, 32))


def letters(label: int, rng: np.random.Generator, real: bool) -> np.ndarray:
    canvas = Image.new("L", (32, 32))
    place = tuple(int(x) for x in rng.integers(4, 12, 2))
    ImageDraw.Draw(canvas).text(
        place, LETTERS[label][-1], fill=220, font=ImageFont.load_default(size=int(rng.integers(13, 19)))
    )
    return np.asarray(canvas.rotate(float(rng.normal(0, 12))), float) + rng.normal(0, 20, (32, 32))


def gratings(label: int, rng: np.random.Generator, real: bool) -> np.ndarray:
    angle = np.pi * (label + rng.normal(0, 0.15)) / len(ANGLES)
    y, x = np.mgrid[:32, :32]
    wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * rng.uniform(0.5, 1.0) + rng.uniform(0, 6.3))
    return 128 + 60 * wave + rng.normal(0, 25, (32, 32))


DOMAINS = {"digits": (WORDS, digits), "letters": (LETTERS, letters), "gratings": (ANGLES, gratings)}


class Domain:
    """A generator: the domain's own images, of the class that the prompt ends in, or of any."""

    def __init__(self, domain: str, obeys: bool) -> None:
        self.names, self.draw = DOMAINS[domain]
        self.obeys, self.fingerprint = obeys, f"{domain}-{obeys}-1".ljust(16, "0")

    def __call__(self, prompts: list[str], seeds: list[int], init: Any = None) -> list[np.ndarray]:
        return [self._image(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _image(self, prompt: str, seed: int) -> np.ndarray:
        rng = np.random.default_rng([seed, 1])
        label = max(
            (i for i, n in enumerate(self.names) if re.search(rf"\b{re.escape(n)}\b", prompt)),
            key=lambda i: len(self.names[i]),
        )
        return grey(self.draw(label if self.obeys else int(rng.integers(len(self.names))), rng, real=False))


def grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


def make(domain: str, folder: Path) -> None:
    """Real images: a pool, the test images, and as many others as the truth takes."""
    names, draw = DOMAINS[domain]
    for split, n, start in (("pool", N_POOL, 10**6), ("test", N_TEST, 2 * 10**6), ("truth", 2_000, 3 * 10**6)):
        for i in range(n):
            path = folder / split / names[i % len(names)] / f"{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey(draw(i % len(names), np.random.default_rng(start + i), real=True))).save(path)


RECIPE = """
name: {domain}
task:
  class_names: {names}
  templates: ["a photo of {{}}."]
  real: {{train: {folder}/pool, test: {folder}/{test}}}
prompts: {{kind: templates}}
generate: {{kind: "foreign:Domain", images_per_class: 100, options: {{domain: {domain}, obeys: {obeys}}}}}
train: {{encoder: starter/clip}}
"""


def said(figment: Path, recipe: Path, out: Path) -> dict[str, Any]:
    """Run it, and read the verdict from the results of either version."""
    done = subprocess.run(
        [figment, "run", recipe, "--out", out], capture_output=True, text=True, env={"PYTHONPATH": str(Path(__file__).parent), "PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "COLUMNS": "500"}, check=False
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{figment}: {done.stdout[-3000:]}\n{done.stderr[-2000:]}")
    verdict = re.search(r"Verdict: *(.*(?:\n(?!To a |Report|\s*$).*)*)", done.stdout)
    results = {r["metric"]: r for r in map(json.loads, (out / "results.jsonl").read_text().splitlines())}
    return {
        "said": " ".join(verdict[1].split()) if verdict else done.stdout[-600:],
        "accuracies": {
            m: r["value"] for m, r in results.items() if m.startswith("top1/") and not m.startswith("top1/real_")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figment", type=Path, nargs="+", help="the command of each build")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = []
    for domain, (names, _) in DOMAINS.items():
        folder = args.out.resolve() / domain
        make(domain, folder)
        for obeys in (True, False):
            for build, figment in enumerate(args.figment):
                told = {}
                for test in ("test", "truth") if build == len(args.figment) - 1 else ("test",):
                    recipe = folder / f"{obeys}-{test}.yaml"
                    recipe.write_text(
                        RECIPE.format(
                            domain=domain, names=json.dumps(names), folder=folder, test=test, obeys=str(obeys).lower()
                        )
                    )
                    told[test] = said(figment.absolute(), recipe, folder / f"run-{build}-{obeys}-{test}")
                rows.append({"domain": domain, "obeys": obeys, "figment": str(figment), **told})
                (args.out / "foreign.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    print("| domain | generator | build | 300 test images | 2,000 others |\n|---|---|---|---|---|")
    for r in rows:
        accuracies = ", ".join(
            f"{m.removeprefix('top1/')} {100 * a:.1f}" for m, a in r.get("truth", r["test"])["accuracies"].items()
        )
        print(
            f"| {r['domain']} | {'obeys' if r['obeys'] else 'any class'} | {r['figment']} | {r['test']['said']} | {r.get('truth', {}).get('said', '')} ({accuracies}) |"
        )


if __name__ == "__main__":
    main()
