"""Measure the finished starter and write its card: ``README.md``, ``measurements.json``, two images."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from figment.cas import classification_accuracy_score
from figment.encoders import Features, open_encoder
from figment.evaluate.accuracy import accuracy
from figment.evaluate.fidelity import recognised
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.seeds import sample_seed
from figment.images_in import open_images
from figment.images_in.memory import MemoryImages
from figment.learners.clip_head.head import zero_shot_head
from figment.learners.network.network import NetworkLearner
from figment.learners.network.small_cnn import SMALL_CNN
from figment.prompts.attributes import Attributes
from figment.task import Task, load_task
from figment.types import Result

from . import data

IMAGES = {1.0: 10_000, 2.0: 3_000}  # guidance -> images generated to measure it
STEPS = 12
CNN_STEPS = 800  # and what it takes to end an epoch
CNN = SMALL_CNN.model_copy(update={"min_steps": CNN_STEPS})
WORDS = ("", "dark", "light", "slim", "wide", "short", "long", "striped")


def write_card(package: Path, work: Path, data_folder: Path) -> None:
    """Fill ``package`` with the card; ``work`` keeps what was measured so far, so a killed run goes on."""
    task = load_task("fashion")
    test = open_images(package / "test", task.class_names)
    kept = work / "measurements.json"
    found: dict = json.loads(kept.read_text()) if kept.is_file() else {}

    def note(name: str, **values) -> None:
        found[name] = {k: asdict(v) if isinstance(v, Result) else v for k, v in values.items()}
        kept.write_text(json.dumps(found, indent=1))
        print(f"card: {name} measured", flush=True)

    if "clip" not in found:
        encoder = open_encoder("starter/clip")
        head = zero_shot_head(encoder, task.class_names, task.templates)
        note("clip", zero_shot=accuracy(head.predict(Features(encoder)(test)), test.labels, task.class_names))
    if "clip_rn" not in found:
        pool = open_images(package / "pool", task.class_names)
        encoder = open_encoder("starter/clip_rn")
        head = zero_shot_head(encoder, task.class_names, task.templates)
        note("clip_rn", zero_shot=accuracy(head.predict(Features(encoder)(pool)), pool.labels, task.class_names))
    web_images, web_labels = data.load("web", data_folder)
    grey = data.pad(web_images)  # uint8 (n, 32, 32)
    web = MemoryImages(np.repeat(grey[..., None], 3, axis=-1), web_labels)
    for n in (10_000, 50_000):
        if f"real {n}" not in found:
            seeds = (0, 1) if n == 10_000 else (0,)
            own = web.take(range(n))
            cas = classification_accuracy_score(own, test, task.class_names, settings=CNN, seeds=seeds)
            note(f"real {n}", cas=cas)
    judge = None
    for guidance, images in IMAGES.items():
        name = f"guidance {guidance:g}"
        if name not in found:
            judge = judge or NetworkLearner(CNN, task.class_names).learn(web, None, seed=0)
            made, rate = sample(task, guidance, images)
            cas = classification_accuracy_score(made, test, task.class_names, settings=CNN, seeds=(0, 1))
            note(
                name,
                cas=cas,
                recognised=recognised(judge.logits(made), made.labels, task.class_names, CNN.architecture),
                images=len(made),
                images_per_second=rate,
            )
    image_grid(task, package / "grid.png")
    word_grid(task, package / "words.png")
    (package / "measurements.json").write_text(json.dumps(_brief(found), indent=1) + "\n")
    (package / "README.md").write_text(_card(found, package, work))


def sample(task: Task, guidance: float, n: int) -> tuple[MemoryImages, float]:
    """``n`` images, balanced, of attribute prompts; images a second."""
    generator = DiffusersGenerator(model="starter", guidance_scale=guidance, num_inference_steps=STEPS)
    per_class = n // len(task.class_names)
    prompts = Attributes()(task, min(500, per_class), np.random.default_rng(0))
    by_class = [[p for p in prompts if p.label == c] for c in range(len(task.class_names))]
    chosen = [(own[j % len(own)], j // len(own)) for j in range(per_class) for own in by_class]
    started = time.perf_counter()
    made = generator([p.text for p, _ in chosen], [sample_seed(7, p.id, k) for p, k in chosen])
    rate = len(made) / (time.perf_counter() - started)
    labels = np.array([p.label for (p, _), i in zip(chosen, made, strict=True) if i is not None])
    return MemoryImages([i for i in made if i is not None], labels), rate


def _sheet(rows: list[list[np.ndarray]], path: Path, zoom: int = 2) -> None:
    sheet = Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows], 0))
    sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST).save(path, optimize=True)


def image_grid(task: Task, path: Path) -> None:
    """A row a class, guidance 2."""
    generator = DiffusersGenerator(model="starter", guidance_scale=2.0, num_inference_steps=STEPS)
    texts = [f"a photo of a {name}" for name in task.class_names for _ in range(12)]
    made = generator(texts, list(range(len(texts))))
    _sheet([[i for i in made[r * 12 : r * 12 + 12] if i is not None] for r in range(len(task.class_names))], path)


def word_grid(task: Task, path: Path) -> None:
    """A row a class, a column a word of :data:`WORDS`, one seed throughout: what the words change."""
    generator = DiffusersGenerator(model="starter", guidance_scale=3.0, num_inference_steps=STEPS)
    names = ("t-shirt", "dress", "coat", "sneaker", "bag")
    texts = [" ".join(f"a photo of a {word} {name}".split()) for name in names for word in WORDS]
    made = generator(texts, [11] * len(texts))
    _sheet(
        [[i for i in made[r * len(WORDS) : (r + 1) * len(WORDS)] if i is not None] for r in range(len(names))],
        path,
        zoom=3,
    )


def _brief(found: dict) -> dict:
    """What was measured without the per-class detail."""
    keep = ("metric", "value", "n", "ci", "seeds")
    return {
        k: {a: {x: b[x] for x in keep} if isinstance(b, dict) else b for a, b in v.items()} for k, v in found.items()
    }


def _share(result: dict) -> str:
    low, high = result["ci"]
    return f"{100 * result['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _card(found: dict, package: Path, work: Path) -> str:
    spent = {
        name: torch.load(work / f"{name}.pt", weights_only=True)
        for name in ("clip", "clip_rn", "vae", "unet", "decoder")
        if (work / f"{name}.pt").is_file()
    }
    history = "\n".join(f"| {name} | {s['step']:,} | {s['seconds'] / 60:.0f} min |" for name, s in spent.items())
    rows = "\n".join(
        f"| {k.split()[1]} | {_share(v['cas'])} | {_share(v['recognised'])} | {v['images']:,} |"
        for k, v in found.items()
        if k.startswith("guidance")
    )
    size = (
        sum(p.stat().st_size for p in package.rglob("*") if p.is_file() and p.suffix in (".safetensors", ".parquet"))
        / 2**20
    )
    return TEMPLATE.format(
        history=history,
        rows=rows,
        size=size,
        steps=STEPS,
        cnn_steps=CNN_STEPS,
        zero_shot=_share(found["clip"]["zero_shot"]),
        zero_shot_rn=_share(found["clip_rn"]["zero_shot"]),
        real10=_share(found["real 10000"]["cas"]),
        real50=_share(found["real 50000"]["cas"]),
        words=", ".join(w or "(none)" for w in WORDS),
    )


TEMPLATE = """---
license: apache-2.0
---

