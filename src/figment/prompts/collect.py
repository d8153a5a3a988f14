"""What a model wrote for one class: the sentences that can be prompts, once each, and what became of the others."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from figment.errors import FigmentError
from figment.prompts.ids import prompt_id
from figment.prompts.words import fill, mentions, tidy
from figment.task import Task
from figment.types import Prompt

log = logging.getLogger(__name__)

LONGEST = 80  # words: text encoders read 77 tokens, and what is longer is no caption


class Collected:
    """The first ``n`` different sentences of one class, in the order they came; of none where ``label`` is -1.

    With ``require_name`` a sentence has to say the class, by its name or a synonym of it. ``rejected`` counts the others
    by reason.
    """

    def __init__(self, task: Task, label: int, n: int, require_name: bool = True):
        self.task, self.label, self.n = task, label, n
        self.name = task.class_names[label] if label >= 0 else ""
        self.names = [self.name, *task.synonyms.get(self.name, [])]
        self.require_name = require_name
        self.rejected: Counter[str] = Counter()
        self._found: dict[str, tuple[str, str, str]] = {}  # how it compares -> text, source, group

    @property
    def missing(self) -> int:
        return self.n - len(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def taken(self) -> list[tuple[str, str, str]]:
        """Text, source and group of each sentence so far."""
        return list(self._found.values())

    def add(self, text: str, source: str, group: str = "", names: Sequence[str] = ()) -> bool:
        """Whether the sentence was taken. ``group`` is empty for one that is a group of its own; ``names`` is what it has to say in
        place of the class."""
        if self.missing <= 0:  # how many more there are depends on the batch
            return False
        text = tidy(text)
        reason = self._reason(text, names or self.names)
        if reason:
            self.rejected[reason] += 1
        else:
            self._found[key_of(text)] = text, source, group
        return not reason

    def _reason(self, text: str, names: Sequence[str]) -> str:
        if unfit := unfit_for(text):
            return unfit
        if key_of(text) in self._found:
            return "repeated"
        return "without the class name" if self.require_name and not mentions(text, names) else ""

    def prompts(self) -> list[Prompt]:
        """The sentences; where a class has too few, the task's templates after them, as far as those go."""
        found = dict(self._found)
        for i, template in enumerate(self.task.templates if self.label >= 0 else ()):
            text = fill(template, self.name)
            if len(found) < self.n:
                found.setdefault(key_of(text), (text, f"template {i}", ""))
        ids = [prompt_id(self.label, self.name, i) for i in range(len(found))]
        return [
            Prompt(id, text, self.label, group or id, source)
            for id, (text, source, group) in zip(ids, found.values(), strict=True)
        ]


def finish(collected: Sequence[Collected], who: str, advice: str, instead: str = "") -> list[Prompt]:
    """The prompts of all classes, with a line on what was short or thrown away. ``instead`` says what came in place of sentences.

    Raises FigmentError, with ``advice``, where no class got a single sentence.
    """
    rejected = sum((c.rejected for c in collected), Counter[str]())
    thrown = ", ".join(f"{n:,} {reason}" for reason, n in rejected.most_common())
    if not any(map(len, collected)):
        raise FigmentError(
            f"{who} wrote no sentence that can be a prompt, for any class ({thrown or 'nothing came'}).{instead} {advice}"
        )
    if thrown:
        log.info(f"{who}: {sum(map(len, collected)):,} different sentences; thrown away: {thrown}")
    short = [c for c in collected if c.missing > 0]
    if short:
        listed = ", ".join(f"{c.name[:40]} {len(c)}" for c in short[:8]) + (", ..." if len(short) > 8 else "")
        of = f" for {len(short):,} of {len(collected):,} classes ({listed}). Templates were added, and each prompt of theirs makes"
        alone = f": {len(short[0]):,}. Each makes"
        log.warning(f"{who}: fewer than {short[0].n}{of if short[0].label >= 0 else alone} more images.{instead}")
    return [prompt for c in collected for prompt in c.prompts()]


def unfit_for(text: str) -> str:
    """Why a text is no prompt, whatever it says; empty where it may be one."""
    if not any(c.isalnum() for c in text):
        return "empty"
    return "too long" if len(text.split()) > LONGEST or len(text) > 10 * LONGEST else ""


def key_of(text: str) -> str:
    """Case, and the full stop at the end, do not make a text another one."""
    return text.casefold().rstrip(".!")
