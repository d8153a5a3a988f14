"""A cascade: a small image from text, then models that enlarge it (Saharia et al. 2022, Imagen, section 2.3; Ho et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import lcm
from typing import Any

import numpy as np

from figment import records
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.seeds import stage_seed


class CascadeGenerator:
    """Generators one behind the other, all with the same prompt: the first makes images, each other enlarges what it is given.

    Between stages images are ``uint8``, as GLIDE has them. A stage's seeds are hashes of the image's seed and of its place, and the
    first one's is the image's own, so a cascade of one stage makes that stage's images. With ``offload`` a stage's weights wait in
    main memory while another is at work, for GPUs that do not hold them all.

    Raises FigmentError for a first stage that enlarges images, and for a later one that does not.
    """

    def __init__(self, stages: Sequence[DiffusersGenerator], *, offload: bool = False):
        self.stages, self.offload = tuple(stages), offload
        for stage in stages:
            stage.cascade = offload  # so that it advises what a cascade has
        if not stages:
            raise FigmentError(
                "A cascade has no stages. Give one that makes images from text, and others that enlarge them."
            )
        for i, stage in enumerate(stages):
            if stage.upscales == (i > 0):
                continue
            raise FigmentError(
                f"The first stage of a cascade makes images from text, and {stage.folder.name} enlarges them. Put another before it."
                if i == 0
                else f"Stage {i} of the cascade, {stage.folder.name}, makes images from text alone. Only the first does; the others"
                " enlarge: DeepFloyd IF's second stage (IFSuperResolutionPipeline), or StableDiffusionUpscalePipeline."
            )

    @property
    def fingerprint(self) -> str:
        return records.fingerprint(["cascade", [stage.fingerprint for stage in self.stages]])

    @property
    def batch_size(self) -> int:
        """So many images that each stage's batches end where these do; 0 = not chosen yet."""
        return lcm(*(int(stage.batch_size) for stage in self.stages))

    @property
    def warnings(self) -> list[str]:
        """What stages were not distilled for."""
        return [one for stage in self.stages for one in stage.warnings]

    @property
    def steps(self) -> tuple[int, ...]:
        """Of each stage."""
        return tuple(stage.num_inference_steps for stage in self.stages)

    def with_steps(self, *steps: int) -> CascadeGenerator:
        """The same with so many steps in each stage: see :meth:`DiffusersGenerator.with_steps`."""
        stages = [stage.with_steps(n) for stage, n in zip(self.stages, steps, strict=True)]
        return CascadeGenerator(stages, offload=self.offload)

    def __call__(
        self, prompts: Sequence[str], seeds: Sequence[int], init: np.ndarray | None = None
    ) -> list[np.ndarray | None]:
        """One ``uint8 (H, W, 3)`` image for each prompt and seed, in order; None where a stage gave NaN or infinity.

        Seeds lie in [0, 2**63). ``init`` is passed on to the first stage. Raises what the stages raise.
        """
        images = self._stage(0, prompts, seeds, init)
        for i in range(1, len(self.stages)):
            there = next((image for image in images if image is not None), None)
            if there is None:
                break
            # An image that failed keeps its place, so that no other image's batch changes.
            low = np.stack([np.zeros_like(there) if image is None else image for image in images])
            larger = self._stage(i, prompts, [stage_seed(seed, i) for seed in seeds], low)
            images = [None if small is None else large for small, large in zip(images, larger, strict=True)]
        return images

    def _stage(
        self, i: int, prompts: Sequence[str], seeds: Sequence[int], init: np.ndarray | None
    ) -> list[np.ndarray | None]:
        stage = self.stages[i]
        with self._at_work(stage):
            return stage(prompts, seeds, init)

    @contextmanager
    def _at_work(self, stage: DiffusersGenerator) -> Iterator[None]:
        """With ``offload`` its weights are where it computes, and in main memory afterwards."""
        if self.offload:
            stage.pipe.to(stage.device)
        try:
            yield
        finally:
            if self.offload:  # diffusers would say each time that it does not compute there in half precision
                stage.pipe.to("cpu", silence_dtype_warnings=True)

    def close(self) -> None:
        """Let go of all models; the next call opens them again."""
        for stage in self.stages:
            stage.close()

    def count_cut(self, prompts: Sequence[str]) -> int:
        """How many of the prompts some stage does not read to the end."""
        return max(stage.count_cut(prompts) for stage in self.stages)

    def describe(self) -> dict[str, Any]:
        """Where the images come from, for the dataset card: JSON-able. Opens the pipelines."""
        told: list[dict[str, Any]] = []
        for stage in self.stages:
            with self._at_work(stage):
                told.append(stage.describe((told[-1]["height"], told[-1]["width"]) if told else None))
        each = {name: [str(one[name]) for one in told] for name in ("model", "licence", "sampler")}
        return {
            "model": ", then ".join(each["model"]),
            "model_fingerprint": records.fingerprint([one["model_fingerprint"] for one in told]),
            "licence": ", ".join(dict.fromkeys(each["licence"])) if any(one["licence"] for one in told) else None,
            "sampler": "; then ".join(each["sampler"]),
            "stages": told,
            **{name: told[-1][name] for name in ("height", "width", "dtype", "device", "versions")},
        }
