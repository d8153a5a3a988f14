"""Guidance only inside an interval of noise levels (Kynkäänniemi et al. 2024, section 3).

A guided step of the pipelines here is one batch of two halves: the images without their text, then the images with it. Outside
of the interval the denoiser is shown the second half alone and its answer is given twice, so that guidance adds nothing to it,
to the last bit, and the step costs half.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from figment.errors import FigmentError
from figment.generate.real_guidance import alpha_bars


@dataclass(frozen=True)
class GuidanceInterval:
    """The guided part of the steps that are taken, as shares of them: 0 is where the noise is strongest, 1 the finished image.

    Of n steps those from ``round(start * n)`` to ``round(stop * n) - 1`` are guided. Raises FigmentError unless
    0 <= start < stop <= 1.
    """

    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= 1:
            raise FigmentError(
                f"guidance_start is {self.start} and guidance_stop is {self.stop}: they are shares of the steps, from 0 to 1, and"
                " guidance_start is the smaller."
            )

    @property
    def whole(self) -> bool:
        return (self.start, self.stop) == (0, 1)

    def steps(self, n: int) -> range:
        """Which of ``n`` steps are guided."""
        return range(round(self.start * n), round(self.stop * n))

    def noise_levels(self, scheduler: Any, taken: int) -> tuple[float, float] | None:
        """The highest and the lowest guided noise level of the last ``taken`` timesteps of a scheduler; None where none is guided.

        As the paper counts them: the noise's standard deviation over the signal's share, a million for noise alone.
        """
        own = alpha_bars(scheduler)[-taken:]
        guided = np.clip(own[[*self.steps(len(own))]], 1e-12, 1)
        levels = np.sqrt((1 - guided) / guided)
        return (float(levels[0]), float(levels[-1])) if len(levels) else None

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[None]:
        """One call of a guided diffusers pipeline inside of this context is guided in the interval alone."""
        denoiser = getattr(pipe, "unet", None) or pipe.transformer
        calls = 0

        def guided() -> bool:
            taken = getattr(
                pipe, "num_timesteps", None
            )  # of image-to-image those that are left; not every pipeline says
            return calls in self.steps(taken or len(pipe.scheduler.timesteps))

        def before(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if guided():
                return None
            rows = len(given[0] if given else named["hidden_states"])
            return _second_half(given, rows), _second_half(named, rows)

        def after(module: Any, given: tuple[Any, ...], named: dict[str, Any], output: tuple[torch.Tensor, ...]) -> Any:
            nonlocal calls
            inside = guided()
            calls += 1
            return None if inside else tuple(torch.cat([own, own]) for own in output)

        hooks = [
            denoiser.register_forward_pre_hook(before, with_kwargs=True),
            denoiser.register_forward_hook(after, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _second_half(given: Any, rows: int) -> Any:
    """The half with text of every tensor that holds both, however deep it lies."""
    match given:
        case torch.Tensor() if given.ndim and len(given) == rows:
            return given[rows // 2 :]
        case dict():
            return {name: _second_half(one, rows) for name, one in given.items()}
        case tuple() | list():
            return type(given)(_second_half(one, rows) for one in given)
    return given
