"""A folder that transformers opens: a network of timm's as an image classifier, or the whole CLIP with the head beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from figment.errors import FigmentError
from figment.exports.models.export import head_of
from figment.exports.models.timm import whose, write_network
from figment.files import write_json

if TYPE_CHECKING:
    from figment.exports.models.export import Classify
    from figment.learners.saved import Portable


def write(out: Path, portable: Portable) -> Classify:
    """Raises FigmentError for what transformers has no class for."""
    from safetensors.torch import save_file

    if portable.library == "timm" and portable.head is None:
        write_network(out, portable)
        return classify
    if portable.library != "transformers" or portable.whole is None:
        what = "a head on features of " if portable.head is not None else ""
        raise FigmentError(
            f"transformers has no class for {what}{whose(portable)}. Export it with --to"
            f" {'timm, ' if portable.library == 'timm' else ''}safetensors or onnx."
        )
    portable.whole(out)
    save_file(head_of(portable), out / "head.safetensors")
    write_json(out / "head.json", {"class_names": list(portable.class_names)})
    return with_head


def classify(folder: str, images: Sequence[Image.Image]) -> np.ndarray:
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(folder).eval()  # class names: model.config.id2label
    pixels = AutoImageProcessor.from_pretrained(folder)(list(images))
    with torch.inference_mode():
        return model(**pixels).logits.softmax(-1).numpy()


def with_head(folder: str, images: Sequence[Image.Image]) -> np.ndarray:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoImageProcessor, CLIPModel

    clip = CLIPModel.from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder)(images=list(images), return_tensors="pt")
    head = load_file(f"{folder}/head.safetensors")  # and class names in head.json
    with torch.inference_mode():
        features = torch.nn.functional.normalize(clip.get_image_features(**pixels).pooler_output, dim=-1)
    return (features @ head["weight"].T + head["bias"]).softmax(-1).numpy()
