"""The finished starter's card: ``README.md``, ``measurements.json`` and two pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from figment.generate.diffusers import DiffusersGenerator
from figment.images_in import open_images
from figment.starter.looks import LOOKS
from figment.task import load_task, real_folder

from .data import CATALOGUE_SHARE, CLIP_CATALOGUE_SHARE
from .measure import BESIDE, GENERATED, GUIDANCE, PLAIN, Row, measure, tasks
from .pack import trainings

SAMPLING: Mapping[str, Any] = {"guidance_scale": 2.0, "num_inference_steps": 6}  # what is measured, the demo's own
PHASES = ("clip", "clip_rn", "text", "vae", "unet", "decoder")
SAMPLES = 8  # of each look in the picture
WORDS = ("", "dark", "light", "slim", "wide", "short", "long", "striped")


def write_card(package: Path, work: Path) -> None:
    """Fill ``package`` with the card of the models in it; ``work`` keeps what was measured so far, and what was trained."""
    found = measure(work, SAMPLING)
    looks_sheet(package / "looks.png")
    words_sheet(package / "words.png")
    (package / "measurements.json").write_text(json.dumps(found, indent=1) + "\n")
    (package / "README.md").write_text(_card(found, package, work))


def looks_sheet(path: Path) -> None:
    """A row a look: real images, images of a plain prompt, images of a prompt with the look's words."""
    generator = DiffusersGenerator(model="starter", **SAMPLING)
    plain, rows = load_task(PLAIN), []
    for task in tasks().values():
        assert task.real.test is not None
        names = task.class_names[:SAMPLES]
        test = open_images(real_folder(task.real.test), task.class_names)
        real = test.load([int(np.flatnonzero(test.labels == label)[0]) for label in range(SAMPLES)])
        made = [
            generator([words.templates[0].replace("{}", name) for name in names], list(range(SAMPLES)))
            for words in (plain, task)
        ]
        rows.append([*real, *(image for part in made for image in part if image is not None)])
    _sheet(rows, path)


def words_sheet(path: Path) -> None:
    """A row a class, a column a word of :data:`WORDS`, one seed throughout: what the words change."""
    generator = DiffusersGenerator(model="starter", **{**SAMPLING, "guidance_scale": 3.0})
    names = ("t-shirt", "dress", "coat", "sneaker", "bag")
    texts = [" ".join(f"a photo of a {word} {name}".split()) for name in names for word in WORDS]
    made = [image for image in generator(texts, [11] * len(texts)) if image is not None]
    _sheet([made[at : at + len(WORDS)] for at in range(0, len(made), len(WORDS))], path, zoom=3)


def _sheet(rows: Sequence[Sequence[np.ndarray]], path: Path, zoom: int = 2) -> None:
    sheet = Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows], 0))
    sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST).save(path, optimize=True)


def _share(result: Row) -> str:
    low, high = result["ci"]
    return f"{100 * result['value']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _known(found: Mapping[str, Mapping[str, Row]]) -> str:
    """The table of what the models know of each look, and what there is to know."""
    lines = []
    for look, own in found.items():
        plain = _share(own["zero-shot, plain"]["accuracy"]) if "zero-shot, plain" in own else ""
        networks = (own["network, as many"]["cas"], own["network"]["cas"])
        numbers = (own["zero-shot"]["accuracy"], own["linear probe"]["accuracy"], *networks)
        lines.append(" | ".join(["", look, plain, *map(_share, numbers), ""]).strip())
    return "\n".join(lines)


def _made(found: Mapping[str, Mapping[str, Row]]) -> str:
    """The table of generated images: each look with its words and with plain ones."""
    lines = []
    for look, own in found.items():
        for name, words in (("generated, plain", "plain"), ("generated", "the look's")):
            if row := own.get(name):
                shares = (row["recognised"], row["cas"], row["coverage"])
                others = own["guidance"].values() if name == "generated" else ()
                beside = ", ".join(f"{100 * result['value']:.0f}" for result in others)
                lines.append(
                    f"| {look} | {words} | {' | '.join(map(_share, shares))} | {row['frechet']['value']:.3f} | {beside} |"
                )
    return "\n".join(lines)


def _history(work: Path) -> str:
    spent = {phase: trainings(work)[phase] for phase in PHASES}
    return "\n".join(f"| {phase} | {s['steps']:,} | {s['seconds'] / 60:.0f} min |" for phase, s in spent.items())


