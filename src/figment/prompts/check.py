"""What a writer of prompts gave, before anything is made of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from figment.errors import FigmentError
from figment.types import Prompt

# Ids become file names where a data set is unpacked: no step up, no absolute path, nothing a shell would read.
ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


def check_prompts(prompts: Sequence[Prompt], class_names: Sequence[str], has_classes: bool = True) -> None:
    """Raise FigmentError, naming the prompt, for one that would lose an image, leave the folder, or cannot be written down.

    Without ``has_classes`` all labels are -1.
    """
    seen: set[str] = set()
    for prompt in prompts:
        reason = ""
        if not ID.fullmatch(prompt.id) or len(prompt.id) > 200:
            reason = "an id is a short relative path of letters, digits, '_', '-' and '.', such as 000-cat/00017"
        elif prompt.id in seen:
            reason = "another prompt has the same id"
        elif not (0 <= prompt.label < len(class_names) if has_classes else prompt.label == -1):
            reason = f"its label is {prompt.label}, and labels run from 0 to {len(class_names) - 1}"
        elif any(c == "\0" or "\ud800" <= c <= "\udfff" for c in prompt.text):
            reason = "its text holds a character that no text can hold (NUL, or half a surrogate pair)"
        if reason:
            raise FigmentError(f"The prompt {prompt.id[:80]!r}, {prompt.text[:80]!r}, cannot be used: {reason}.")
        seen.add(prompt.id)
