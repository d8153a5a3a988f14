"""One ONNX file: ``uint8 (B, S, S, 3)`` images, cut to size, to logits and probabilities. Normalisation is in the graph, class names
and the way to cut an image are in the file's metadata."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from figment.errors import FigmentError, missing_extra

if TYPE_CHECKING:
    from torch import Tensor, nn

    from figment.encoders.elsewhere import Preparation
    from figment.exports.models.export import Classify
    from figment.learners.saved import Portable

MOST_BYTES = 2**31 - 2**20  # of one file of protobuf's; larger weights lie beside it


def write(out: Path, portable: Portable) -> Classify:
    """Raises FigmentError where a package is missing, and for a network that torch cannot write."""
    import torch

    from figment.encoders.elsewhere import check_prepared

    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise missing_extra(package, "onnx") from error
    preparation = check_prepared(portable.tower.preparation, portable.tower.made_by["library"])
    size = preparation.crop
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)  # of a batch of 1 torch would think it is always 1
    try:
        with _quiet():
            program = torch.onnx.export(
                _module(portable, preparation),
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["logits", "probabilities"],
                dynamic_shapes={"images": {0: "batch"}},
                verbose=False,
            )
    except Exception as error:  # torch's exporter speaks through many libraries
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise FigmentError(
            f"torch cannot write this network as ONNX: {type(error).__name__}, {reason}. Export it with --to safetensors."
        ) from error
    assert program is not None
    program.model.metadata_props["class_names"] = json.dumps(list(portable.class_names))
    program.model.metadata_props["preparation"] = json.dumps(asdict(preparation))
    weights = sum(tensor.nbytes for tensor in portable.tensors().values())
    program.save(out / "model.onnx", external_data=weights > MOST_BYTES)
    return classify


def _module(portable: Portable, preparation: Preparation) -> nn.Module:
    """Images to logits and probabilities, (B, N) each."""
    import torch

    class FromPixels(torch.nn.Module):
        mean: Tensor
        std: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = portable.module()
            self.register_buffer("mean", torch.tensor(preparation.mean).view(-1, 1, 1))
            self.register_buffer("std", torch.tensor(preparation.std).view(-1, 1, 1))

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            x = images.permute(0, 3, 1, 2).float() / 255
            logits = self.network((x - self.mean) / self.std)
            return logits, logits.softmax(-1)

    return FromPixels().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and what it is built on tell of their own steps, which nobody can act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def classify(folder: str, images: Sequence[Image.Image]) -> np.ndarray:
    import json

    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
    p = json.loads(session.get_modelmeta().custom_metadata_map["preparation"])
    batch = []
    for image in images:  # RGB, of any size
        sides = [p["resize"] if p["squash"] else p["resize"] * side // min(image.size) for side in image.size]
        x, y = ((round if p["rounds"] else int)((side - p["crop"]) / 2) for side in sides)
        resized = image.resize(sides, Image.Resampling[p["interpolation"].upper()])
        batch.append(np.asarray(resized.crop((x, y, x + p["crop"], y + p["crop"]))))
    return session.run(["probabilities"], {"images": np.stack(batch)})[0]
