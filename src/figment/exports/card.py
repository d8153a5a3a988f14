"""The README of an export, which also tells ``datasets.load_dataset`` what to open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from figment.exports.source import Source
from figment.licences import licence_of, uses
from figment.plain_yaml import front_matter
from figment.words import markdown, without_folders

#: What ``datasets`` reads a folder with where nothing else is said: configuration -> settings of its reader.
PLAIN: Mapping[str, Mapping[str, Any]] = {"default": {}}


def card(
    source: Source, data_files: Sequence[str], layout: str, readers: Mapping[str, Mapping[str, Any]] = PLAIN
) -> bytes:
    """Markdown for ``README.md``: ``data_files`` are patterns of what is data, ``layout`` says in words where it lies, ``readers``
    are the configurations that ``datasets`` offers, the first of which it takes unasked."""
    made_by = source.stage.get("generator", {})
    front = {
        "configs": [
            {
                "config_name": name,
                "data_files": [{"split": "train", "path": list(data_files)}],
                # `datasets` knows a folder by its last name and its card alone, and would take another out of its cache.
                "description": f"content {source.fingerprint}",
                **settings,
            }
            for name, settings in readers.items()
        ],
        "task_categories": ["image-classification"],
        "annotations_creators": ["machine-generated"],
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
        f"- Generator: {_shown(made_by, 'model', 'not recorded')}, licence: {markdown(licence_of(made_by)[:1000])}",
        *(f"- {line}" for line in uses(made_by)),
        f"- Sampler: {_shown(made_by, 'sampler', 'its own')}",
        *_credentials(source),
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


def _credentials(source: Source) -> list[str]:
    if source.credentials is None:
        return []
    return [f"- Content credentials: every image is signed (C2PA) by {markdown(source.credentials.signer)[:1000]}"]


def _shown(made_by: Mapping[str, Any], what: str, otherwise: str) -> str:
    return markdown(without_folders(str(made_by.get(what) or otherwise))[:1000])  # a cascade names all of its stages
