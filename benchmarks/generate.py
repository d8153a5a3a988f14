"""Images a second of four ways to make the same data set, side by side in one run, and what a classifier learns from each (CAS).

    python benchmarks/generate.py --old ../figment-c1ce1a3 --student build/student --steps 4 --page generate.md     a day on two cores
    python benchmarks/generate.py --images 40 --cas-images 100 --seeds 1 --training-steps 50                        minutes: does it run

- loop: what a tutorial shows, diffusers' pipeline with one prompt at a time, 50 steps and guidance
- batched: the same in batches of 64
- old: an older checkout of figment (`--old`; with a .venv of its own, or run by this Python) as it comes, driving the same teacher
- figment: this build, with the student in the place of the denoiser where one is given

All get the same prompts. Guidance of the teacher, and guidance and steps of figment's way, are those whose images a network learns most
from, tested on `pool`; nothing but the last numbers is of `test`. Each way makes its images in a process of its own, in turns. CAS of
the loop is that of `batched`: the same sampler with the same settings. Rows are added to `--out` and never measured again; images and
what was begun are kept in `--work`. The same command again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
BATCH, TUTORIAL_STEPS, OLD_STEPS = 64, 50, 20  # diffusers' own number of steps, and the older build's
PORTION = 500  # images a file: what a kill may cost
TARGETS = {"old": 6, "loop": 50, "batched": 12}  # images a second, how many times as many
WORST = -0.01  # of a CAS difference's interval, the lower end


@dataclass(frozen=True)
class Way:
    """How images are made. ``denoiser`` is a folder, or empty for the teacher's own."""

    name: str  # loop, batched, old, figment
    guidance: float
    steps: int
    denoiser: str = ""

    @property
    def folder(self) -> str:
        return f"{self.name}-g{self.guidance:g}-s{self.steps}" + (
            f"-{Path(self.denoiser).name}" if self.denoiser else ""
        )


# ---- making images, in a process of its own, which may be another build's --------------------------------------------


def make(job: dict[str, Any]) -> tuple[list[np.ndarray], float]:
    """The images of a job, and the seconds that they took, without loading and warming up."""
    way, texts, seeds = Way(**job["way"]), job["texts"], job["seeds"]
    maker = _of_diffusers(way, job) if way.name in ("loop", "batched") else _of_figment(way, job)
    maker(texts[:2], seeds[:2])
    started = time.perf_counter()
    images = maker(texts, seeds)
    return images, time.perf_counter() - started


def _of_diffusers(way: Way, job: dict[str, Any]) -> Any:
    import diffusers
    import torch

    on_gpu = torch.cuda.is_available()
    dtype = torch.float16 if on_gpu else torch.float32
    pipe = diffusers.DiffusionPipeline.from_pretrained(job["model"], safety_checker=None, dtype=dtype)
    pipe.to("cuda" if on_gpu else "cpu").set_progress_bar_config(disable=True)
    torch.manual_seed(job["seeds"][0] % 2**63)
    size, settings = (
        1 if way.name == "loop" else BATCH,
        {"num_inference_steps": way.steps, "guidance_scale": way.guidance},
    )

    def maker(texts: list[str], seeds: list[int]) -> list[np.ndarray]:
        portions = (texts[at : at + size] for at in range(0, len(texts), size))
        return [np.asarray(image.convert("RGB")) for portion in portions for image in pipe(portion, **settings).images]

    return maker


def _of_figment(way: Way, job: dict[str, Any]) -> Any:
    from figment.generate.diffusers import DiffusersGenerator

    own = {"denoiser": way.denoiser} if way.denoiser else {}
    generator = DiffusersGenerator(
        model=job["model"], guidance_scale=way.guidance, num_inference_steps=way.steps, **own
    )
    return lambda texts, seeds: [np.asarray(image) for image in generator(texts, seeds) if image is not None]


