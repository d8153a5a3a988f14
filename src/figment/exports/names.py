"""Names for files and folders out of class names and ids, which may hold anything."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

ALLOWED = frozenset(" -_.()'&,+")  # beside letters, their marks, and digits of any script
MOST_BYTES = 120  # systems allow 255, some encrypted ones 143
CHANGED = "~"  # is in no name that was left as it was
#: What an export writes beside its class folders, and what `datasets` takes for it whoever wrote it.
OWN_FILES = ("readme.md", "classes.json", "labels.csv", "metadata.jsonl", "metadata.csv", "metadata.parquet")
# Device names on Windows, whatever comes after the dot.
RESERVED = re.compile(r"(con|prn|aux|nul|(?:com|lpt)[0-9¹²³])(?=[. ]|$)", re.IGNORECASE)
# A folder called "train" or "test tube" would be taken for a split by datasets.load_dataset, and the other classes be lost.
SPLITS = re.compile(
    r"(?<![^-._ 0-9])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?![^-._ 0-9])",
    re.IGNORECASE,
)


def safe_name(text: str) -> str:
    """One part of a path that every file system, ``datasets`` and torchvision take; the text itself where it is that already.

    A changed name holds a ``~``, which no unchanged one does.
    """
    text = unicodedata.normalize("NFC", text)
    name = "".join(c if c in ALLOWED or unicodedata.category(c)[0] in "LMN" else "_" for c in text)
    # Hidden files are passed over, and so are folders with two underscores; Windows drops dots and spaces at the end.
    name = name.lstrip(" ._").encode()[:MOST_BYTES].decode(errors="ignore").rstrip(" .")
    name = SPLITS.sub(rf"\1{CHANGED}", RESERVED.sub(rf"\1{CHANGED}", name, count=1) if RESERVED.match(name) else name)
    return name if (name and name == text) or CHANGED in name else name + CHANGED


class Names:
    """Safe names in one folder, no two alike: not even where case and ways of writing a letter do not matter. ``taken`` are there
    already, in small letters."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._given = set(taken)

    def __call__(self, text: str) -> str:
        first = name = safe_name(text)
        number = 1
        while (key := unicodedata.normalize("NFKC", name).casefold()) in self._given:
            number += 1
            name = f"{first}{number}" if first.endswith(CHANGED) else f"{first}{CHANGED}{number}"
        self._given.add(key)
        return name


def class_folders(class_names: Sequence[str]) -> list[str]:
    """A folder name for each class, in label order."""
    names = Names(OWN_FILES)
    return [names(name) for name in class_names]
