"""Captions that one has, as prompts: CC3M, CC12M, RedCaps, a subset of LAION, or a table of one's own."""

from __future__ import annotations

import hashlib
import logging
import sys
from array import array
from collections import Counter

import numpy as np

from figment import limits
from figment.errors import FigmentError
from figment.images_in.labels import labels_by_code
from figment.prompts.caption_files import CaptionFiles
from figment.prompts.collect import key_of, unfit_for
from figment.prompts.ids import prompt_id
from figment.prompts.words import tidy
from figment.task import Task
from figment.types import Prompt

log = logging.getLogger(__name__)

EVERY = sys.maxsize  # all captions there are
NO_CLASS = ("", "-1")  # values of a column of classes that stand for none


class CaptionSet:
    """The first ``n`` different captions of ``files``: of each class where they have classes, else in all; each is a group of its own.

    A caption is made one line, without a full stop at its end; the same one is kept once, whatever its case. Those left out are
    counted by reason and said. Captions are held once, 8 bytes a caption tell whether one was seen before.

    Raises FigmentError for files that cannot be read, a class that is none of the task's, or has no caption, and for more captions
    than :data:`figment.limits.PROMPTS`.
    """

    def __init__(self, files: CaptionFiles):
        self.files = files

    @property
    def fingerprint(self) -> str:
        """Of the files; what is read of them is the recipe's."""
        return self.files.fingerprint

    def __call__(self, task: Task, n: int, rng: np.random.Generator) -> list[Prompt]:
        has_classes = self.files.label_column is not None
        texts, sources, codes, values, left_out = self._taken(n, has_classes)
        said = f"{self.files.source}: {len(texts):,} captions"
        if left_out:
            said += "; left out: " + ", ".join(f"{k:,} {reason}" for reason, k in left_out.most_common())
        log.info(said)
        if not texts:
            raise FigmentError(f"prompts.source holds no caption that can be a prompt. {said}.")
        labels = np.full(len(texts), -1)
        if has_classes:
            labels = labels_by_code(np.asarray(codes, np.int64), values, task.class_names, self.files.source)
        prompts: list[Prompt] = []
        counts: Counter[int] = Counter()
        seen: set[int] = set()
        for i in np.argsort(labels, kind="stable").tolist():
            label = int(labels[i])
            if has_classes:  # two spellings of a class were told apart, and counted apart
                key = _hash(label, texts[i])
                if key in seen:
                    continue
                seen.add(key)
            if counts[label] < n:
                id = prompt_id(label, task.class_names[label] if has_classes else "", counts[label])
                prompts.append(Prompt(id, texts[i], label, id, sources[i]))
                counts[label] += 1
        _warn_of_few(counts, n, task)
        return prompts

    def _taken(self, n: int, has_classes: bool) -> tuple[list[str], list[str], array[int], list[object], Counter[str]]:
        """Text, file and class (a position in the list after them) of each caption that is taken, and what the others lack."""
        texts: list[str] = []
        sources: list[str] = []
        codes, known, counts = array("q"), dict[object, int](), Counter[int]()
        seen: set[int] = set()
        left_out: Counter[str] = Counter()
        for given, value, source in self.files.rows():
            if has_classes and (value is None or str(value).strip() in NO_CLASS):
                left_out["without a class"] += 1
                continue
            value = value if isinstance(value, int) and not isinstance(value, bool) else str(value).strip()
            code = known.setdefault(value, len(known)) if has_classes else 0
            for one in given if isinstance(given, list) else [given]:
                if counts[code] >= n:
                    break
                text = tidy(one) if isinstance(one, str) else ""
                reason = unfit_for(text) or ("repeated" if (key := _hash(code, text)) in seen else "")
                if reason:
                    left_out[reason] += 1
                    continue
                seen.add(key)
                texts.append(text)
                sources.append(source)
                codes.append(code)
                counts[code] += 1
            if len(texts) > limits.PROMPTS:
                raise FigmentError(
                    f"prompts.source holds more than {limits.PROMPTS:,} captions, which are held in memory. Take fewer: prompts.per_class."
                )
            if not has_classes and counts[0] >= n:
                break
        return texts, sources, codes, list(known), left_out


def _hash(code: int, text: str) -> int:
    """The same for what counts as the same caption of a class."""
    data = f"{code} {key_of(text)}".encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _warn_of_few(counts: Counter[int], n: int, task: Task) -> None:
    few = {label: k for label, k in counts.items() if k < n}
    if n != EVERY and few:
        named = ", ".join(
            f"{task.class_names[label][:40]} {k:,}" if label >= 0 else f"{k:,}" for label, k in few.items()
        )
        log.warning(
            f"prompts.per_class is {n:,}, and there are fewer captions ({named[:300]}): each of them makes more images."
        )
