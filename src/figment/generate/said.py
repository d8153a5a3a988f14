"""What a generator says of itself, where it does; and what it does not read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from figment.types import Generator

log = logging.getLogger(__name__)


def described(generator: Generator) -> dict[str, Any]:
    """Model, licence, sampler and the like, for the record of its images."""
    describe: Callable[[], dict[str, Any]] = getattr(generator, "describe", dict)
    return describe()


def guidance_of(description: Mapping[str, Any]) -> dict[str, float]:
    """The scales that images were guided with, as their generator :func:`described` it: field of the recipe -> scale."""
    stages = description.get("stages")
    told = (
        {"generate": description} if stages is None else {f"generate.stages.{i}": own for i, own in enumerate(stages)}
    )
    return {f"{where}.guidance_scale": own["guidance_scale"] for where, own in told.items() if "guidance_scale" in own}


def warn_of_long_prompts(generator: Generator, texts: list[str]) -> None:
    """Text encoders read so many tokens and no further, without a word."""
    count: Callable[[list[str]], int] = getattr(generator, "count_cut", lambda texts: 0)
    cut = count(texts)
    if cut:
        log.warning(f"{cut:,} of {len(texts):,} prompts are longer than the generator reads: their ends change nothing")


def warn_of_settings(generator: Generator) -> None:
    """Distilled models make images with any settings, and good ones with few."""
    warnings: list[str] = getattr(generator, "warnings", [])
    for one in warnings:
        log.warning(one)
