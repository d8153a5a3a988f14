"""How often is a pilot wrong? `figment pilot` on tasks of which it is known that the starter knows them, and on others that it cannot.

    python benchmarks/pilot.py --out docs/results/pilot.jsonl          seven minutes of one core; the same command again goes on
    python benchmarks/pilot.py --out rows.jsonl --only fashion digits  those cases whose names hold one of these words

Classes: words of the starter's own world (all of its classes, some, pairs, synonyms, in one tone or pattern) against words of other
worlds. Domains: images of the pool, as they are and a little spoilt, against digits, stripes, noise, letters, shapes, and images of the
pool under each other's class names; the starter's other looks, sketches and the like, lie between. Prints what was said of known and unknown cases, and the numbers of each.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.datasets import load_digits

from figment.evaluate.pilot import COVERED, RECOGNISED, Question, between
from figment.images_in import open_images
from figment.recipe import validate
from figment.starter import AS_IT_IS
from figment.starter.looks import LOOKS
from figment.studies.pilot import run_pilot
from figment.task import builtin, real_folder

SIDE, EACH = 32, 40  # pixels; real images of each class
FEW = 8  # generated images of each class, for questions that need no more
FASHION = builtin("fashion")
NAMES = FASHION["class_names"]
TRUTHS = {True: "known", None: "in between", False: "not known"}
Picture = Image.Image


@dataclass(frozen=True)
class Case:
    """``known`` is the truth of the ``question``; None where it is in between. ``real`` makes the k-th real image of a class, where the question is about such."""

    name: str
    question: Question
    known: bool | None
    task: dict[str, Any]
    seed: int = 0
    images_per_class: int = 16
    real: Callable[[int, int, np.random.Generator], Picture] | None = None


# ---- classes ---------------------------------------------------------------------------------------------------------

OTHER_WORDS = {
    "digits": "zero one two three four five six seven eight nine",
    "letters": "alpha beta gamma delta epsilon zeta theta kappa",
    "animals": "cat dog horse cow sheep lion tiger rabbit",
    "fruit": "apple banana cherry orange lemon grape melon peach",
    "vehicles": "car lorry aeroplane bicycle tram ship rocket",
    "tools": "hammer saw drill pliers chisel spanner",
    "trees": "oak birch maple willow cedar elm",
    "flowers": "rose tulip daisy orchid lily violet",
    "instruments": "violin piano trumpet drum flute harp",
    "buildings": "church tower bridge castle barn lighthouse",
    "weather": "rain snow fog thunder sunshine hail",
    "food": "bread cheese soup rice noodles cake",
    "professions": "nurse farmer pilot baker judge painter",
    "furniture": "table chair sofa lamp shelf bed",
    "ground": "grass sand gravel water brick asphalt",
    "organs": "heart lung liver kidney stomach brain",
    "cities": "paris london rome madrid vienna oslo",
    "planets": "mercury venus mars jupiter saturn neptune",
    "no words": "blorp quandle frimst wexil dorvan plism",
    "more no words": "zib tolk marn uvvo reks jand",
}


def words_of(names: list[str], **changes: Any) -> dict[str, Any]:
    """The starter's own task with some of its classes."""
    synonyms = {name: words for name, words in FASHION["synonyms"].items() if name in names}
    return {**FASHION, "class_names": names, "synonyms": synonyms, "real": {}, **changes}


def known_words() -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(0)
    some = {n: [sorted(rng.permutation(10)[:n].tolist()) for _ in range(k)] for n, k in ((5, 6), (3, 4), (2, 4))}
    subsets = {
        " ".join(NAMES[c] for c in own): words_of([NAMES[c] for c in own]) for sets in some.values() for own in sets
    }
    kinds = {kind: {kind: FASHION["attributes"][kind][:1]} for kind in ("tone", "length", "pattern")}
    return {
        "all of fashion": words_of(NAMES),
        "fashion by other words": words_of([FASHION["synonyms"][name][0] for name in NAMES], synonyms={}),
        "fashion, no attributes": words_of(NAMES, attributes={}),
        **{f"fashion, one {kind}": words_of(NAMES, attributes=own) for kind, own in kinds.items()},
        **subsets,
    }


def class_cases() -> list[Case]:
    other = {
        name: {"class_names": words.split(), "contexts": FASHION["contexts"]} for name, words in OTHER_WORDS.items()
    }
    return [
        Case(f"words: {name}", "classes", is_known, task, images_per_class=FEW)
        for is_known, tasks in ((False, other), (True, known_words()))
        for name, task in tasks.items()
    ]


# ---- domains ---------------------------------------------------------------------------------------------------------


