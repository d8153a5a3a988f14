"""Names of ``figment`` in version 0.1, importable for one version: name -> what it is now, and where."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

NAMES = {
    "Blank": "filters.blank:BlankFilter",
    "Clip": "filters.clip:ClipFilter",
    "Argmax": "filters.argmax:ArgmaxFilter",
    "Real": "filters.real:RealFilter",
    "Centroid": "filters.centroid:CentroidFilter",
    "Duplicate": "filters.duplicate:DuplicateFilter",
    "Memorised": "filters.memorised:MemorisedFilter",
    "open_pictures": "images_in:open_images",
    "PictureDataset": "loading.loader:ImageDataset",
    "LiveSettings": "learners.clip_head.settings:UnfrozenSettings",
    "tune_live": "learners.clip_head.unfrozen:tune_unfrozen",
    # Still what they were, and no longer among the first names to know: these only move.
    "Seq2Seq": "prompts.seq2seq:Seq2Seq",
    "Chat": "prompts.chat:Chat",
    "Captions": "prompts.captions:Captions",
    "Templates": "prompts.templates:Templates",
    "RealGuidanceSettings": "generate.real_guidance_settings:RealGuidanceSettings",
    "ProceduralGenerator": "generate.procedural:ProceduralGenerator",
    "real_folder": "task:real_folder",
    "zero_shot_head": "learners.clip_head.head:zero_shot_head",
    "Head": "learners.clip_head.head:Head",
    "TuneSettings": "learners.clip_head.settings:TuneSettings",
    "tune": "learners.clip_head.tune:tune",
    "MixSettings": "learners.clip_head.settings:MixSettings",
    "tune_mixed": "learners.clip_head.mix:tune_mixed",
    "tip_adapter": "learners.clip_head.tip_adapter:tip_adapter",
    "tip_adapter_f": "learners.clip_head.tip_adapter:tip_adapter_f",
    "linear_probe": "learners.clip_head.linear_probe:linear_probe",
    "coop": "learners.clip_head.coop:coop",
    "interpolate": "learners.clip_head.wise_ft:interpolate",
    "Shuffled": "loading.orders:Shuffled",
    "Grouped": "loading.orders:Grouped",
    "ClipEncoder": "encoders:ClipEncoder",
    "Outcome": "run:Outcome",
    "Sample": "types:Sample",
    "Verdict": "types:Verdict",
    "draw_shots": "shots:draw_shots",
    "read_split": "shots:read_split",
    "write_split": "shots:write_split",
    "accuracy": "evaluate.accuracy:accuracy",
    "correctness": "evaluate.accuracy:correctness",
    "frechet_distance": "evaluate.fidelity:frechet_distance",
    "exchange_rate": "evaluate.exchange_rate:exchange_rate",
    "real_curve": "evaluate.exchange_rate:real_curve",
}


def old_name(name: str, public: dict[str, str]) -> Any:
    """What an old name stands for, with a DeprecationWarning that says the new one. ``public`` are today's names."""
    module, _, now = NAMES[name].partition(":")
    new = f"figment.{now}" if now in public and now != name else f"figment.{module}.{now}"
    warnings.warn(
        f"figment.{name} is now {new}; the old name is read for one version.", DeprecationWarning, stacklevel=3
    )
    return getattr(import_module(f"figment.{module}"), now)
