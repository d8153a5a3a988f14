"""Names and texts from outside: what of them may be shown, and when two of them are the same to a reader."""

from __future__ import annotations

import re
import unicodedata

#: Take no room on the page, or reorder what stands beside them.
INVISIBLE = frozenset(
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\u2800\ufeff"
)
OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_control(character: str) -> bool:
    """Control characters (ESC, NUL, newline, tab...), line separators and halves of surrogate pairs."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def printable(text: str) -> str:
    """The text without what no page or terminal may be sent: control characters, direction overrides, halves of surrogate pairs
    (from undecodable file names). Newlines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\ufffd" if (is_control(c) and c not in "\n\t") or c in OVERRIDES else c for c in text)


def storable(text: str) -> str:
    """The text as any file can hold it: bytes of a file name that are not UTF-8 become ``\\udcff`` and the like, different ones differently."""
    return text.encode("utf-8", "backslashreplace").decode()


def comparable(name: str) -> str:
    """What is left of a name where case, spaces, invisible characters and ways of writing one letter do not matter.

    ``"Café "`` with one character for é or with two, in full-width letters or in capitals, is one name. Empty where
    nothing can be seen.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    seen = "".join(c for c in folded if c not in INVISIBLE and c not in OVERRIDES)
    return " ".join(unicodedata.normalize("NFKC", seen).split())


def natural(name: str) -> list[tuple[int, str]]:
    """The sort key in which numbers count as numbers: ``2-blank`` comes before ``10-clip``, and equal ones by their text."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"([0-9]+)", name)]


#: Spellings of file systems and programs: AnkleBoot, ankle_boot, 003.ankle_boot, class 3, n01440764.
_CODES = re.compile(
    r".*_.*|(?:[A-Z][a-z]{2,}){2,}|[0-9]+[.\-][^0-9].*|(?i:class|label|category|cls|type) ?[0-9]+|n[0-9]{8}|[0-9]{2,}",
    re.DOTALL,
)


def is_code(name: str) -> bool:
    """Whether a class name is written for programs rather than in words."""
    return bool(_CODES.fullmatch(name))
