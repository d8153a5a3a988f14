"""LoRAs that others made, as a recipe names them. Apart from `loras`, so that a recipe can be read without loading torch."""

from __future__ import annotations

from pydantic import Field, field_validator

from figment.task import PathText, Strict


class LoraSettings(Strict):
    """A LoRA in the format of diffusers or kohya: LCM-LoRA, Hyper-SD, a style."""

    lora: PathText = Field(
        description="a .safetensors file, the folder of one, or a Hub id (owner/name, owner/name@revision)"
    )
    weight_name: str | None = Field(
        None,
        description="the file in that folder or repository; None = the only one, or pytorch_lora_weights.safetensors",
    )
    scale: float = Field(
        1.0, ge=-100, le=100, description="share of the change that is used; below 0 it is turned round"
    )

    @field_validator("weight_name")
    @classmethod
    def _is_a_file(cls, name: str | None) -> str | None:
        if name is not None and (not name.endswith(".safetensors") or "/" in name or "\\" in name or "\0" in name):
            raise ValueError("the name of a .safetensors file is wanted here, without a folder; pickles are not opened")
        return name
