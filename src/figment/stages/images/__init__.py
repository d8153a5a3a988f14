"""Prompts to images: ``images/``, shards with a sidecar each. One file making, one checking, one mending."""

from figment.stages.images.stage import ImagesStage

__all__ = ["ImagesStage"]