# The starter: a scale model

A small latent text-to-image pipeline, the small CLIP it is conditioned on, and a CLIP with BatchNorm, in the folders of `diffusers`, `transformers` and `open_clip`, half precision,
with 20,000 real images; {size:.0f} MB in all. It stands in for Stable Diffusion and CLIP where there is no network. It proves the machinery and the
method at 32 pixels; it says nothing about how large models do.

![one row a class, guidance 2](grid.png)

Words change the image: one seed throughout, columns are {words}; guidance 3.

![one row a class, one column a word](words.png)

## How good it is

Top-1 on the 10,000 real test images, 95 % intervals, unless said otherwise. The CNN is figment's `small_cnn`, {cnn_steps} steps of 128, trained from scratch.

- Zero-shot CLIP, "a photo of a ...": {zero_shot}
- Zero-shot, the CLIP with BatchNorm, on the 10,000 images of `pool`: {zero_shot_rn}
- The CNN on 10,000 real images: {real10}; on 50,000: {real50}

| guidance | CAS: the CNN on generated images alone | recognised (share of the generated) | generated |
|---|---|---|---|
{rows}

{steps} steps of DPM-Solver++, attribute prompts, two training seeds for CAS. Recognised are those that the CNN trained on 50,000 real images calls by their class.
What is easiest to recognise is not the best to train on: choose guidance by CAS, not by looks.

## How it was made

`python tools/build_starter.py`, on Fashion-MNIST padded to 32x32, on two cores of an AMD EPYC, bfloat16:

| model | steps | time |
|---|---|---|
{history}

- Splits: `web`, the first 50,000 training images, is all the models saw; `pool`, the last 10,000, stands for a user's own photographs; `test` is the official 10,000.
- Captions are made from the pixels (tone, cut, length, pattern, sleeves) and from several words a class, of which some are shared ("top", "shoe") and 6 % are wrong: `tools/starter/captions.py`.
- CLIP: ViT of 6 layers, width 192, patches of 8; text tower of 4 layers, 765 tokens.
- `clip_rn`, for studies of BatchNorm: open_clip's ModifiedResNet, four stages of 2 blocks, width 16, 64 pixels. Its text tower is the other CLIP's, copied;
  its image tower learnt to give the images of `web` the other CLIP's features, so it is no second opinion on what words mean. One core.
- VAE: 8x8x4 latents. UNet: 128 and 192 channels, v-prediction, cosine schedule, 10 % of captions dropped.

## Licence

The weights are Apache-2.0, as the project. The images are Fashion-MNIST, (c) 2017 Zalando SE, MIT licence: https://github.com/zalandoresearch/fashion-mnist.
"""
