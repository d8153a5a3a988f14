"""The captions in what a chat model answered: whatever form it gave them, and neither its thoughts nor its talk around them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from figment.errors import FigmentError
from figment.guard import parse_json
from figment.words import one_line

FEWEST_WORDS = 3  # "Sure!" and "Captions:" are no captions
MOST_THOUGHT, MOST_SAID = 400_000, 100_000  # characters that are looked at, from the end: 20 captions have 3,000
SHOWN = 200  # characters of an answer in a message
CUT_OFF = ("length", "max_tokens")  # reasons to finish

# ---- thoughts --------------------------------------------------------------------------------------------------------

_ASIDE = r"think|thought|reason|reflect|analy[sz]|scratch|monolog|deliberat|brainstorm|rationale|explan|justif|comment"
_TAG = rf"(?:[\w:.-]*(?:{_ASIDE})[\w:.-]*|plan|cot|draft|notes|ideas|internal)"
#: Where thoughts begin and end. Many models' templates hold the opening mark, so that an answer has the closing one alone.
_MARK = re.compile(
    rf"(?P<closing></{_TAG}>|<\|(?:/|end_)[\w]*(?:{_ASIDE})\w*\|>|◁/{_TAG}▷|(?-i:\[/THINK\])"
    r"|<\|channel\|>\s*final[^<]*(?:<\|message\|>)?|<channel\|>|assistantfinal|here is my response:)"
    rf"|<\|?{_TAG}(?:\s[^<>]*)?\|?>|◁{_TAG}▷|(?-i:\[THINK\])|<\|channel\|?>|\A\s*analysis(?-i:(?=[A-Z]))|here is my thought process:",
    re.IGNORECASE,
)
_SPECIAL = re.compile(r"<\|\w+\|>|</?s>")  # what is left of a model's own marks


def without_thoughts(text: str) -> str:
    """What a model said aloud. Thoughts that do not end are the rest; before an end without a beginning all was thought."""
    said: list[str] = []
    start, inside = 0, False
    for mark in _MARK.finditer(text):
        if mark["closing"]:
            if not inside:
                said.clear()
            start, inside = mark.end(), False
        elif not inside:
            said.append(text[start : mark.start()])
            inside = True
    return _SPECIAL.sub("", "\n".join(said if inside else [*said, text[start:]]))


# ---- an answer -------------------------------------------------------------------------------------------------------


def captions_in(answer: Mapping[str, Any]) -> list[str]:
    """The captions in a server's answer, whatever form the model gave them; none in a refusal or a broken answer."""
    found = parse_captions(_content(answer))
    return found[:-1] if is_cut_off(answer) else found  # the last one was cut off


def is_cut_off(answer: Mapping[str, Any]) -> bool:
    """Whether the answer ended because it was long enough, not because all was said."""
    return str(_choice(answer).get("finish_reason")).lower() in CUT_OFF


def shown(answer: Mapping[str, Any]) -> str:
    """An answer in a line, for a message: its text if it has any."""
    message = _choice(answer).get("message")
    refusal = message.get("refusal") if isinstance(message, dict) else None
    line = one_line(_content(answer) or str(refusal or "") or json.dumps(answer, ensure_ascii=False))
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def _choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        choice = answer["choices"][0]
    except (KeyError, IndexError, TypeError):
        return {}
    return choice if isinstance(choice, dict) else {}


def _content(answer: Mapping[str, Any]) -> str:
    message = _choice(answer).get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):  # in parts, some of them thoughts
        texts = [p for p in content if isinstance(p, dict) and p.get("type", "text") in ("text", "output_text")]
        return "".join(str(part.get("text", "")) for part in texts)
    return str(content or "")


# ---- its text --------------------------------------------------------------------------------------------------------

_BRACKET = re.compile(r"[\[{]")
_GAP = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()
_NAMED = re.compile(r"(?:captions?|prompts?|sentences?|descriptions?|texts?)", re.IGNORECASE)
_NO_CAPTION = re.compile(_ASIDE, re.IGNORECASE)


def parse_captions(text: str) -> list[str]:
    """The captions in a text: the last JSON array that holds any, JSON objects, one JSON value a line, or a list with bullets
    or numbers. A bracket in the talk around them is none of these."""
    text = without_thoughts(text[-MOST_THOUGHT:])[-MOST_SAID:]
    blocks = [block for block in _blocks(text) if block]
    return blocks[-1] if blocks else _broken_off(text) or _listed(text)


