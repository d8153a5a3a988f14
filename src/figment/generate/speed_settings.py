"""What makes images sooner, as a recipe names it. Apart from `speed`, so that a recipe can be read without loading torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from figment.task import PathText, Strict

TINY = "tiny"


class SpeedSettings(Strict):
    """Each is timed on the chip at work, beside what it takes the place of, in the first batch.

    ``compile`` and ``backend`` make the same images up to rounding, and are used where they turn out faster. The others change pixels: what
    is asked for is done, so that a set is one thing whoever makes it, and what it gains is said.
    """

    compile: bool = Field(False, description="torch.compile the denoiser: faster after minutes of waiting")
    backend: Literal["torch", "openvino"] = Field(
        "torch", description="what computes the denoiser; openvino is for CPUs, and converts it once"
    )
    vae: PathText | None = Field(
        None,
        description="decode with a small VAE: tiny = the one of the model's latent space (taesd and its like), or a folder or Hub id of an"
        " AutoencoderTiny; None = the model's own",
    )
    cache: Literal["slow", "medium", "fast", "ultra"] | None = Field(
        None,
        description="of diffusion transformers: the steps in which only the first block is computed, and of the others what they last added"
        " is added again; cache-dit's choices, of 28 steps 10, 13, 17 or 20; None = none",
    )
    quantise: Literal["fp8", "fp8_weights"] | None = Field(
        None,
        description="the denoiser's linear layers in 8-bit floats, on GPUs that have them (torchao): fp8 computes in them, fp8_weights"
        " stores weights so; None = as dtype says",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [
            name
            for name, asked in (
                ("compile", self.compile),
                ("backend: openvino", self.backend == "openvino"),
                ("cache", self.cache is not None),
                ("quantise", self.quantise is not None),
            )
            if asked
        ]
        if len(ways) > 1 and set(ways) != {"compile", "quantise"}:
            raise ValueError(
                f"{' and '.join(ways)} each put something else in the place of the denoiser: give one of them, or compile with quantise"
            )
        return self