def worker(job_file: Path) -> None:
    import figment

    job = json.loads(job_file.read_text())
    if not Path(figment.__file__).is_relative_to(job["code"]):
        raise SystemExit(f"this is figment of {figment.__file__}, and it should be of {job['code']}")
    images, seconds = make(job)
    if len(images) != len(job["texts"]):
        raise SystemExit(f"{len(job['texts']) - len(images)} of {len(job['texts'])} images failed")
    if job["to"]:
        partial = Path(job["to"]).with_suffix(".partial.npz")
        np.savez_compressed(partial, images=np.stack(images))
        partial.replace(job["to"])
    print(json.dumps({"seconds": seconds}))


# ---- the study -------------------------------------------------------------------------------------------------------


class Study:
    def __init__(self, args: argparse.Namespace):
        from figment import starter
        from figment.generate.denoiser import open_denoiser
        from figment.models import resolve
        from figment.task import load_task

        self.args, self.task = args, load_task(args.task)
        self.model = str((args.model or starter.folder("pipeline")).resolve())
        self.student = str(args.student.resolve()) if args.student else ""
        student = [open_denoiser(self.student).fingerprint] if self.student else []
        self.weights = "-".join(own[:8] for own in [resolve(self.model).fingerprint, *student])
        self.rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.is_file() else []

    # ---- rows ----

    @cached_property
    def provenance(self) -> dict[str, Any]:
        from figment import machine

        asked = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        facts = {"commit": commit, "command": " ".join(sys.argv), "machine": machine.device()}
        return {**facts, "versions": machine.versions()}

    def found(self, **asked: Any) -> list[dict[str, Any]]:
        """Rows of these weights."""
        asked["weights"] = self.weights
        return [row for row in self.rows if asked.items() <= row.items()]

    def write(self, **row: Any) -> None:
        row |= {"weights": self.weights, **self.provenance}
        self.rows.append(row)
        self.args.out.parent.mkdir(parents=True, exist_ok=True)
        with self.args.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({key: value for key, value in row.items() if key not in ("right", *self.provenance)}, flush=True)

    # ---- images ----

    def samples(self, n: int, seed: int) -> list[Any]:
        from figment.generate.plan import Plan
        from figment.prompts.attributes import Attributes

        per_class = -(-n // len(self.task.class_names))
        prompts = Attributes(exactly=False)(self.task, min(per_class, 100), np.random.default_rng(seed))
        return list(Plan(prompts, per_class, seed=seed))[:n]

    def spawn(self, way: Way, samples: list[Any], to: Path | None = None) -> float:
        """Seconds that the images took."""
        import figment

        old = way.name == "old"
        code = self.args.old.resolve() / "src" if old else Path(figment.__file__).parents[1]
        own = self.args.old.resolve() / ".venv" / "bin" / "python" if old else Path(sys.executable)
        environment = {**os.environ, "PYTHONPATH": str(code)}
        job = {"way": asdict(way), "model": self.model, "to": str(to) if to else "", "code": str(code)}
        job |= {"texts": [s.prompt for s in samples], "seeds": [s.seed for s in samples]}
        job_file = self.args.work / f"job-{os.getpid()}.json"
        job_file.parent.mkdir(parents=True, exist_ok=True)
        job_file.write_text(json.dumps(job))
        command = [str(own if own.is_file() else sys.executable), str(HERE), "--job", str(job_file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        job_file.unlink()
        if done.returncode:
            raise SystemExit(f"{way.name}: {done.stderr[-3000:]}")
        return float(json.loads(done.stdout.splitlines()[-1])["seconds"])

    def images(self, way: Way, n: int, seed: int) -> Any:
        """``n`` generated images, in files of 500: what is there is not made again."""
        from figment.images_in.memory import MemoryImages

        samples, folder = self.samples(n, seed), self.args.work / self.weights / way.folder
        folder /= f"{self.args.task}-seed-{seed}-of-{n}"
        folder.mkdir(parents=True, exist_ok=True)
        images: list[np.ndarray] = []
        for at in range(0, n, PORTION):
            path = folder / f"{at:06d}.npz"
            if not path.is_file():
                self.spawn(way, samples[at : at + PORTION], path)
            images += list(np.load(path)["images"])
        return MemoryImages(images, np.array([s.label for s in samples]))

    def right(self, images: Any, split: str, seed: int) -> np.ndarray:
        """Which real images a network gets right that learnt from ``images``: bool (n,)."""
        from figment.images_in import open_images
        from figment.learners.network.network import NetworkLearner
        from figment.learners.network.small_cnn import SMALL_CNN
        from figment.task import real_folder

        real = open_images(real_folder(getattr(self.task.real, split)), self.task.class_names)
        settings = SMALL_CNN.model_copy(update={"min_steps": self.args.training_steps})
        model = NetworkLearner(settings, self.task.class_names).learn(images, None, seed)
        return model.logits(real).argmax(1) == real.labels

    # ---- phases ----

    def chosen(self, name: str, grid: list[Way]) -> Way:
        """Of several settings that from whose images most is learnt, tested on the pool; of equals the first."""
        shares = {}
        for way in grid:
            asked = {"kind": "choice", "of": name, "way": asdict(way), "images": self.args.choice_images}
            if not self.found(**asked):
                made = self.images(way, self.args.choice_images, seed=100)
                cas = [float(self.right(made, "train", seed).mean()) for seed in range(2)]
                self.write(**asked, on=self.task.real.train, cas=cas)
            shares[way] = statistics.mean(self.found(**asked)[0]["cas"])
        return max(grid, key=lambda way: shares[way])

    def ways(self) -> dict[str, Way]:
        guidances = self.args.guidance
        teacher = self.chosen("teacher", [Way("figment", g, OLD_STEPS) for g in guidances])
        grid = [Way("figment", g, steps, self.student) for steps in self.args.steps for g in guidances]
        g = teacher.guidance
        ways = [Way("loop", g, TUTORIAL_STEPS), Way("batched", g, TUTORIAL_STEPS)]
        ways += [Way("old", g, OLD_STEPS)] if self.args.old else []
        return {way.name: way for way in [*ways, self.chosen("figment", grid)]}

    def speeds(self, ways: dict[str, Way]) -> None:
        samples = self.samples(self.args.images, seed=0)
        for repeat in range(self.args.repeats):
            for way in ways.values():
                asked = {"kind": "speed", "way": asdict(way), "images": len(samples), "repeat": repeat}
                if not self.found(**asked):
                    self.write(**asked, images_per_second=round(len(samples) / self.spawn(way, samples), 3))

    def learn(self, ways: dict[str, Way]) -> None:
        for generation in range(self.args.seeds):
            for way in (way for way in ways.values() if way.name != "loop"):
                made = None
                for training in range(self.args.seeds):
                    asked = {
                        "kind": "cas",
                        "way": asdict(way),
                        "images": self.args.cas_images,
                        "generation": generation,
                    }
                    asked |= {"training": training, "training_steps": self.args.training_steps}
                    if not self.found(**asked):
                        made = made or self.images(way, self.args.cas_images, generation)
                        right = self.right(made, "test", training)
                        bits = np.packbits(right).tobytes().hex()
                        self.write(**asked, cas=float(right.mean()), n=len(right), right=bits)


# ---- what came of it -------------------------------------------------------------------------------------------------


def right_of(own: list[dict[str, Any]]) -> np.ndarray:
    """How often each test image was right, the mean over trainings: float (generations, n)."""
    bits = lambda row: np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), np.uint8), count=row["n"])
    generations = sorted({row["generation"] for row in own})
    return np.stack([np.mean([bits(row) for row in own if row["generation"] == g], axis=0) for g in generations])


