"""Images and texts to features, behind one protocol: CLIPs of ``transformers`` and of ``open_clip``."""

from __future__ import annotations

from figment.encoders.clip import ClipEncoder
from figment.encoders.features import Features, class_prototypes
from figment.encoders.open_clip import OpenClipEncoder
from figment.encoders.towers import Towers
from figment.models import is_open_clip, resolve

__all__ = ["ClipEncoder", "Features", "OpenClipEncoder", "Towers", "class_prototypes", "open_encoder"]


def open_encoder(
    name: str = "starter/clip",
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 128,
    allow_pickle: bool = False,
) -> ClipEncoder | OpenClipEncoder:
    """The encoder in a folder, in a Hub repository, or in the starter; its files say of which library it is.

    A folder that both libraries can open is opened by ``transformers``. Raises FigmentError where there is none.
    """
    folder = resolve(name, allow_pickle=allow_pickle)
    kind = OpenClipEncoder if is_open_clip(folder.path) else ClipEncoder
    return kind(folder, device, dtype, batch_size, allow_pickle)
