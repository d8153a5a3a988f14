from __future__ import annotations

import csv
import io

import markdown_it
import pytest
import yaml

from figment.plain_yaml import front_matter
from figment.progress import _PlainConsole
from figment.words import markdown, natural, one_line, spreadsheet, without_folders, without_secret


def test_numbers_in_names_count_as_numbers():
    names = ["10-clip", "2-blank", "1-a", "1-B", "x", "", "2-blank-10", "2-blank-9", "²"]
    assert sorted(names, key=natural) == ["", "1-B", "1-a", "2-blank", "2-blank-9", "2-blank-10", "10-clip", "x", "²"]


# ---- each place shows a text as it is --------------------------------------------------------------------------------

MARKUP = [
    "a *b* _c_ **d**",
    "`code`",
    "<b>bold</b>",
    "<!-- gone -->",
    "[a link](https://example.org)",
    "![an image](x.png)",
    "<https://example.org>",
    "a | b | c",
    "&amp; &lt;b&gt; &#42;",
    "C&A",
    "# heading",
    "- item",
    "+ item",
    "1. item",
    "1999) item",
    "> quoted",
    "---",
    "===",
    "~~gone~~",
    "~~~",
    "back\\slash \\* \\",
    "[^1]: a note",
    "[x]: https://example.org",
    "Boeing 737-300, St. Bernard (big) 50% off!",
    "caf\u00e9 \U0001f408 \u732b",
]
CONTROL = ["\x1b[31mred", "\x07bell", "\u202eevil", "two\n\nlines", "tab\there", "half \ud83d", "\u2028line"]


@pytest.mark.parametrize("text", MARKUP)
@pytest.mark.parametrize("where", ["{}", "- {}", "| {} |\n|---|", "words: {}"])
def test_markdown_shows_a_text_as_it_is(text, where):
    tokens = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(where.format(markdown(text)))
    shown = [child for t in tokens for child in t.children or ()]
    assert {child.type for child in shown} <= {"text", "text_special"}
    assert "".join(child.content for child in shown) == f"words: {text}"[0 if "words" in where else 7 :]
    assert not any(t.type in ("heading_open", "hr", "html_block", "fence", "blockquote_open") for t in tokens)
    assert sum(t.type == "list_item_open" for t in tokens) == where.startswith("-")


@pytest.mark.parametrize(
    "text", ["https://example.org", "www.example.org", "me@example.org", "@someone", "$x$ and $$y$$"]
)
def test_markdown_has_none_of_the_links_and_formulas_that_sites_add(text):
    """GitHub and the Hub make links of addresses and mentions, and formulas of dollars: one sign of each is escaped."""
    escaped = markdown(text)
    assert escaped.replace("\\", "") == text and not any(s in escaped for s in ("http://", "https://", "www."))
    assert all(f"\\{sign}" in escaped for sign in "@$" if sign in text)


@pytest.mark.parametrize("text", CONTROL)
def test_no_place_gets_control_characters_or_a_second_line(text):
    for shown in (one_line(text), markdown(text), spreadsheet(text)):
        assert "\n" not in shown and not set(shown) & set("\x1b\x07\u202e\t\u2028\ud83d")


@pytest.mark.parametrize(
    "text", [*MARKUP, "Generated images: \U0001f408", "a: b # c", "- x", "null", "1e3", "---\nx: 1", "\x85"]
)
def test_front_matter_is_yaml_that_says_the_same(text):
    front = {"name": text, "configs": [{"path": [text]}]}
    lines = front_matter(front).split("\n")
    assert lines[0] == lines[-1] == "---" and not any(line.startswith("---") for line in lines[1:-1])
    read = yaml.safe_load("\n".join(lines[1:-1]))
    assert read == front and read["name"].encode() and "\n".join(lines).isascii()


@pytest.mark.parametrize(
    "text", ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\n=1", " =1", "\uff1d1+1", "-1+1", "--1", "-"]
)
def test_a_text_is_no_formula_in_a_spreadsheet(text):
    shown = spreadsheet(text)
    assert (
        shown == f"'{text.strip()}"
        and spreadsheet(f"\r{text}")[0] not in "=+-@\r"
        and next(csv.reader(io.StringIO(shown))) == [shown]
    )


@pytest.mark.parametrize("text", ["-3", "+3", "-0.5", "-1e-3", "3", "-.5", "cat", "a=b", "'quoted"])
def test_numbers_and_words_stay_what_they_are_in_a_spreadsheet(text):
    assert spreadsheet(text) == text


@pytest.mark.parametrize(
    "text", ["[red]x[/red]", "[bold]", ":cat:", "[link=https://example.org]x[/link]", "[/]", "[[x]]"]
)
def test_a_terminal_shows_markup_as_it_is(text):
    from rich.table import Table

    out = io.StringIO()
    console = _PlainConsole(file=out, highlight=False, markup=False, emoji=False, force_terminal=True, width=80)
    table = Table(text, title=text)
    table.add_row(f"{text}\x1b[2J\u202e")
    console.print(text)
    console.print(table)
    assert out.getvalue().count(text) == 4 and "\x1b[2J" not in out.getvalue() and "\u202e" not in out.getvalue()


def test_a_secret_is_taken_out_and_a_stand_in_for_one_is_not():
    assert without_secret("a key-12345 b", "key-12345") == "a *** b"
    assert without_secret("none of EMPTY", "EMPTY") == "none of EMPTY" and without_secret("x", None) == "x"


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("/home/u/secret/sd", "sd"),
        ("~/models/sd", "sd"),
        ("../sd, ./b/c", "sd, c"),
        ("owner/name@v1.0", "owner/name@v1.0"),
        ("DPM, LoRA /srv/x/style x 0.5", "DPM, LoRA style x 0.5"),
        ("https://huggingface.co/owner/name", "https://huggingface.co/owner/name"),
        ("a and/or b", "a and/or b"),
    ],
)
def test_no_folder_of_this_machine_goes_out(text, out):
    assert without_folders(text) == out
