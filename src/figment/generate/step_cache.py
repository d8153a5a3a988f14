"""Steps of a diffusion transformer that repeat what its blocks added a step before, by cache-dit.

Which steps is said beforehand, by their number. cache-dit's own way is to look at how much the first block changed, on average over a batch:
then an image would depend on what else is in its batch, and on how many fit into memory.
"""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Mapping
from statistics import mean, median
from typing import Any

from figment.errors import FigmentError, missing_extra
from figment.generate.opening import has_unet
from figment.generate.speed import Trial, denoiser_in, wait

PACKAGE = "cache_dit"
FEW, MANY = (4, 6), 8  # numbers of steps that cache-dit has masks for: these, and from there on all


def check_cache(index: Mapping[str, Any], model: str, steps: int) -> None:
    """Raise FigmentError where cache-dit is not installed, and for a pipeline that it has nothing for."""
    if has_unet(index):
        raise FigmentError(
            f"generate.speed.cache is for diffusion transformers, and the {index['_class_name']} of {model} has a UNet, which no library"
            " caches any more. Leave it out. What helps instead: guidance in an interval (generate.guidance_stop: 0.6), fewer steps"
            " (generate.num_inference_steps), and large batches (generate.batch_size)."
        )
    if importlib.util.find_spec(PACKAGE) is None:
        raise missing_extra("cache-dit", "cache")
    if steps not in FEW and steps < MANY:
        raise FigmentError(
            f"generate.speed.cache knows which steps to repeat of {' or '.join(map(str, FEW))}, or of {MANY} and more, and"
            f" generate.num_inference_steps is {steps}. Leave it out: so few steps have little to repeat."
        )


class StepCache:
    """Put into a pipeline of its own class, so that cache-dit, which changes classes, changes no other. The first batch says what it
    gains: each call of the denoiser is timed."""

    def __init__(self, pipe: Any, policy: str, steps: int, guided: bool):
        """``guided`` says whether a step may take two calls of the denoiser. Raises FigmentError for a pipeline that cache-dit does not know."""
        import cache_dit

        self.trial: Trial | None = None
        kind, self.denoiser = type(pipe), denoiser_in(pipe)
        if not cache_dit.BlockAdapterRegister.is_supported(pipe):
            raise FigmentError(f"generate.speed.cache: cache-dit knows no {kind.__name__}. Leave it out.")
        self.policy = policy
        twice = guided and cache_dit.BlockAdapterRegister.has_separate_cfg(pipe)
        self.mask = cache_dit.steps_mask(total_steps=steps, mask_policy=policy)
        self.calls = [computed for computed in self.mask for _ in range(2 if twice else 1)]
        config = cache_dit.DBCacheConfig(
            Fn_compute_blocks=1,
            max_warmup_steps=0,
            num_inference_steps=steps,
            steps_computation_mask=self.mask,
            steps_computation_policy="static",
            enable_separate_cfg=twice,
        )

        @functools.wraps(kind.__call__)
        def call(own: Any, *given: Any, **named: Any) -> Any:
            return kind.__call__(own, *given, **named) if self.trial else self._timed(own, kind, given, named)

        pipe.__class__ = type(kind.__name__, (kind,), {"__call__": call})
        cache_dit.enable_cache(pipe, cache_config=config)

    def _timed(self, pipe: Any, kind: Any, given: tuple, named: dict[str, Any]) -> Any:
        """Raises FigmentError where the denoiser is called in another rhythm than that of the steps that were chosen."""
        seconds: list[float] = []
        device = next(self.denoiser.parameters()).device

        def before(*_: Any) -> None:
            wait(device)
            seconds.append(-time.perf_counter())

        def after(*_: Any) -> None:
            wait(device)
            seconds[-1] += time.perf_counter()

        hooks = [self.denoiser.register_forward_pre_hook(before), self.denoiser.register_forward_hook(after)]
        try:
            output = kind.__call__(pipe, *given, **named)
        finally:
            for hook in hooks:
                hook.remove()
        if len(seconds) != len(self.calls):
            raise FigmentError(
                f"generate.speed.cache: the {kind.__name__} calls its denoiser {len(seconds)} times in {len(self.mask)} steps, and the"
                f" steps to repeat were chosen among {len(self.calls)}. Leave it out, or set another generate.scheduler."
            )
        computed = [s for s, whole in zip(seconds, self.calls, strict=True) if whole]
        plain = median(computed[1:] or computed)  # the first one warms up
        self.trial = Trial(f"cache: {self.policy}", "denoiser", plain, mean([plain, *seconds[1:]]), None, True)
        return output
