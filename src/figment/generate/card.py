"""The README of a folder of images: a dataset card, which also tells ``datasets.load_dataset`` what to open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figment import records
from figment.licences import licence_of, uses
from figment.plain_yaml import front_matter
from figment.words import markdown, one_line


def dataset_card(recipe: Any, facts: Mapping[str, Any]) -> str:
    """Markdown for the README of the images; ``recipe`` is a :class:`figment.recipe.Recipe`, ``facts`` what their record says."""
    counts, made_by = facts["counts"], facts.get("generator", {})
    task = recipe.task
    failed = sum(counts["failed"].values())
    front = {
        "configs": [
            {"config_name": "default", "data_files": "*/train-*.parquet", "description": content(facts["shards"])}
        ],
        "task_categories": ["image-classification"],
        "annotations_creators": ["machine-generated"],
        "tags": ["synthetic", "figment"],
        "pretty_name": f"Generated images: {one_line(recipe.task.name)}",
    }
    names = ", ".join(markdown(n[:60]) for n in task.class_names[:50]) if recipe.prompts.has_classes else "none"
    of = f"{len(task.class_names)} classes" if recipe.prompts.has_classes else "captions without classes"
    model = made_by.get("model", recipe.generate.kind)
    return "\n".join(
        [
            front_matter(front),
            "",
            "# Generated images",
            "",
            f"{counts['attempted']:,} attempts at images of {of}, {counts['made']:,} made and {failed:,} failed. "
            "All of them are synthetic. One row is one attempt; a failed one has no image and says why in `error`.",
            "",
            f"- Classes: {names}",
            f"- Generator: {markdown(str(model))}, licence: {markdown(licence_of(made_by))}",
            *(f"- {line}" for line in uses(made_by)),
            f"- Sampler: {markdown(str(made_by.get('sampler', 'its own')))}",
            f"- Prompts: {markdown(recipe.prompts.kind)}, in the column `prompt`",
            "- Filters run after generation; their verdicts lie in `scores/` of the run, or of each run that uses these images",
            "- Intended use: training and judging image recognisers. Generated images carry the biases and errors of the generator; "
            "test on real ones.",
            "",
            "Made with figment; `resolved.yaml` in the folder above reproduces it.",
            "",
        ]
    )


def content(shards: Any) -> str:
    """What tells one data set from the next: ``datasets`` knows a folder by its last name and its card alone, and would give
    the images of another run's ``images`` out of its cache."""
    return f"content {records.fingerprint(shards)}"
