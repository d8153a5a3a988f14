"""YAML from outside: one document of plain data, without the surprises YAML allows. And YAML for others to read."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from figment import files
from figment.errors import FigmentError

MOST_CHARACTERS = 4_000_000  # tens of thousands of classes with synonyms are a tenth of it
MOST_DEPTH = 64  # of lists and mappings within one another
MOST_VALUES = 1_000_000  # after aliases are written out: a few lines of nested ones can stand for billions


def read(path: Path) -> Any:
    """The data of a recipe's file. Raises FigmentError as :func:`parse` and :func:`figment.files.read_bytes` do, OSError, and
    UnicodeDecodeError for what is not UTF-8."""
    return parse(files.read_text(path, "recipe"), str(path))


class _Loader(yaml.SafeLoader):
    """Refuses what is nested too deeply before Python's own limit does."""

    def __init__(self, text: str, what: str):
        super().__init__(text)
        self.what, self.depth = what, 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > MOST_DEPTH:
            raise FigmentError(
                f"{self.what} is not YAML that can be used: it is nested too deeply, more than {MOST_DEPTH} times."
            )
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def parse(text: str, what: str) -> Any:
    """The data of a YAML text. Raises FigmentError, beginning with ``what``, for text that is none, for a field that is given
    twice (YAML would take the last and say nothing), and for aliases that hold themselves or stand for far too much."""
    return deepcopy(_parsed(text, what))


@lru_cache(maxsize=16)  # a run asks its own recipe at every stage, and YAML takes tens of milliseconds
def _parsed(text: str, what: str) -> Any:
    if len(text) > MOST_CHARACTERS:
        raise FigmentError(
            f"{what} is longer than {MOST_CHARACTERS:,} characters, which no recipe is. Is it another file?"
        )
    try:
        loader = _Loader(text, what)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, what, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except FigmentError:
        raise
    except Exception as error:  # PyYAML lets KeyError, IndexError and AttributeError of its constructors through
        reason = " ".join(str(error).split()) or type(error).__name__
        hint = " Indent with spaces: YAML takes no tabs." if r"'\t'" in reason else ""
        raise FigmentError(f"{what} is not YAML: {reason}.{hint}") from error


def front_matter(data: Mapping[str, Any]) -> str:
    """What stands above a card in Markdown, with its two lines of dashes.

    Written by PyYAML itself: JSON, which is said to be YAML, spells an emoji as two halves of a surrogate pair, and YAML reads two
    characters that no file can hold.
    """
    return f"---\n{yaml.safe_dump(dict(data), sort_keys=False, width=10**9)}---"


def _check(node: yaml.Node, what: str, known: dict[int, int]) -> int:
    """How many values a node stands for. ``known`` holds those counted already, 0 for the ones that are being counted."""
    if id(node) in known:
        if not known[id(node)]:
            raise FigmentError(f"{what} has an alias that holds itself, {_line(node)}. Write it out.")
        return known[id(node)]
    known[id(node)] = 0
    count = 1
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, what)
        count += sum(_check(key, what, known) + _check(value, what, known) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        count += sum(_check(item, what, known) for item in node.value)
    if count > MOST_VALUES:
        raise FigmentError(f"{what} stands for more than {MOST_VALUES:,} values, {_line(node)}. Use fewer aliases.")
    known[id(node)] = count
    return count


def _check_keys(node: yaml.MappingNode, what: str) -> None:
    seen: dict[str, yaml.Node] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.value in seen:
            raise FigmentError(
                f"{what} gives {key.value[:60]!r} twice, {_line(seen[key.value])} and {_line(key)}. Keep one of them."
            )
        seen[key.value] = key


def _line(node: yaml.Node) -> str:
    return f"in line {node.start_mark.line + 1}"
