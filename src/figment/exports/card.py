"""The README of an export, which also tells ``datasets.load_dataset`` what to open."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from figment.exports.source import Source


def card(source: Source, data_files: Sequence[str], layout: str) -> bytes:
    """Markdown for ``README.md``: ``data_files`` are patterns of what is data, ``layout`` says in words where it lies."""
    made_by = source.stage.get("generator", {})
    front = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": list(data_files)}],
                # `datasets` knows a folder by its last name and its card alone, and would take another out of its cache.
                "description": f"content {source.fingerprint}",
            }
        ],
        "task_categories": ["image-classification"],
        "tags": ["synthetic", "figment"],
    }
    counts = Counter(source.images.labels.tolist())
    kept = int(source.kept.sum())
    rows = [f"| {label} | {_plain(name)} | {counts[label]:,} |" for label, name in enumerate(source.class_names)]
    lines = [
        "---",
        # JSON is YAML, and quotes whatever there may be.
        *(f"{key}: {json.dumps(value)}" for key, value in front.items()),
        "---",
        "",
        "# Generated images",
        "",
        f"{len(source):,} images of {len(source.class_names)} classes, all of them synthetic: {kept:,} that the filters kept"
        f" and {len(source) - kept:,} that they rejected (`kept` is false, `reason` says why).",
        "",
        layout,
        "",
        f"- Generator: `{_plain(str(made_by.get('model', 'not recorded')))}`, licence: {_plain(str(made_by.get('licence') or 'see the model'))}",
        f"- Sampler: {_plain(str(made_by.get('sampler', 'its own')))}",
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


def _plain(text: str) -> str:
    """On one line, and nothing in it that Markdown or HTML would take for its own."""
    line = " ".join(text.split())[:80]
    return "".join(c if c.isprintable() and c not in "`|<>[]&*\\" else "?" for c in line)
