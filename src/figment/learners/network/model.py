"""A trained network: it classifies, and saves itself as a folder that timm opens without figment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from figment import records, weights
from figment.errors import FigmentError
from figment.files import legible, read_bytes, read_json, write_atomic, write_json
from figment.learners.network.architectures import Network
from figment.learners.network.augment import EvalTransform
from figment.learners.network.small_cnn import NAME as SMALL_CNN_NAME
from figment.learners.network.small_cnn import SmallCNN
from figment.memory import enough_memory, in_portions
from figment.types import Images

AT_ONCE = 256  # images


@dataclass
class NetworkModel:
    """A `figment.types.Model`. ``network.module`` is in eval mode, on the device it works on."""

    network: Network
    class_names: Sequence[str]
    history: list[dict[str, Any]] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        weights = records.digest(safetensors.torch.save(_plain(self.network.module)))
        self.fingerprint = records.fingerprint(
            [weights, self.network.architecture, self.network.args, self.network.data]
        )

    def logits(self, images: Images) -> np.ndarray:
        transform = EvalTransform(self.network.data)
        return predict(self.network.module, images, range(len(images)), transform)

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``config.json`` as timm does.

        ``timm.create_model("local-dir:FOLDER", pretrained=True)`` opens it, and ``resolve_data_config`` says how images are
        prepared. The small CNN is not timm's: its folder has the same two files, which `open_network` opens.
        """
        weights = safetensors.torch.save(_plain(self.network.module), metadata={"format": "pt"})
        write_atomic(folder / "model.safetensors", weights)
        own = self.network
        config = timm_folder_config(own.module, own.architecture, own.args, own.data, self.class_names)
        write_json(folder / "config.json", config)


def timm_folder_config(
    module: nn.Module, architecture: str, args: Mapping[str, Any], data: Mapping[str, Any], class_names: Sequence[str]
) -> dict[str, Any]:
    """The ``config.json`` that timm reads beside a network's weights; ``args`` and ``data`` as `Network` has them."""
    theirs = dict(getattr(module, "pretrained_cfg", {}))
    kept = ("fixed_input_size", "pool_size", "first_conv", "classifier")
    n = args["num_classes"]  # of outputs: none where the features are what is wanted
    return {
        "architecture": architecture,
        "num_classes": n,
        "num_features": getattr(module, "num_features", None),
        "label_names": list(class_names),
        "pretrained_cfg": {"num_classes": n, **{k: theirs[k] for k in kept if k in theirs}, **data},
        "model_args": dict(args),
    }


def open_network(folder: Path, device: str = "cpu") -> NetworkModel:
    """A network that `NetworkModel.save` wrote. Raises FigmentError where the folder is damaged or holds none."""
    import timm

    config = read_json(folder / "config.json")
    with legible(folder / "model.safetensors"):
        stored = read_bytes(folder / "model.safetensors")
    try:
        name, args, cfg, names = (config[k] for k in ("architecture", "model_args", "pretrained_cfg", "label_names"))
        module = SmallCNN(**args) if name == SMALL_CNN_NAME else timm.create_model(name, **args)
        module.load_state_dict(safetensors.torch.load(stored))
        data = {k: cfg[k] for k in ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")}
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FigmentError(f"{folder} holds no network that figment wrote: {reason}. Train it again.") from error
    weights.check(module, f"The network in {folder}")
    return NetworkModel(Network(module.eval().to(device), name, args, data), names)


@torch.inference_mode()
def predict(module: nn.Module, images: Images, index: Sequence[int] | range, transform: EvalTransform) -> np.ndarray:
    """Logits, float32 (len(index), N), of a network in eval mode. Raises FigmentError where one image alone does not fit into memory."""
    device = next(module.parameters()).device

    def some(start: int, end: int) -> Tensor:
        x = torch.stack([transform(image) for image in images.load(index[start:end])])
        return module(x.to(device)).float().cpu()

    mend = "Choose a smaller network or image_size, or end what else uses that memory."
    with enough_memory(f"a network looked at an image alone, on {device}", mend):
        found, _ = in_portions(some, len(index), AT_ONCE, device)
    return torch.cat(found).numpy()


def _plain(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
