"""Images and texts to features, behind one protocol: CLIPs of ``transformers``, of ``open_clip`` and of one's own pre-training; images
alone: ``timm``, Inception."""

from __future__ import annotations

from figment.encoders.clip import ClipEncoder
from figment.encoders.features import Features, class_prototypes
from figment.encoders.inception import NAME as INCEPTION
from figment.encoders.inception import InceptionEncoder
from figment.encoders.open_clip import OpenClipEncoder
from figment.encoders.pair import PairEncoder, has_text
from figment.encoders.timm import TimmEncoder
from figment.encoders.towers import Towers, is_raw, raw
from figment.errors import FigmentError
from figment.models import is_open_clip, is_timm, resolve
from figment.types import Encoder

__all__ = [
    "INCEPTION",
    "ClipEncoder",
    "Features",
    "InceptionEncoder",
    "OpenClipEncoder",
    "PairEncoder",
    "TimmEncoder",
    "Towers",
    "class_prototypes",
    "identity",
    "open_encoder",
    "raw",
]


def open_encoder(
    name: str = "starter/clip",
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 128,
    allow_pickle: bool = False,
) -> ClipEncoder | OpenClipEncoder | PairEncoder | InceptionEncoder:
    """The encoder in a folder, in a Hub repository, or in the starter; its files say of which library it is.

    A folder that both libraries can open is opened by ``transformers``. ``inception`` is FID's network, in float32. Raises FigmentError
    where there is none.
    """
    if name == INCEPTION:
        return InceptionEncoder(device)
    folder = resolve(name, allow_pickle=allow_pickle)
    if is_timm(folder.path) and has_text(folder.path):
        return PairEncoder(folder, device, dtype, batch_size)
    if is_timm(folder.path):
        raise FigmentError(
            f"{name} holds a network of timm, which sees images and reads no words. Where images alone are looked at, write"
            f" encoder: {{timm: {name}}}; train: {{kind: images_only}} learns on it. Whatever goes by the class names needs a CLIP."
        )
    kind = OpenClipEncoder if is_open_clip(folder.path) else ClipEncoder
    return kind(folder, device, dtype, batch_size, allow_pickle)


def identity(encoder: Encoder) -> dict[str, str]:
    """What a number depends on besides the images: which encoder, the hash of its weights, how it resizes, its precision, and
    whether its features are of unit length or as its network gives them."""
    named = {"encoder": "name", "weights": "fingerprint", "resize": "resize", "dtype": "dtype"}
    told = {field: str(getattr(encoder, name, "")).removeprefix("torch.") for field, name in named.items()}
    as_given = isinstance(encoder, InceptionEncoder) or is_raw(encoder)
    return {**told, "features": "raw" if as_given else "unit length"}
