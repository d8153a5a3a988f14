"""A sweep over the generator's settings in two phases: many by what is cheap, then a few by what a network learns."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from figment import limits
from figment.task import Strict, Text

DISTANCE, FID, FAST, SCORE = "Fréchet distance", "FID", "fast CAS", "CAS"
DISTANCES = {DISTANCE: "frechet", FID: "fid"}  # column -> metric
Setting = dict[str, Any]  # field -> value


class Sweep(Strict):
    """Azizi et al. 2023, section 3: all settings by the Fréchet distance, then one field of them by the classification accuracy score.

    The first phase tries the values of ``fields`` with few images, and judges them by ``by``. The second one takes the best of them for
    all fields but ``then``, tries every value of ``then`` with all images, and trains the recipe's learner on each.
    """

    fields: dict[Text, list[JsonValue]] = Field(
        min_length=1,
        max_length=20,
        description="field -> the values to try, such as {generate.guidance_scale: [1, 2, 5]}",
    )
    then: Text = Field(description="the field of the second phase, one of fields")
    design: Literal["one_at_a_time", "grid"] = Field(
        "one_at_a_time",
        description="the first phase: each field alone, the others as the recipe has them; or every combination",
    )
    images_per_class: Annotated[int, Field(ge=1, le=limits.IMAGES_A_CLASS)] | None = Field(
        None, description="generated images of each class in the first phase; None = all"
    )
    by: Literal["frechet", "fid", "top1/frozen"] = Field(
        "frechet",
        description="what chooses in the first phase: the Fréchet distance in the encoder's features, or in those of FID's network as in"
        " the paper, or the fast CAS",
    )

    @model_validator(mode="after")
    def _fits(self) -> Sweep:
        if self.then not in self.fields:
            raise ValueError(
                f"then is {self.then[:60]!r}, and fields has: {', '.join(self.fields)[:300]}. Name one of them"
            )
        for field, values in self.fields.items():
            if not values or any(value in values[:i] for i, value in enumerate(values)):
                raise ValueError(f"{field[:60]!r} has the values {str(values)[:200]}; give at least one, each once")
        if changed := [field for field in self.fields if not field.startswith(("generate.", "prompts."))]:
            raise ValueError(
                f"{changed[0][:60]!r} is no setting of the generator: what is compared is what it makes. Sweep over fields of generate"
                " and prompts, and make rows of a table of others"
            )
        if self.images_per_class is not None and (own := "generate.images_per_class") in self.fields:
            raise ValueError(
                f"the first phase makes images_per_class: {self.images_per_class}, and so no other number of {own[:60]!r}: leave one of"
                " them out"
            )
        return self

    @property
    def distance(self) -> str:
        """The column of the distance, which is shown also where it does not choose."""
        return FID if self.by == "fid" else DISTANCE

    @property
    def chooses(self) -> str:
        """The column that chooses in the first phase."""
        return FAST if self.by == "top1/frozen" else self.distance

    @property
    def columns(self) -> dict[str, dict[str, Any]]:
        """What a sweep shows of each setting; the second phase's is the last."""
        cheap: dict[str, Any] = {"train": {"kind": "images_only"}}
        if self.images_per_class is not None:
            cheap["generate.images_per_class"] = self.images_per_class
        distance = {"metric": DISTANCES[self.distance], **cheap}
        return {self.distance: distance, FAST: {"metric": "top1/frozen", **cheap}, SCORE: {}}