def _blocks(text: str) -> list[list[str]]:
    """The captions of each JSON array or object in a text; of objects with nothing between them, as one."""
    blocks: list[list[str]] = []
    last: tuple[Any, int] = (None, 0)
    for value, start, end in _values(text):
        joined = isinstance(value, dict) and isinstance(last[0], dict) and _GAP.fullmatch(text, last[1], start)
        if joined:
            blocks[-1] += _sentences(value)
        else:
            blocks.append(_sentences(value))
        last = value, end
    return blocks


def _values(text: str) -> Iterator[tuple[Any, int, int]]:
    """Every well-formed JSON array and object that is in no other, with where it begins and ends."""
    at = 0
    while opening := _BRACKET.search(text, at):
        try:
            value, end = _DECODER.raw_decode(text, opening.start())
        except RecursionError:
            return
        except ValueError:
            at = opening.end()
        else:
            yield value, opening.start(), end
            at = end


def _sentences(value: Any) -> list[str]:
    """All strings in a JSON value that may be captions. Of an object, what is called so; else its lists; else all but thoughts."""
    if isinstance(value, str):
        return [value] if _is_sentence(value) else []
    if isinstance(value, list):
        return _in_all(value)
    if not isinstance(value, dict):
        return []
    said = {name: inner for name, inner in value.items() if not _NO_CAPTION.search(name)}
    named = [inner for name, inner in said.items() if _NAMED.fullmatch(name)]
    lists = [inner for inner in said.values() if isinstance(inner, list)]
    return _in_all(named) or _in_all(lists) or _in_all(said.values())


def _in_all(values: Iterable[Any]) -> list[str]:
    return [sentence for value in values for sentence in _sentences(value)]


def _is_sentence(text: str) -> bool:
    """Of enough words, or in a script that puts no spaces between them."""
    unspaced = any(c.isalpha() and c.lower() == c.upper() for c in text)
    return unspaced or sum(any(map(str.isalpha, word)) for word in text.split()) >= FEWEST_WORDS


# ---- what is no JSON, or not all of it -------------------------------------------------------------------------------

_BEGUN = re.compile(r'[\[{]\s*(?=")')
_ITEM = re.compile(r'[\s,]*(?:"(?P<name>[^"\\\n]*)"\s*:\s*)?(?P<text>"(?:[^"\\\n]|\\.)+")(?=\s*(?:[,"\]}]|\Z))')
_BULLET = re.compile(r"\s*(?:[-*•–]|[(\[]?\d{1,3}[.):\]])\s+")
#: Said about captions, not in one.
_TALK = re.compile(
    r"\b(?:captions?|json|the user|let me|let's|okay|hmm|(?-i:I)(?: (?:am|will|would|can|could|cannot|need|should|must|have|think"
    r"|hope|want|know|do)\b|['’](?:m|ll|d|ve)\b))",
    re.IGNORECASE,
)
_LEAD, _TAIL = (
    re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for words in ("here(?:[’']s| is| are)", "let me know|hope")
)


def _broken_off(text: str) -> list[str]:
    """The whole strings of JSON that breaks off, or that is not quite JSON: those after the last bracket that begins some."""
    begun = [found.end() for found in _BEGUN.finditer(text)]
    at, captions = begun[-1] if begun else len(text), list[str]()
    while item := _ITEM.match(text, at):
        at = item.end()
        if not _NO_CAPTION.search(item["name"] or ""):
            captions += _sentences(_json(item["text"]))
    return captions


def _listed(text: str) -> list[str]:
    """The lines of a list, or plain lines. None where one of them is talk: then the others are talk, too."""
    text = re.sub(r"^\s*```.*$", "", text, flags=re.MULTILINE)
    lines = [line for line in text.splitlines() if line.strip() and not line.rstrip(" *").endswith(":")]
    if bullets := [line for line in lines if _BULLET.match(line)]:
        lines = bullets  # what has none is talk around the list
    else:  # a word before the list, and one after it
        lines = lines[bool(lines and _LEAD.search(lines[0])) :]
        lines = lines[: len(lines) - bool(lines and _TAIL.search(lines[-1]))]
    if any(_TALK.search(line) for line in lines):
        return []
    return [caption for line in lines for caption in _in_line(_BULLET.sub("", line, count=1))]


def _in_line(line: str) -> list[str]:
    line = line.strip().strip(",").strip()
    if line.startswith('"') and (found := _sentences(_json(line))):
        return found
    if line.startswith(("[", "{")) or "](" in line:  # of JSON or Markdown
        return []
    return _sentences(line.replace("**", "").strip("\"'“”‘’`]").strip())


def _json(text: str) -> Any:
    try:
        return parse_json(text, "the answer", "answer of a server")
    except (ValueError, FigmentError):
        return None