def _card(found: Mapping[str, Mapping[str, Row]], package: Path, work: Path) -> str:
    weights = (p.stat().st_size for p in package.rglob("*") if p.suffix in (".safetensors", ".parquet"))
    return TEMPLATE.format(
        known=_known(found),
        made=_made(found),
        history=_history(work),
        size=sum(weights) / 2**20,
        words=", ".join(word or "(none)" for word in WORDS),
        generated=GENERATED,
        few=BESIDE,
        beside=", ".join(f"{scale:g}" for scale in GUIDANCE),
        steps=SAMPLING["num_inference_steps"],
        guidance=SAMPLING["guidance_scale"],
        rare=1 - CLIP_CATALOGUE_SHARE,
        share=1 - CATALOGUE_SHARE,
        looks=", ".join(f"*{look}*" for look in LOOKS),
    )


TEMPLATE = """---
license: apache-2.0
---

# The starter: a scale model, with a gap in it

A small latent text-to-image pipeline, a small CLIP, and a CLIP with BatchNorm, in the folders of `diffusers`, `transformers` and `open_clip`, half precision,
with 20,000 real images; {size:.0f} MiB in all. It stands in for Stable Diffusion and CLIP where there is no network. It proves the machinery and the
method at 32 pixels; it says nothing about how large models do.

Its world is garments, seen in seven looks: {looks}. The web that its generator learnt from is four fifths catalogue, and the other looks share the rest; CLIP saw fewer of these still; captions often
leave the look out. So each look but the first is a user's corner of the world that the models have seen little of. `task: fashion` is the control, without a gap;
`fashion-sketch` and five more are the tasks with one. Real images of a look are rendered when they are asked for.

![a row a look: real, plain prompt, prompt with the look's words](looks.png)

Words change the image: one seed throughout, columns are {words}; guidance 3.

![one row a class, one column a word](words.png)

## How good it is

Top-1 in percent on the look's 10,000 real test images, 95 % intervals. Plain words are "a photo of a ..."; the look's are its task's. The linear probe learns from the features of
10,000 real images, the network (`small_cnn`) from the pixels of as many, or of {generated:,}.

| look | zero-shot, plain words | zero-shot | linear probe on CLIP | network, {generated:,} images | network |
|---|---|---|---|---|---|
{known}

Of {generated:,} generated images, attribute prompts, {steps} steps, guidance {guidance:g}: the share that a network trained on 10,000 real images of the look recognises; what the same network, trained on
the generated images alone, gets right of the real test images (CAS; one training each, so a point means little); how many real images are covered (k = 5) and the Fréchet distance, both in CLIP's features. Beside it what is recognised of {few} images at other guidance scales.

| look | words | recognised, % | CAS, % | coverage, % | Fréchet | recognised at guidance {beside} |
|---|---|---|---|---|---|---|
{made}

## How it was made

`python tools/build_starter.py`, on Fashion-MNIST padded to 32x32:

| model | steps | time |
|---|---|---|
{history}

- Splits: `web`, the first 50,000 training images, each seen once in one look, is all the models saw (CLIP in a share of looks of its own); `pool`, the last 10,000, stands for a user's own photographs; `test` is the official 10,000.
  The last two exist in every look.
- Captions are made from the pixels (tone, cut, length, pattern, sleeves) and from several words a class, of which some are shared ("top", "shoe") and 6 % are wrong; half of those of a look name it
  (of the catalogue, a sixth), and 2 % take one look for another: `tools/starter/captions.py`.
- CLIP: ViT of 6 layers, width 192, patches of 8; text tower of 4 layers. Its web is the same garments in fewer looks, as CLIP's was an earlier and smaller one than LAION: the other looks share {rare:.0%} of it, some 250 pictures each, where they share {share:.0%} of the generator's.
- `clip_rn`, for studies of BatchNorm: open_clip's ModifiedResNet, four stages of 2 blocks, width 16, 64 pixels, and a text tower of 3 layers, trained on CLIP's web in its own right.
- The generator reads with a text encoder of its own, the tower of a third CLIP that learnt from the generator's web: so it knows the words of looks that the CLIP which judges its images barely does.
- Steps and times are those of all sittings: from nothing the command trains the denoiser for 6,000 steps, and `--begin` goes on from there, as was done here where it says more.
- VAE: 8x8x4 latents. UNet: 128 and 192 channels, v-prediction, cosine schedule, 10 % of captions dropped.

## Licence

The weights are Apache-2.0, as the project. The images are Fashion-MNIST, (c) 2017 Zalando SE, MIT licence: https://github.com/zalandoresearch/fashion-mnist.
"""
