"""Can generated images stand in for the photographs you do not have, and how do you make them help?

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
    "BlankFilter": "filters.blank",
    "ClipFilter": "filters.clip",
    "ArgmaxFilter": "filters.argmax",
    "RealFilter": "filters.real",
    "CentroidFilter": "filters.centroid",
    "DuplicateFilter": "filters.duplicate",
    "MemorisedFilter": "filters.memorised",
    "select": "filters.selection",
    "ClipEncoder": "encoders",
    "open_encoder": "encoders",
    "Features": "encoders",
    "zero_shot_head": "learners.clip_head.head",
    "open_images": "images_in",
    "open_kept": "images_in.verdicts",
    "concatenate": "images_in.concat",
    "ImageDataset": "loading.loader",
    "Loader": "loading.loader",
    "Shuffled": "loading.orders",
    "Grouped": "loading.orders",
    "Mixed": "loading.orders",
    "export": "exports.export",
    "Head": "learners.clip_head.head",
    "TuneSettings": "learners.clip_head.settings",
    "tune": "learners.clip_head.tune",
    "MixSettings": "learners.clip_head.settings",
    "tune_mixed": "learners.clip_head.mix",
    "tip_adapter": "learners.clip_head.tip_adapter",
    "tip_adapter_f": "learners.clip_head.tip_adapter",
    "linear_probe": "learners.clip_head.linear_probe",
    "coop": "learners.clip_head.coop",
    "UnfrozenSettings": "learners.clip_head.settings",
    "tune_unfrozen": "learners.clip_head.unfrozen",
    "interpolate": "learners.clip_head.wise_ft",
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
    "NetworkSettings": "learners.network.settings",
    "NetworkLearner": "learners.network.network",
    "open_network": "learners.network.model",
    "classification_accuracy_score": "cas",
    "MemoryImages": "images_in.memory",
    "FigmentError": "errors",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'figment' has no attribute {name!r}")
    return getattr(import_module(f"figment.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
