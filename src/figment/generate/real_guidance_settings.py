"""How near to real images a generator stays. Apart from `diffusers`, so that a recipe can be read without loading torch."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from figment.task import Strict

#: The paper's t*, of 100 respaced steps of GLIDE's cosine schedule, by the number of shots.
T_STAR = {16: 15, 8: 20, 4: 35, 2: 40, 1: 50}


def t_star_of_shots(shots: int) -> int:
    """The paper's t* for so many shots a class: the more there are, the closer to them it stays.

    Between the five published numbers of shots, t* is interpolated over log2(shots); beyond them the nearest is taken.
    """
    known = sorted(T_STAR)
    return round(float(np.interp(np.log2(max(shots, 1)), np.log2(known), [T_STAR[k] for k in known])))


class RealGuidanceSettings(Strict):
    """Generation starts from noised real images (He et al. 2023, section 4.2); the defaults are the paper's.

    How much noise is said in one of two ways, not both; with neither it is the paper's for the number of shots a class.
    """

    alpha_bar: float | None = Field(
        None, gt=0, lt=1, description="share of the real image's power that is left under the noise"
    )
    t_star: int | None = Field(
        None, ge=1, le=100, description="the paper's t*, of 100 steps: 15 for 16 shots a class, 50 for one"
    )
    mapping: Literal["equal_snr", "naive"] = Field(
        "equal_snr",
        description="equal_snr: the step of the model's own schedule with as much noise as GLIDE's at t*; naive: strength t*/100",
    )

    @model_validator(mode="after")
    def _one_way(self) -> RealGuidanceSettings:
        if self.alpha_bar is not None and self.t_star is not None:
            raise ValueError("alpha_bar and t_star both say how much noise there is: give one of them")
        if self.mapping == "naive" and self.alpha_bar is not None:
            raise ValueError(
                "mapping: naive takes t_star / 100 as the strength, so it goes with t_star, not with alpha_bar"
            )
        return self

    def resolved(self, shots: int) -> RealGuidanceSettings:
        """With t* filled in, the paper's for so many shots a class, where nothing was said."""
        if self.alpha_bar is not None or self.t_star is not None:
            return self
        return self.model_copy(update={"t_star": t_star_of_shots(shots)})
