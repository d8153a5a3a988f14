"""What ``datasets.load_dataset`` opens of the folder of a run, whose tables are not all of one kind: ``.huggingface.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from figment import files, records
from figment.images_in.verdicts import steps_of
from figment.layout import Run


def write_data_files(run: Run) -> None:
    """Write a configuration for each kind of table that is finished. The first, which is taken unasked, has the images that were
    made; those that filters rejected are among them, since verdicts are tables of their own."""
    tables: dict[str, tuple[Path, str, dict[str, Any]]] = {}
    if run.made == run:  # else images and prompts lie with another run, where no pattern of this one reaches
        made = {"filters": [["error", "==", ""]]}  # an attempt that failed has no image
        tables["images"] = (run.images, "images/*/train-*.parquet", made)
        tables["prompts"] = (run.prompts, "prompts/train.parquet", {})
    for step in steps_of(run):
        tables[f"verdicts-{step}"] = (run.scores / step, f"scores/{step}/train.parquet", {})
    tables["predictions"] = (run.folder, "predictions.parquet", {})
    configs = [
        # `datasets` knows a folder by its last name and these lines alone, and would take another out of its cache.
        {"config_name": name, "data_files": pattern, "description": f"content {content}", **reader}
        for name, (folder, pattern, reader) in tables.items()
        if (content := _content(folder, pattern.rpartition("/")[2]))
    ]
    configs[:1] = [one | {"default": True} for one in configs[:1]]
    files.write_atomic(run.data_files, yaml.safe_dump({"configs": configs}, sort_keys=False).encode())


def _content(folder: Path, name: str) -> str:
    """Tells what a table holds from what it held before; empty where no record vouches for it."""
    found = records.read(folder)
    told = found.files.get(name)
    held = found.data.get("shards") if told is None else told.plain()
    return records.fingerprint(held) if held and found.state == "finished" else ""
