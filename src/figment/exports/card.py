"""The README of an export, which also tells ``datasets.load_dataset`` what to open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from figment.exports.source import Source
from figment.plain_yaml import front_matter
from figment.words import markdown


def card(source: Source, data_files: Sequence[str], layout: str, **reader: Any) -> bytes:
    """Markdown for ``README.md``: ``data_files`` are patterns of what is data, ``layout`` says in words where it lies, ``reader``
    are settings of the reader that ``datasets`` opens it with."""
    made_by = source.stage.get("generator", {})
    front = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": list(data_files)}],
                # `datasets` knows a folder by its last name and its card alone, and would take another out of its cache.
                "description": f"content {source.fingerprint}",
                **reader,
            }
        ],
        "task_categories": ["image-classification"],
        "tags": ["synthetic", "figment"],
    }
    counts = Counter(source.images.labels.tolist())
    kept = int(source.kept.sum())
    rows = [f"| {label} | {markdown(name[:80])} | {counts[label]:,} |" for label, name in enumerate(source.class_names)]
    of = f"{len(source.class_names)} classes"
    if counts[-1]:
        of, rows = "captions without classes", [f"| -1 | none | {counts[-1]:,} |"]
    lines = [
        front_matter(front),
        "",
        "# Generated images",
        "",
        f"{len(source):,} images of {of}, all of them synthetic: {kept:,} that the filters kept"
        f" and {len(source) - kept:,} that they rejected (`kept` is false, `reason` says why).",
        "",
        layout,
        "",
        f"- Generator: {_shown(made_by, 'model', 'not recorded')}, licence: {_shown(made_by, 'licence', 'see the model')}",
        f"- Sampler: {_shown(made_by, 'sampler', 'its own')}",
        "- Intended use: training and judging image recognisers. Generated images carry the biases and errors of the"
        " generator; test on real ones.",
        "",
        "| label | class | images |",
        "|---|---|---|",
        *rows,
        "",
        "Made with figment.",
        "",
    ]
    return "\n".join(lines).encode()


def _shown(made_by: Mapping[str, Any], what: str, otherwise: str) -> str:
    return markdown(str(made_by.get(what) or otherwise)[:1000])  # a cascade names all of its stages
