"""Class names inside sentences: their articles, whether a text says them, and texts made fit to be prompts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

ARTICLE = re.compile(r"(?:an?|the)\s+(?=\S)", re.IGNORECASE)
# What begins with a vowel in writing but not in speech (a unicorn, a European, a U.S. flag), and the other way round.
_SAID_A = re.compile(
    r"(?:uni(?!n|m)|us[aeu]|ur[aeiou]|ut[ei]|uk|ufo|eu|ewe|one\b|once\b|ouija|u(?:\W|$))", re.IGNORECASE
)
_SAID_AN = re.compile(r"(?:[aeiou]|hour|honest|honou?r|heir|8|1[18]\b|[fhlmnrsx](?:[\W\d]|$))", re.IGNORECASE)
# Said letter by letter: two or three capitals (MRI, SUV), or more without a vowel (HTML). MINI and NASA are said as words.
_SPELLED = re.compile(r"(?:[A-Z]{2,3}|[B-DF-HJ-NP-TV-XZ]{4,})(?![A-Za-z])")
_BEFORE_NAME = re.compile(r"\b(a)n?(\s+\{\})", re.IGNORECASE)
_PLURAL = re.compile(r"(?<!s|u|i|a)s$(?<!\blens)", re.IGNORECASE)


def without_article(name: str) -> str:
    """``a St. Bernard`` -> ``St. Bernard``."""
    return ARTICLE.sub("", name, count=1) if ARTICLE.match(name) else name


def with_article(name: str) -> str:
    """``otter`` -> ``an otter``. Names that bring an article, and plurals such as ``trousers``, stay as they are."""
    return name if ARTICLE.match(name) or _PLURAL.search(name) else f"{article_of(name)} {name}"


def article_of(words: str) -> str:
    """``a`` or ``an``, by how the first word sounds."""
    if _SPELLED.match(words):
        return "an" if words[0] in "AEFHILMNORSX" else "a"
    return "an" if _SAID_AN.match(words) and not _SAID_A.match(words) else "a"


def fill(template: str, words: str) -> str:
    """The template with ``words`` in place of ``{}``. An indefinite article right before them is the one that they take, ``a photo of
    a {}`` -> ``a photo of an apple``; all else stays to the letter."""
    n = article_of(words)[1:]
    return _BEFORE_NAME.sub(lambda found: f"{found[1]}{n}{found[2]}", template).replace("{}", words)


def tidy(text: str) -> str:
    """One line, no control characters, single spaces, none before a full stop, and no full stop at the end."""
    text = "".join(c if c.isprintable() else " " for c in unicodedata.normalize("NFC", text))
    text = re.sub(r"\s+([.,;:!?])(?!\w)", r"\1", " ".join(text.split()))
    return re.sub(r"(?<=\w{3})\.+$", "", text)  # an abbreviation's dot (U.S.) is not a sentence's


def mentions(text: str, names: Iterable[str]) -> bool:
    """Whether a text says one of the names as a word of its own, in whatever case, singular or plural.

    Dots, hyphens and spaces inside a name do not matter: ``st bernards`` says ``St. Bernard``.
    """
    return find(text, names) is not None


def find(text: str, names: Iterable[str]) -> re.Match[str] | None:
    """Where a text says the first of the names that it does say; see :func:`mentions`."""
    return next((found for name in names if (found := _pattern(name).search(text))), None)


@lru_cache(maxsize=4096)
def _pattern(name: str) -> re.Pattern[str]:
    words = re.findall(r"[^\W_]+", without_article(unicodedata.normalize("NFC", name)))
    if not words:  # made of signs alone
        return re.compile(re.escape(name.strip()), re.IGNORECASE)
    parts = [*map(re.escape, words[:-1]), _inflected(words[-1])]
    start = r"(?<![^\W_])" if _is_spaced(words[0][0]) else ""
    end = r"(?![^\W_])" if _is_spaced(words[-1][-1]) else ""
    return re.compile(start + r"[\W_]{0,3}".join(parts) + end, re.IGNORECASE)


def _inflected(word: str) -> str:
    """A word's singular and its regular English plurals."""
    endings = {
        r"(.+[^aeiou])(?:y|ies)": "(?:y|ies?)",  # puppy, cookies
        r"(.*m)[ae]n": "[ae]ns?",  # fireman, human
        r"(.{2,})(?:fe?|ves)": "(?:fe?s?|ves?)",  # leaf, cliff, gloves
    }
    for ending, either in endings.items():
        if found := re.fullmatch(ending, word, re.IGNORECASE):
            return re.escape(found[1]) + either
    stem = word[:-1] if re.search(r".{2,}[^sui]s$", word, re.IGNORECASE) else word
    return re.escape(stem) + "(?:e?s)?"


def _is_spaced(letter: str) -> bool:
    """Of a script that puts spaces between words; Chinese, Japanese or Thai do not."""
    return letter.isdecimal() or letter.lower() != letter.upper()
