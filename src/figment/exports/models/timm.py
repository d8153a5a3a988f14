"""A folder that timm opens, ``local-dir:FOLDER``: weights, configuration with preparation and class names; a head beside, if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from figment.errors import FigmentError
from figment.exports.models.export import head_of
from figment.files import write_json

if TYPE_CHECKING:
    from figment.exports.models.export import Classify
    from figment.learners.saved import Portable


def write(out: Path, portable: Portable) -> Classify:
    """Raises FigmentError for what is no network of timm's."""
    from safetensors.torch import save_file

    if portable.library != "timm":
        others = "transformers, safetensors or onnx" if portable.library == "transformers" else "safetensors or onnx"
        raise FigmentError(f"The network is none of timm's, but {whose(portable)}. Export it with --to {others}.")
    write_network(out, portable)
    if portable.head is None:
        return classify
    save_file(head_of(portable), out / "head.safetensors")
    write_json(out / "head.json", {"class_names": list(portable.class_names)})
    return with_head


def whose(portable: Portable) -> str:
    """Which network it is, in words."""
    others = {"torch": "figment's small CNN", "timm": "a network of timm's", "open_clip": "a CLIP of open_clip's"}
    return others.get(portable.library, f"a CLIP of {portable.library}'")


def write_network(out: Path, portable: Portable) -> None:
    """``model.safetensors`` and ``config.json``. The number of classes is not among ``model_args``: transformers gives it a second time."""
    from safetensors.torch import save_file

    from figment.learners.network.model import timm_folder_config

    made_by = portable.tower.made_by
    args = {name: value for name, value in made_by["model_args"].items() if name != "num_classes"}
    classes = list(portable.class_names) if portable.head is None else []
    config = timm_folder_config(
        portable.tower.module, made_by["architecture"], {**args, "num_classes": len(classes)}, made_by["data"], classes
    )
    write_json(out / "config.json", {**config, "model_args": args})
    start = "network."
    tensors = {name.removeprefix(start): v for name, v in portable.tensors().items() if name.startswith(start)}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def classify(folder: str, images: Sequence[Image.Image]) -> np.ndarray:
    import timm
    import torch

    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()  # network.pretrained_cfg["label_names"]
    prepare = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network), is_training=False)
    with torch.inference_mode():
        return network(torch.stack([prepare(image) for image in images])).softmax(-1).numpy()


def with_head(folder: str, images: Sequence[Image.Image]) -> np.ndarray:
    import timm
    import torch
    from safetensors.torch import load_file

    network = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    prepare = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network), is_training=False)
    head = load_file(f"{folder}/head.safetensors")  # and class names in head.json
    with torch.inference_mode():
        features = network(torch.stack([prepare(image) for image in images]))
        features = torch.nn.functional.normalize(features, dim=-1)
    return (features @ head["weight"].T + head["bias"]).softmax(-1).numpy()
