"""The card of a pre-trained backbone: the README beside its weights, where the Hub and whoever comes across the folder look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from figment import claims, files, records
from figment.errors import FigmentError
from figment.judging import record
from figment.layout import Run
from figment.licences import licence_of, uses
from figment.models import card_folder, license_of
from figment.plain_yaml import front_matter
from figment.report import judged as judged_page
from figment.report.results import latest_results
from figment.report.text import interval, number, percent, test_images
from figment.words import markdown, without_folders

TAG = "image-feature-extraction"  # the Hub's word for what gives features
NOT_STATED = "not stated where the weights lie: ask whoever made them"
TEXT = "text/image_projection.safetensors"  # of what was pre-trained to read
PROBED = " `probe.safetensors` is a linear one on its features, `weight` (N, D) and `bias` (N,)."
PROBE, UNTRAINED = "top1/synthetic", "top1/zero_shot"


def is_backbone(recipe: Mapping[str, Any]) -> bool:
    """Whether a resolved recipe trains a backbone."""
    return "backbone" in recipe["train"]


def facts(run: Run, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says of the backbone of a run, ready for JSON."""
    model, train = records.read(run.model), recipe["train"]
    learnt, counts = model.data.get("facts") or {}, model.data.get("counts") or {}
    made_by = records.read(run.images).data.get("generator") or {}
    results = latest_results(run.folder)
    tested = [(what, results[m]) for what, m in (("this backbone", PROBE), ("as it starts", UNTRAINED)) if m in results]
    weights = model.files.get("model.safetensors")
    return {
        "name": recipe["name"],
        "architecture": train["backbone"],
        "options": train["options"],
        "method": train["kind"],
        "learnt": {name: learnt.get(name) for name in ("parameters", "image_size", "steps", "batch_size", "captions")},
        "images": counts.get("kept"),
        "real": recipe["few_shot"] is not None,
        "probed": "probe.safetensors" in model.files,
        "reads": TEXT in model.files,
        "starts_from": _licensed(train["pretrained"]),
        "generator": [without_folders(str(made_by.get("model") or "not recorded")), licence_of(made_by)],
        "uses": uses(made_by),
        "probe": [[what, interval(result), test_images(result)] for what, result in tested],
        "judged": [] if weights is None else judged(run, weights.sha256),
    }


def judged(run: Run, weights: str) -> list[list[str]]:
    """Evaluation, data set and number of all that ``figment judge`` found of these weights, where it writes unless told otherwise: in
    folders beside the run's own."""
    found = []
    beside = [] if files.is_remote(run.folder) else sorted(run.folder.resolve().parent.glob("judge-*"))
    for folder in (place for place in beside if claims.is_ours(place, claims.JUDGED)):
        with suppress(FigmentError):  # a damaged file is told by whoever judges into it next
            own = [one for one in record.read(folder) if one["backbone"]["weights"] == weights and "numbers" in one]
            found += [
                [f"{one['evaluation']}, {name}{judged_page.otherwise(one)}", Path(one["on"]).name, shown]
                for one in own
                for name, shown in _numbers(one)
            ]
    return found


def card(told: Mapping[str, Any]) -> bytes:
    """Markdown for ``README.md``."""
    front = {"library_name": "timm", "pipeline_tag": TAG, "tags": [TAG, "timm", "synthetic", "figment"]}
    lines = [
        front_matter(front),
        "",
        f"# {markdown(str(told['name'])[:80])}: a backbone",
        "",
        f"{markdown(str(told['architecture'])[:100])}, pre-trained by figment on generated images. It turns images into features, and has no"
        " classifier of its own." + (PROBED if told["probed"] else ""),
        "",
        "## Use it",
        "",
        "```python",
        "import timm",
        "",
        'backbone = timm.create_model("local-dir:.", pretrained=True).eval()  # or local-dir: and where this folder lies',
        "prepare = timm.data.create_transform(**timm.data.resolve_data_config({}, model=backbone), is_training=False)",
        'tuned = timm.create_model("local-dir:.", pretrained=True, num_classes=10)  # with a new classifier',
        "```",
        "",
        *_reads(told),
        "## How it was pre-trained",
        "",
        *pretrained(told),
        *(
            f"- Starts from: {markdown(str(what)[:200])}, licence: {markdown(str(of))}"
            for what, of in told["starts_from"]
        ),
        f"- Generator of the images: {markdown(told['generator'][0][:1000])}, licence: {markdown(told['generator'][1][:1000])}",
        *(f"  - {line}" for line in told["uses"]),
        "",
        "## How good it is",
        "",
        *_probe(told["probe"]),
        *as_judged(told),
        "",
        "## Intended use",
        "",
        "- As a start for networks that learn from labelled images, and as frozen features for probes and neighbours.",
        "- It carries the errors and biases of the generator and of the weights it starts from. Test what is built on it on photographs of"
        " your own first. It is not meant for decisions about people.",
        "",
        "Made with figment; `resolved.yaml` in the folder above reproduces it.",
        "",
    ]
    return "\n".join(lines).encode()


def pretrained(told: Mapping[str, Any]) -> list[str]:
    """How a backbone came about, a line of Markdown each."""
    learnt = told["learnt"]
    return [
        f"- Method: {markdown(told['method'])}, {_counted(learnt['steps'])} steps of {_counted(learnt['batch_size'])} images of"
        f" {_counted(learnt['image_size'])} pixels",
        f"- Network: {markdown(str(told['architecture'])[:100])}, {_counted(learnt['parameters'])} parameters"
        + (f", options {markdown(str(told['options'])[:300])}" if told["options"] else ""),
        f"- Learnt from: {_counted(told['images'])} generated images of {_counted(learnt['captions'])} captions"
        + (", and a few real ones" if told["real"] else ""),
    ]


def as_judged(told: Mapping[str, Any]) -> list[str]:
    """What ``figment judge`` found, as a table of Markdown; nothing where it found nothing."""
    if not told["judged"]:
        return []
    rows = (f"| {markdown(by)} | {markdown(on[:200])} | {shown} |" for by, on, shown in told["judged"])
    return ["", "| judged by | on | 95 % interval in brackets |", "|---|---|---|", *rows]


def _reads(told: Mapping[str, Any]) -> list[str]:
    if not told["reads"]:
        return []
    return [
        "It reads too: `text/` has the tower (transformers' `CLIPTextModelWithProjection`), its tokenizer, and in"
        " `image_projection.safetensors` the `weight` (D, features) that brings the backbone's features beside its texts, and the"
        " `logit_scale`, a logarithm.",
        "",
    ]


def _probe(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["Nobody knows: it was not tested on real images. `figment judge` does that."]
    lines = ["| linear probe on its features | top-1, 95 % interval | on |", "|---|---|---|"]
    return [*lines, *(f"| {what} | {shown} | {on} |" for what, shown, on in rows)]


def _numbers(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and text of each number of a result of ``judge.json``."""
    shown = []
    for name, value in one["numbers"]["values"].items():
        ci = one["numbers"]["ci"].get(name)
        shown.append((name, percent(value) + ("" if ci is None else f" ({number(ci[0])} to {number(ci[1])})")))
    return shown


def _counted(n: int | None) -> str:
    return "an unknown number of" if n is None else f"{n:,}"


def _licensed(name: str | None) -> list[list[str]]:
    """Name and licence of the weights that the training started from, if it did."""
    if name is None:
        return []
    folder = card_folder(name)
    return [[without_folders(name), (None if folder is None else license_of(folder)) or NOT_STATED]]
