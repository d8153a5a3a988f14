"""An encoder that is more than a name: the ``encoder`` of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag

from figment.task import PathText, Strict

if TYPE_CHECKING:
    from figment.encoders import TimmEncoder


class TimmEncoderSettings(Strict):
    """An image network of timm, which reads no words: a folder of one, or an architecture with weights from a file."""

    timm: PathText = Field(
        description="a folder that timm or figment wrote, such as runs/NAME/model, or a Hub id; with weights an architecture of"
        " timm.list_models(), such as tf_efficientnet_lite0"
    )
    weights: PathText | None = Field(
        None, description="of that architecture: .safetensors, or a .pth that holds tensors and nothing else"
    )

    @property
    def name(self) -> str:
        return self.timm if self.weights is None else f"timm/{self.timm}"

    def build(self, device: str = "auto", dtype: str = "auto") -> TimmEncoder:
        """The encoder. Raises FigmentError for an architecture that there is not, and weights that are not its own."""
        from figment.encoders.timm import TimmEncoder, open_timm

        if self.weights is None:
            return open_timm(self.timm, device, dtype)
        return TimmEncoder(self.timm, self.weights, device, dtype)


Encoder = Annotated[
    Annotated[PathText, Tag("named")] | Annotated[TimmEncoderSettings, Tag("from a file")],
    Discriminator(lambda value: "from a file" if isinstance(value, dict | TimmEncoderSettings) else "named"),
]


def _reads_words(value: Any) -> Any:
    if isinstance(value, dict | TimmEncoderSettings):
        raise ValueError(
            "a network of timm reads no words, and this learner goes by the class names: name a CLIP, or take train.kind: images_only"
        )
    return value


#: An encoder of words and images.
Clip = Annotated[PathText, BeforeValidator(_reads_words)]
