"""``figment check``: what real images are like, what becomes of them, and what a study on them would refuse or cannot show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from figment.checking.findings import (
    Finding,
    Limits,
    of_balance,
    of_files,
    of_names,
    of_repeats,
    of_test,
)
from figment.checking.places import UNSPLIT, Opened, Places, open_places, places_of, task_of
from figment.errors import FigmentError
from figment.evaluate.verdict import FEWEST
from figment.images_in.groups import check_groups, groups_of
from figment.images_in.leaks import find_leaks
from figment.images_in.provenance import Stored
from figment.images_in.real import dealt, how_dealt
from figment.images_in.survey import survey
from figment.task import RealImages

SHARE = 0.3  # of an unsplit folder that is tested on, unless one says otherwise


@dataclass
class Checked:
    """``counts``: split -> class -> images. ``real``: what to write as ``task.real`` where figment splits the photographs, and
    ``split`` which of them goes where."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    real: dict[str, Any] | None = None
    split: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        return all(finding.state != "wrong" for finding in self.findings)

    def told(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "ok": self.ok}


def check(
    reals: Sequence[str],
    limits: Limits | None = None,
    *,
    variant: str | None = None,
    test_share: float | None = None,
    val_share: float | None = None,
    split_seed: int = 0,
    encoder: str | None = None,
) -> Checked:
    """Look through real images: each file is read and decoded. Nothing is written.

    Args:
        reals: places, each with its split as ``test=photos/b`` or in its name; one place alone that nobody has split; or one recipe.
        limits: beyond them a finding is wrong.
        variant: one of the recipe's variants.
        test_share, val_share, split_seed: how one place alone is dealt, as in ``task.real``; None: .3, and no validation images.
        encoder: a CLIP, as ``train.encoder`` has it, to ask which images and class names it cannot tell apart. None: nobody is asked.

    Raises FigmentError where there is nothing to look at.
    """
    limits = limits or Limits()
    asked = places_of(reals, variant)
    shares = {"test_share": test_share, "val_share": val_share, "split_seed": split_seed or None}
    shares = {name: value for name, value in shares.items() if value is not None}
    if shares and UNSPLIT not in asked.places:
        raise FigmentError(
            f"These images are split already ({', '.join(asked.places)}), and {', '.join(shares)} deal one place that nobody has split:"
            " leave them out, or name that one place as folder=DIR."
        )
    opened = open_places(asked)
    done = Checked()
    done.findings += [Finding("classes", "wrong", f"{split}: {said}") for split, said in opened.refused.items()]
    for split, images in opened.given.items():
        looked = survey(images, f"look at {split}")
        done.findings += of_files(split, images, looked, opened.class_names, limits)
        done.findings += of_repeats(split, images, looked.keys, opened.class_names, limits)
    given = opened.given
    if UNSPLIT in given:
        given = _dealt(done, asked, opened, shares)
    elif asked.task is None and (said := _wrong_names(opened.class_names)):
        done.findings.append(Finding("classes", "wrong", said))
    done.counts = {split: _counts(images, opened.class_names) for split, images in given.items()}
    done.findings += of_names(opened.class_names, given)
    done.findings += of_balance(done.counts, opened.refused, limits)
    done.findings += _of_leaks(given, opened.class_names)
    done.findings += _of_test(asked, given, limits)
    if encoder is not None:
        from figment.checking.seen import of_encoder

        templates = ["a photo of a {}."] if asked.task is None else asked.task.templates
        done.findings += of_encoder(encoder, given, opened.class_names, templates)
    return done


def _dealt(done: Checked, asked: Places, opened: Opened, shares: Mapping[str, Any]) -> dict[str, Stored]:
    """Split -> its part of the images that nobody has split; all of them where they cannot be split, which is then a finding."""
    images = opened.given[UNSPLIT]
    usual = {"folder": asked.places[UNSPLIT], "test_share": SHARE}
    try:
        own = task_of(opened.class_names, {**(usual if asked.task is None else asked.task.real.model_dump()), **shares})
        parts = dealt(own, images)
    except FigmentError as error:
        done.findings.append(Finding("split", "wrong", str(error)))
        return opened.given
    done.real = {name: value for name, value in own.real.model_dump(exclude_none=True).items() if value != 0}
    done.split = how_dealt(own.real, parts)
    return {split: parts[split] for split in RealImages.SPLITS if split in parts}


def _wrong_names(class_names: Sequence[str]) -> str:
    """Why no recipe can have these classes; empty where one can."""
    try:
        task_of(class_names, {})
    except FigmentError as error:
        return str(error)
    return ""


def _counts(images: Stored, class_names: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(images.labels, minlength=len(class_names)).tolist()
    return dict(zip(class_names, counts, strict=True))


def _of_leaks(given: Mapping[str, Stored], class_names: Sequence[str]) -> Iterator[Finding]:
    found = find_leaks(given, class_names)
    yield from (Finding("leaks", "wrong", sentence) for sentence in found.serious)
    yield from (Finding("leaks", "note", sentence) for sentence in found.others)
    if len(given) > 1 and not (found.serious or found.others):
        yield Finding("leaks", "ok", "no image is in two splits, and none says of itself that it was generated")


def _of_test(asked: Places, given: Mapping[str, Stored], limits: Limits) -> Iterator[Finding]:
    """What the test images can show, and whether they can be grouped as the recipe says."""
    groups = None if asked.task is None else asked.task.real.groups
    if groups is not None and "test" in given:
        try:
            check_groups(given, groups)
        except FigmentError as error:
            yield Finding("groups", "wrong", str(error))
            return
    of_images = None if groups is None or "test" not in given else groups_of(given["test"], groups)
    instead = ""
    if UNSPLIT in asked.places and sum(len(images) for images in given.values()) >= FEWEST:
        instead = f". A larger test_share leaves more of them, and real: {{test: {asked.places[UNSPLIT]}}} all, where generated images alone are learnt from"
    yield from of_test(given.get("test"), of_images, limits, instead)
