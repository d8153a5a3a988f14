"""Can generated pictures stand in for the photographs you do not have, and how do you make them help?

Names are loaded when first used, so that ``import figment`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "run_recipe": "run",
    "make_images": "run",
    "Outcome": "run",
    "run_table": "studies.table",
    "Task": "task",
    "load_task": "task",
    "real_folder": "task",
    "Prompt": "types",
    "Sample": "types",
    "Verdict": "types",
    "Result": "types",
    "Templates": "prompts.templates",
    "Attributes": "prompts.attributes",
    "Seq2Seq": "prompts.seq2seq",
    "Chat": "prompts.chat",
    "Captions": "prompts.captions",
    "DiffusersGenerator": "generate.diffusers",
    "ProceduralGenerator": "generate.procedural",
    "RealGuidanceSettings": "generate.real_guidance_settings",
    "generate_images": "generate.stage",
    "Blank": "filters.blank",
    "Clip": "filters.clip",
    "Argmax": "filters.argmax",
    "Real": "filters.real",
    "Centroid": "filters.centroid",
    "Duplicate": "filters.duplicate",
    "Memorised": "filters.memorised",
    "select": "filters.selection",
    "ClipEncoder": "encoders",
    "open_encoder": "encoders",
    "Features": "encoders",
    "zero_shot_head": "classify.head",
    "open_pictures": "pictures",
    "open_kept": "pictures.verdicts",
    "concatenate": "pictures.concat",
    "PictureDataset": "loading.loader",
    "Loader": "loading.loader",
    "Shuffled": "loading.orders",
    "Grouped": "loading.orders",
    "Mixed": "loading.orders",
    "export": "exports.export",
    "Head": "classify.head",
    "TuneSettings": "classify.settings",
    "tune": "classify.tune",
    "MixSettings": "classify.settings",
    "tune_mixed": "classify.mix",
    "tip_adapter": "classify.tip_adapter",
    "tip_adapter_f": "classify.tip_adapter",
    "linear_probe": "classify.linear_probe",
    "coop": "classify.coop",
    "LiveSettings": "classify.settings",
    "tune_live": "classify.live",
    "interpolate": "classify.wise_ft",
    "draw_shots": "shots",
    "read_split": "shots",
    "write_split": "shots",
    "accuracy": "evaluate.accuracy",
    "correctness": "evaluate.accuracy",
    "paired_difference": "evaluate.accuracy",
    "verdict": "evaluate.accuracy",
    "frechet_distance": "evaluate.fidelity",
    "exchange_rate": "evaluate.exchange_rate",
    "real_curve": "evaluate.exchange_rate",
    "FigmentError": "errors",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'figment' has no attribute {name!r}")
    return getattr(import_module(f"figment.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