def compared(ways: dict[str, Way], rates: dict[str, float], right: dict[str, np.ndarray]) -> Iterator[list[str]]:
    """A line a way: its settings, images a second, CAS of ``right`` float (generations, n), and how far figment's is from it."""
    from figment.evaluate.accuracy import interval, paired_difference

    for name, way in ways.items():
        low, high = interval(right[name].mean(1), right[name].shape[1])
        line = [name, f"{way.guidance:g}", str(way.steps), f"{rates[name]:.2f}"]
        line += [f"{100 * right[name].mean():.1f} % ({100 * low:.1f} to {100 * high:.1f})"]
        if name != "figment":
            ratio, d = rates["figment"] / rates[name], paired_difference(right[name], right["figment"])
            met = ratio >= TARGETS[name] and d.ci[0] > WORST
            line += [f"{ratio:.1f}x", f"{100 * d.value:+.1f} ({100 * d.ci[0]:+.1f} to {100 * d.ci[1]:+.1f})"]
            line += [f"{TARGETS[name]}x, lower end above {100 * WORST:g}", "met" if met else "**missed**"]
        yield line + [""] * (9 - len(line))


HEADER = """# Generation, side by side

Made by `{command}` at commit {commit} on {machine}; raw rows: [{rows}]({rows}). {images:,} images for the speed, {cas_images:,} for CAS, {seeds} sets of them by {seeds} trainings of a small CNN from scratch, tested on {n:,} real
images. Guidance, and figment's steps, were chosen on `pool`. Intervals are of 95 %, over test images and sets of images; the difference is figment's CAS less the other's, in points. The loop's CAS is that of `batched`.

"""


