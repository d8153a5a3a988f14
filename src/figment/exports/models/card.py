"""The README of an exported model: what it is, what it was made of and under whose licence, how good it is, how it is opened."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from figment import records
from figment.licences import licence_of, uses
from figment.models import card_folder, license_of
from figment.plain_yaml import front_matter
from figment.report import backbone_card
from figment.report.answers import arms_of, recipe_of
from figment.report.results import latest_results
from figment.report.text import interval, test_images
from figment.words import markdown, without_folders

if TYPE_CHECKING:
    from figment.exports.models.export import Agreement, Classify
    from figment.recipe import Recipe
    from figment.trained import Trained

LAYOUTS = {
    "onnx": "`model.onnx` takes RGB images `uint8 (B, S, S, 3)`, B any number, and gives `logits` and `probabilities`, float32 `(B, N)`."
    " They are normalised inside; how an image is cut to S x S is said in the file's metadata (`preparation`), beside `class_names`.",
    "safetensors": "`model.safetensors` has all weights (`network.*`, and `head.*` on its features brought to unit length, if there is a"
    " head). Its metadata (`model`, JSON) has what the network is made of, how images are prepared, and `class_names`.",
    "timm": "`model.safetensors` and `config.json`, as timm has them, with how images are prepared. `label_names` in `config.json`, or"
    " `class_names` in `head.json` if there is one, are the classes.",
    "transformers": "A folder that transformers opens. `label_names` in `config.json` are the classes; or, beside a whole CLIP, `class_names`"
    " in `head.json`, and `head.safetensors` is the classifier on its image features brought to unit length.",
}
IMPORTS = "from collections.abc import Sequence\n\nimport numpy as np\nfrom PIL import Image\n\n\n"


def facts(trained: Trained) -> dict[str, Any]:
    """What the card says of the run, ready for JSON."""
    run = trained.run
    made_by = records.read(run.images).data.get("generator") or {}
    measured = records.read(run.folder).state in ("finished", "old")
    arms = arms_of(run.folder, recipe_of(run.folder), latest_results(run.folder)) if measured else []
    counts = trained.told.data.get("counts") or {}
    few, recipe = trained.recipe.few_shot, trained.recipe.model_dump(mode="json")
    return {
        "task": trained.recipe.task.name,
        "learner": str(trained.told.data.get("learner", trained.recipe.train.kind)),
        "weights": _weights(trained.recipe),
        "generator": [without_folders(str(made_by.get("model") or "not recorded")), licence_of(made_by)],
        "uses": uses(made_by),
        "images": counts.get("kept"),
        "few_shot": None if few is None else few.model_dump(mode="json"),
        "numbers": [[arm.name, arm.what, interval(arm.result), test_images(arm.result), arm.verdict] for arm in arms],
        "backbone": backbone_card.facts(run, recipe) if backbone_card.is_backbone(recipe) else None,
    }


def _weights(recipe: Recipe) -> list[list[str]]:
    """What the training started from: name and licence each."""
    train: Any = recipe.train
    names = [getattr(train, "encoder", None), getattr(train, "pretrained", None)]
    names.append(getattr(getattr(train, "pretrain", None), "pretrained", None))
    return [_licensed(name) for name in names if name]


def _licensed(name: Any) -> list[str]:
    """Of a model by its name, or of timm's by its settings."""
    shown, place = (name, name) if isinstance(name, str) else (name.name, name.timm)
    folder = card_folder(place)
    return [without_folders(shown), (None if folder is None else license_of(folder)) or backbone_card.NOT_STATED]


def card(
    to: str, told: Mapping[str, Any], class_names: Sequence[str], agreement: Agreement, classify: Classify
) -> bytes:
    """Markdown for ``README.md``."""
    backbone = told["backbone"]
    kinds = ["image-classification"] if backbone is None else [backbone_card.TAG, "image-classification"]
    front = {"library_name": to, "pipeline_tag": kinds[0], "tags": [*kinds, "synthetic", "figment"]}
    what = (
        "an image classifier" if backbone is None else "a backbone, and a linear probe that classifies by its features"
    )
    name = getattr(classify, "__name__", "classify")
    lines = [
        front_matter(front),
        "",
        f"# {markdown(str(told['task'])[:80])}: {what}",
        "",
        f"It tells {len(class_names):,} classes apart and was trained by figment on generated images. {LAYOUTS[to]}",
        "",
        "## Use it",
        "",
        'Images are RGB, `PIL.Image.open(path).convert("RGB")`, and stand upright. What comes out is a probability a class, `(n, N)`:',
        "",
        "```python",
        IMPORTS + inspect.getsource(classify).rstrip(),
        "",
        "",
        f'probabilities = {name}(".", [Image.open("photo.jpg").convert("RGB")])',
        "```",
        "",
        *_compared(agreement),
        "",
        *([] if backbone is None else _as_backbone(to, backbone)),
        "## What it is made of",
        "",
        f"- Learner: {markdown(str(told['learner']))}",
        *(f"- Starts from: {markdown(str(what)[:200])}, licence: {markdown(str(of))}" for what, of in told["weights"]),
        f"- Generator of the images: {markdown(told['generator'][0][:1000])}, licence: {markdown(told['generator'][1][:1000])}",
        *(f"  - {line}" for line in told["uses"]),
        f"- Learnt from: {_learnt_from(told)}",
        "",
        "The weights above are part of this model or shaped it: their licences, and that of the generator, say what may be done with it.",
        "",
        "## How good it is",
        "",
        *_numbers(told["numbers"]),
        *([] if backbone is None else backbone_card.as_judged(backbone)),
        "",
        "## Intended use",
        "",
        "- To classify images of these classes, of the kind that it was tested on. It always answers one of them, whatever it is shown.",
        "- It carries the errors and biases of the generator and of the weights it starts from. Test it on photographs of your own first.",
        "- Its probabilities are not calibrated. It is not meant for decisions about people.",
        "",
        "## Classes",
        "",
        *(f"{i}. {markdown(one[:200])}" for i, one in enumerate(class_names)),
        "",
        "Made with figment.",
        "",
    ]
    return "\n".join(lines).encode()


def _as_backbone(to: str, told: Mapping[str, Any]) -> list[str]:
    """The features alone, and how they came about."""
    line = 'backbone = timm.create_model("local-dir:.", pretrained=True, num_classes=0).eval()  # images to features'
    alone = ["```python", "import timm", "", line, "```"]
    if to != "timm":
        alone = ["Features alone come from what `figment export --to timm` writes, or from the run's own `model/`."]
    return ["## As a backbone", "", *alone, "", *backbone_card.pretrained(told), ""]


def _compared(agreement: Agreement) -> list[str]:
    said = (
        f"Compared with figment's own predictions on {agreement.images:,} images: no probability differs by more than"
        f" {agreement.same_pixels:.1g}."
    )
    if agreement.resized > agreement.same_pixels:
        said += f" Resized as above, where figment has another library's resize, by {agreement.resized:.1g} at most."
    return [said]


def _learnt_from(told: Mapping[str, Any]) -> str:
    few = "" if told["few_shot"] is None else ", and a few real ones"
    return ("generated images" if told["images"] is None else f"{told['images']:,} generated images") + few


def _numbers(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["Nobody knows: it was not tested on real images."]
    lines = ["| classifier | top-1, 95 % interval | on | verdict |", "|---|---|---|---|"]
    for name, what, shown, on, verdict in rows:
        told = markdown(name) + (f" ({markdown(what)})" if what else "")
        lines.append(f"| {told} | {shown} | {on} | {markdown(verdict)} |")
    return lines