def of_pool(
    spoil: Callable[[Picture], Picture], shift: int = 0, where: str = "starter/pool"
) -> Callable[[int, int, np.random.Generator], Picture]:
    """An image of the pool; with ``shift`` one of another class."""
    pool = open_images(real_folder(where), NAMES)
    places = [np.flatnonzero(pool.labels == c) for c in range(len(NAMES))]

    def make(label: int, k: int, rng: np.random.Generator) -> Picture:
        own = places[(label + shift) % len(NAMES)]
        return spoil(Image.fromarray(pool.load([int(own[rng.integers(len(own))])])[0]))

    return make


def as_jpeg(image: Picture) -> Picture:
    data = io.BytesIO()
    image.save(data, "jpeg", quality=40)
    return Image.open(data).convert("RGB")


def noisy(image: Picture, deviation: float = 8) -> Picture:
    pixels = np.asarray(image) + np.random.default_rng(0).normal(0, deviation, (SIDE, SIDE, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


SPOILT: dict[str, Callable[[Picture], Picture]] = {
    "as they are": lambda image: image,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "noisy": noisy,
    "darker": lambda image: image.point(lambda v: 0.8 * v),
    "brighter": lambda image: image.point(lambda v: min(255, 1.2 * v)),
    "less contrast": lambda image: image.point(lambda v: 25 + 0.8 * v),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(0.6)),
    "moved": lambda image: image.transform((SIDE, SIDE), Image.Transform.AFFINE, (1, 0, 1, 0, 1, 1)),
    "larger": lambda image: image.resize((36, 36)).crop((2, 2, 34, 34)),
    "jpeg": as_jpeg,
}


def digit(label: int, k: int, rng: np.random.Generator) -> Picture:
    data = load_digits()
    own = data.images[rng.choice(np.flatnonzero(data.target == label))]
    return Image.fromarray((own * 15).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST).convert("RGB")


def stripes(label: int, k: int, rng: np.random.Generator) -> Picture:
    wave = 128 + 100 * np.sin((np.arange(SIDE) + rng.integers(SIDE)) * (0.3 + 0.12 * (label // 2)))
    shades = np.tile(wave, (SIDE, 1)) + rng.normal(0, 20, (SIDE, SIDE))
    return grey(shades if label % 2 else shades.T)


def noise(label: int, k: int, rng: np.random.Generator) -> Picture:
    return grey(rng.integers(0, 256, (SIDE, SIDE)))


def cloud(label: int, k: int, rng: np.random.Generator) -> Picture:
    return grey(255 * rng.random((4 + label, 4 + label))).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def letter(label: int, k: int, rng: np.random.Generator) -> Picture:
    image = Image.new("RGB", (SIDE, SIDE))
    place = tuple(rng.integers(2, 9, 2).tolist())
    ImageDraw.Draw(image).text(place, "ABCDEFGHIJ"[label], fill="white", font=ImageFont.load_default(20))
    return image


def checks(label: int, k: int, rng: np.random.Generator) -> Picture:
    x, y = np.meshgrid(*[np.arange(SIDE) + rng.integers(SIDE) for _ in range(2)])
    return grey(60 + 150 * ((x // (label + 2) + y // (label + 2)) % 2))


def rings(label: int, k: int, rng: np.random.Generator) -> Picture:
    image = Image.new("RGB", (SIDE, SIDE), "black")
    for _ in range(label + 1):
        x, y, r = (*rng.integers(4, 28, 2).tolist(), int(rng.integers(2, 6)))
        ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), outline="white")
    return image


def slope(label: int, k: int, rng: np.random.Generator) -> Picture:
    x, y = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))
    angle = 2 * np.pi * (label + 0.3 * rng.random()) / 10
    return grey(128 + 90 * (np.cos(angle) * x + np.sin(angle) * y))


def grey(shades: np.ndarray) -> Picture:
    return Image.fromarray(np.clip(shades, 0, 255).astype(np.uint8)).convert("RGB")


def domain_cases() -> list[Case]:
    other = {
        "digits": digit, "stripes": stripes, "noise": noise, "clouds": cloud, "letters": letter, "checks": checks,
        "rings": rings, "slopes": slope, "classes by the next one's name": of_pool(SPOILT["as they are"], 1),
        "classes by another's name": of_pool(SPOILT["noisy"], 4),
    }  # fmt: skip
    known = {f"the pool, {name}": of_pool(spoil) for name, spoil in SPOILT.items()}
    looks = {look: of_pool(SPOILT["as they are"], where=f"starter/{look}/pool") for look in LOOKS if look != AS_IT_IS}
    return [
        Case(f"images: {name}, seed {seed}", "domain", is_known, words_of(NAMES), seed, real=real)
        for seed in (0, 1)
        for is_known, kinds in ((True, known), (None, looks), (False, other))
        for name, real in kinds.items()
    ]


# ---- measuring -------------------------------------------------------------------------------------------------------


def write_real(case: Case, folder: Path) -> Path:
    """Class folders; they are made again each time."""
    assert case.real is not None
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng([case.seed, 1])
    for label, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for k in range(EACH):
            case.real(label, k, rng).save(folder / name / f"{k}.png")
    return folder


def measured(case: Case, work: Path) -> dict[str, Any]:
    real = {} if case.real is None else {"train": str(write_real(case, work / "real"))}
    recipe = validate(
        {
            "name": case.name,
            "seed": case.seed,
            "task": {**case.task, "real": real},
            "prompts": {"kind": "attributes"},
            "generate": {"guidance_scale": 1.0, "num_inference_steps": 12},
            "train": {"kind": "words_and_images", "encoder": "starter/clip"},
        },
        case.name,
    )
    # Cases that differ in their real images alone use the same generated ones.
    words = "-".join(case.task["class_names"])[:60].replace(" ", "_")
    out = (
        work / f"{words}-{case.seed}" if case.real is not None else work / case.name.replace(":", "").replace(" ", "_")
    )
    answer = run_pilot(recipe, out, images_per_class=case.images_per_class).answer(case.question)
    numbers = dict(answer.numbers)
    numbers.pop("per_class", None)
    return {"word": answer.word, "numbers": numbers}


def way(row: dict[str, Any]) -> float:
    """How far from guessing to always right; or what is covered, as a share of what real images cover of each other."""
    own = row["numbers"]
    if row["question"] == "classes":
        return float((own["recognised"] - own["chance"]) / (1 - own["chance"]))
    return float(own["coverage"] / own["coverage_among_real"])


HEADER = """# How often a pilot is wrong

Made by `python benchmarks/pilot.py --out docs/results/pilot.jsonl --page docs/results/pilot.md` from raw rows, each with command and commit: [pilot.jsonl](pilot.jsonl). Everything is of the starter's [second edition](../tasks.md#editions-of-the-starter), 8 generated
images a class where the question is about classes, 16 and 400 real images where it is about the domain. *Way* is what the word goes by: how far the recognised share is from guessing to always right, or what generated images cover
of the real ones, as a share of what these cover of each other. Words are by today's bounds, which were chosen on cases like these with the models of the first edition: on other worlds they will be wrong more often. "Right without words": the content gate.

"""


def word_of(row: dict[str, Any]) -> str:
    """By the bounds of today, which rows may be older than."""
    if row["question"] == "domain" and not row["numbers"]["content"]["passed"]:
        return str(row["word"])
    return between(way(row), RECOGNISED if row["question"] == "classes" else COVERED)


def page(rows: list[dict[str, Any]]) -> str:
    """Markdown: how often each word was said, and each case."""
    lines = ["| question | truth | cases | known | partly known | unknown |", "|---|---|---|---|---|---|"]
    for question in ("classes", "domain"):
        for truth in TRUTHS:
            own = [word_of(row) for row in rows if (row["question"], row["known"]) == (question, truth)]
            if not own:
                continue
            counts = " | ".join(str(own.count(word)) for word in ("known", "partly known", "unknown"))
            lines.append(f"| {question} | {TRUTHS[truth]} | {len(own)} | {counts} |")
    lines += [
        "",
        "| case | truth | said | way | density | Fréchet ratio | right without words |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["question"], list(TRUTHS).index(row["known"]))):
        own = row["numbers"]
        cells = [
            f"{way(row):.2f}",
            *(f"{own[key]:.3g}" if key in own else "" for key in ("density", "frechet_ratio")),
        ]
        content = own.get("content")
        cells.append(
            f"{100 * content['accuracy']:.0f} %, {'passed' if content['passed'] else 'failed'}" if content else ""
        )
        lines.append(f"| {row['case']} | {TRUTHS[row['known']]} | {word_of(row)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("pilot.jsonl"), help="rows are added to this file")
    parser.add_argument("--page", type=Path, help="write the tables there, in Markdown")
    parser.add_argument("--work", type=Path, default=Path("runs/pilots"), help="for images, which are kept")
    parser.add_argument("--only", nargs="*", default=[], help="words, one of which a case's name must hold")
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {row["case"] for row in rows}
    for case in [*domain_cases(), *class_cases()]:
        if case.name in done or (args.only and not any(word in case.name for word in args.only)):
            continue
        started = time.monotonic()
        row = {"case": case.name, "question": case.question, "known": case.known, **measured(case, args.work)}
        row |= {"seconds": round(time.monotonic() - started, 1), "commit": commit, "command": " ".join(sys.argv)}
        rows.append(row)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    print(page(rows))
    if args.page is not None:
        args.page.write_text(HEADER + page(rows) + "\n")


if __name__ == "__main__":
    main()
