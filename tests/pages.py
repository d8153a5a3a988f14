"""What the tests of reports read pages with: a strict reader of HTML, names that must not escape, the shapes of a chart."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}  # elements without an end tag
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    "</style></title></svg><b>bold</b>",
    "salt & pepper &amp; {{ 7 * 7 }}",
    "\u202eevil \u0645\u0639\u0637\u0641",
    "\U0001f9e5 coat \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "x" * 10_000,
    "nul \x00 bell \x07 \x1b[31m, half \ud83d",
    "two\nlines",
    "",
]


class Page(HTMLParser):
    """A strict reader: every end tag must match, and text, attributes and tags are kept to be asked about."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        assert len(attributes) == len(dict(attributes)), f"attribute given twice in <{tag}>"
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))

    def count(self, tag: str, **attributes: str) -> int:
        return sum(t == tag and all(a.get(k.rstrip("_")) == v for k, v in attributes.items()) for t, a in self.tags)


def shapes(svg: str, tag: str, kind: str) -> list[dict[str, str]]:
    return [
        dict(re.findall(r'([\w-]+)="([^"]*)"', shape)) for shape in re.findall(rf'<{tag} class="{kind}"[^>]*>', svg)
    ]
