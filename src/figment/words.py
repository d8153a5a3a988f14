"""Names and texts from outside: how each place shows them as they are, and when two of them are the same to a reader.

One function a place: :func:`printable` for a terminal, :func:`markdown` for a card or a table, :func:`spreadsheet` for a cell.
:func:`without_secret` comes before all of them. HTML is escaped by the templates of ``report``, after :func:`printable`; YAML by ``plain_yaml.front_matter``.
"""

from __future__ import annotations

import re
import unicodedata

#: Take no room on the page, or reorder what stands beside them.
INVISIBLE = frozenset(
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\u2800\ufeff"
)
#: From a home, here, above or the root on: ``~/models/sd``, ``./sd``, ``/srv/my models/sd`` up to its first blank.
_A_PATH = re.compile(r"(?<![^\s\"'(])(?:~|\.{1,2})?/(?:[^/\s,]+/)*([^/\s,]+)")
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


SHORTEST_SECRET = 8  # characters: a stand-in such as "none" or "EMPTY" is no key, and may be a word of an answer


def without_secret(text: str, secret: str | None) -> str:
    """The text without a key in it, which servers and proxies may send back. Before it is shortened: half a key is not found."""
    return text.replace(secret, "***") if secret and len(secret) >= SHORTEST_SECRET else text


def without_folders(text: str) -> str:
    """The last part alone of every path in a text: what goes out says nothing of where things lie on this machine."""
    return _A_PATH.sub(r"\1", text)


def one_line(text: str) -> str:
    """:func:`printable`, with single spaces for newlines, tabs and runs of spaces."""
    return " ".join(printable(text).split())


#: What Markdown (CommonMark, with the tables, links, mentions and formulas of GitHub and the Hub) or HTML takes for its own:
#: signs, entities, addresses without brackets, and headings, rules and bullets at the start of a line.
_MARKUP = re.compile(r"[\\`*_\[\]<>|~$@]|&(?=#?\w+;)|:(?=//)|(?<=\bwww)\.|^[#+=-]", re.IGNORECASE)
_NUMBERED = re.compile(r"^(\d{1,9})(?=[.)])")


def markdown(text: str) -> str:
    """One line of Markdown that shows the text as it is: no markup, no link, no HTML."""
    return _NUMBERED.sub(r"\1\\", _MARKUP.sub(r"\\\g<0>", one_line(text)))


#: What a spreadsheet takes for the start of a formula, also full-width. Tabs and line ends are gone by then.
FORMULAS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def spreadsheet(text: str) -> str:
    """One cell: what a spreadsheet would take for a formula begins with an apostrophe, a number such as -3 stays one."""
    line = one_line(text)
    return f"'{line}" if line.startswith(FORMULAS) and not _NUMBER.fullmatch(line) else line


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


def size_text(size: float) -> str:
    """Bytes as download pages show them: ``6.9 GB``, ``95 MB``, ``12 kB``."""
    if size >= 1e9:
        return f"{size / 1e9:,.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
