"""One safetensors file: all weights, and in its metadata what each library makes the network of, class names and all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from figment.exports.models.export import Classify
    from figment.learners.saved import Portable


def write(out: Path, portable: Portable) -> Classify:
    from safetensors.torch import save_file

    about = {**portable.tower.made_by, "class_names": list(portable.class_names)}
    # One key: with several, safetensors writes them in another order each time.
    save_file(portable.tensors(), out / "model.safetensors", metadata={"model": json.dumps(about)})
    by_library = {"transformers": of_transformers, "open_clip": of_open_clip, "timm": of_timm, "torch": of_torch}
    return by_library[portable.library]


def of_transformers(folder: str, images: Sequence[Image.Image]) -> np.ndarray:
    import json

    import torch
    from safetensors import safe_open
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        about, w = json.loads(file.metadata()["model"]), {name: file.get_tensor(name) for name in sorted(file.keys())}
    network = CLIPVisionModelWithProjection(CLIPVisionConfig(**about["config"])).eval()
    network.load_state_dict({name[8:]: w[name] for name in w if name.startswith("network.")})
    pixels = CLIPImageProcessor(**about["processor"])(images=list(images), return_tensors="pt")
    with torch.inference_mode():
        features = torch.nn.functional.normalize(network(**pixels).image_embeds, dim=-1)
    return (features @ w["head.weight"].T + w["head.bias"]).softmax(-1).numpy()


def of_open_clip(folder: str, images: Sequence[Image.Image]) -> np.ndarray:
    import json

    import open_clip
    import torch
    from safetensors import safe_open

    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        about, w = json.loads(file.metadata()["model"]), {name: file.get_tensor(name) for name in sorted(file.keys())}
    network = open_clip.model.CustomTextCLIP(**about["model_cfg"]).visual.eval()
    network.load_state_dict({name[8:]: w[name] for name in w if name.startswith("network.")})
    prepare = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**about["preprocess_cfg"]), False
    )
    with torch.inference_mode():
        features = torch.nn.functional.normalize(network(torch.stack([prepare(image) for image in images])), dim=-1)
    return (features @ w["head.weight"].T + w["head.bias"]).softmax(-1).numpy()


def of_timm(folder: str, images: Sequence[Image.Image]) -> np.ndarray:
    import json

    import timm
    import torch
    from safetensors import safe_open

    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        about, w = json.loads(file.metadata()["model"]), {name: file.get_tensor(name) for name in sorted(file.keys())}
    network = timm.create_model(about["architecture"], **about["model_args"]).eval()
    network.load_state_dict({name[8:]: w[name] for name in w if name.startswith("network.")})
    prepare = timm.data.create_transform(**about["data"], is_training=False)
    with torch.inference_mode():
        out = network(torch.stack([prepare(image) for image in images]))
    if "head.weight" in w:  # on features of unit length
        out = torch.nn.functional.normalize(out, dim=-1) @ w["head.weight"].T + w["head.bias"]
    return out.softmax(-1).numpy()


def of_torch(folder: str, images: Sequence[Image.Image]) -> np.ndarray:
    import json

    import timm.data
    import torch
    from safetensors import safe_open

    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        about, w = json.loads(file.metadata()["model"]), {name: file.get_tensor(name) for name in sorted(file.keys())}
    x = torch.stack([timm.data.create_transform(**about["data"], is_training=False)(image) for image in images])
    x = x.mean(1, keepdim=True)  # colour is not looked at
    for i in (0, 4, 8):  # a convolution, its batch norm, and half the size
        norm = [w[f"network.features.{i + 1}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        x = torch.nn.functional.conv2d(x, w[f"network.features.{i}.weight"], padding=1)
        x = torch.nn.functional.max_pool2d(torch.nn.functional.batch_norm(x, *norm).relu(), 2)
    return (x.flatten(1) @ w["network.classifier.weight"].T + w["network.classifier.bias"]).softmax(-1).numpy()