def page(study: Study, ways: dict[str, Way]) -> str:
    args = study.args
    header = ["way", "guidance", "steps", "images a second", "CAS", "figment is", "CAS difference", "target", ""]
    images, of_cas = {"kind": "speed", "images": args.images}, {"kind": "cas", "images": args.cas_images}
    right, rates = {}, {}
    for name, way in ways.items():
        sampled = ways["batched"] if name == "loop" else way
        right[name] = right_of(study.found(**of_cas, way=asdict(sampled), training_steps=args.training_steps))
        rates[name] = statistics.median(row["images_per_second"] for row in study.found(**images, way=asdict(way)))
    lines = [header, ["---"] * len(header), *compared(ways, rates, right)]
    n = right["figment"].shape[1]
    facts = {"images": args.images, "cas_images": args.cas_images, "seeds": args.seeds, "n": n, "rows": args.out.name}
    text = HEADER.format(**{key: study.provenance[key] for key in ("command", "commit", "machine")}, **facts)
    return text + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="a checkout of an older figment")
    parser.add_argument("--model", type=Path, help="the teacher's pipeline folder; default: the starter's")
    parser.add_argument("--student", type=Path, help="a distilled denoiser's folder")
    parser.add_argument("--task", default="fashion", help="a built-in task with real images")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 1.5, 2.0, 3.0], help="to choose from")
    parser.add_argument("--steps", type=int, nargs="+", default=[12, 20], help="of figment's way, to choose from")
    parser.add_argument("--images", type=int, default=1000, help="for the speed")
    parser.add_argument("--repeats", type=int, default=1, help="of the speed; the median counts")
    parser.add_argument("--choice-images", type=int, default=2000, help="for each setting to choose from")
    parser.add_argument("--cas-images", type=int, default=10_000, help="for CAS, of each set")
    parser.add_argument("--seeds", type=int, default=3, help="sets of images, and trainings on each")
    parser.add_argument("--training-steps", type=int, default=1000, help="of the network, in batches of 128")
    parser.add_argument("--out", type=Path, default=Path("generate.jsonl"), help="rows are added to this file")
    parser.add_argument("--work", type=Path, default=Path("runs/generate"), help="for images, which are kept")
    parser.add_argument("--page", type=Path, help="write the table there, in Markdown")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> None:
    args = parsed()
    if args.job:
        worker(args.job)
        return
    study = Study(args)
    ways = study.ways()
    study.speeds(ways)
    study.learn(ways)
    text = page(study, ways)
    print(text)
    if args.page:
        args.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
