"""An encoder that is more than a name: the ``encoder`` of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Discriminator, Field, Tag

from figment.task import PathText, Strict, Text

if TYPE_CHECKING:
    from figment.encoders import TimmEncoder


class TimmEncoderSettings(Strict):
    """An image network of timm with weights from a file: no hub is asked."""

    timm: Text = Field(description="an architecture of timm.list_models(), such as tf_efficientnet_lite0")
    weights: PathText = Field(description="its weights: .safetensors, or a .pth that holds tensors and nothing else")

    @property
    def name(self) -> str:
        return f"timm/{self.timm}"

    def build(self) -> TimmEncoder:
        """The encoder. Raises FigmentError for an architecture that there is not, and weights that are not its own."""
        from figment.encoders import TimmEncoder

        return TimmEncoder(self.timm, self.weights)


Encoder = Annotated[
    Annotated[PathText, Tag("named")] | Annotated[TimmEncoderSettings, Tag("from a file")],
    Discriminator(lambda value: "from a file" if isinstance(value, dict | TimmEncoderSettings) else "named"),
]
