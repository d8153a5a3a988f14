"""The curation page in a browser: keys, two pages at once, a server that is killed, and names that would be markup."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import chromium
from chromium import Browser, Page
from figment.images_in import by_hand
from figment.layout import Run
from looked_at import make_run, served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.PROGRAM is None, reason="there is no Chromium here"),
]
SAVED = "document.querySelector('#saved').textContent === 'saved'"
CURRENT = "document.querySelector('.current').getAttribute('aria-label')"


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("look") / "ready")


@pytest.fixture
def run(ready, tmp_path) -> Path:
    return shutil.copytree(ready, tmp_path / "run")


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with chromium.chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def opened(browser: Browser, url: str) -> Page:
    page = browser.page(url)
    page.until("document.body?.dataset.ready")
    return page


def words(run: Path) -> dict[str, str]:
    return {id: word for id, (_, word) in by_hand.read(Run(run)).said.items()}


def text(page: Page, where: str) -> str:
    return page.run(f"document.querySelector({where!r}).textContent")


def choose(page: Page, where: str, value: str) -> list[int]:
    """Set a field; which images are shown then, in their order, as far as they are in sight."""
    page.run(
        f"{{const f = document.querySelector({where!r}); f.value = {value!r}; f.dispatchEvent(new Event('input'))}}"
    )
    cells = "[...document.querySelectorAll('.cell')].sort((a, b) => a.dataset.at - b.dataset.at)"
    return page.run(f"{cells}.map((cell) => Number(cell.querySelector('img').src.split('/').pop()))")


def test_keys_judge_and_take_back(browser, run):
    with served(run) as server:
        page = opened(browser, server.server.url)
        assert text(page, "#counts") == "12 images: 9 kept, 3 thrown out by filters; by hand 0 rejected, 0 accepted"
        page.press("r", "a", "r")  # each goes on to the next image
        assert page.run(CURRENT) == "red thing, thrown out by blank: too plain"
        page.until(SAVED)
        assert words(run) == {"p00000/0": "rejected", "p00001/0": "accepted", "p00002/0": "rejected"}
        assert text(page, "#counts") == "12 images: 7 kept, 3 thrown out by filters; by hand 2 rejected, 1 accepted"
        page.press("u")
        assert page.run(CURRENT) == "blue thing, kept"  # where it was
        page.press("Home", "ArrowRight", "r")
        page.until(SAVED)
        assert words(run) == {"p00000/0": "rejected", "p00001/0": "rejected"}
        page.press("End", "a")
        assert "it stays out: loosen the filter" in text(page, "#said")
        page.press("u", "u", "u", "u", "u")
        page.until(SAVED)
        assert words(run) == {} and text(page, "#said") == "There is nothing to undo."
        assert page.errors() == []
        page.close()


def test_search_class_verdict_and_order(browser, run):
    with served(run) as server:
        page = opened(browser, server.server.url)
        page.press("r")
        page.until(SAVED)
        assert choose(page, "#show", "kept") == [1, 2, 4, 5, 6, 8, 9, 10]
        assert (
            choose(page, "#show", "out")
            == choose(page, "#show", "reason:1")
            == choose(page, "#show", "by:0")
            == [3, 7, 11]
        )
        assert choose(page, "#show", "rejected") == [0]
        assert choose(page, "#show", "accepted") == [] and text(page, "#said") == "No image fits."
        assert choose(page, "#show", "all") == list(range(12))
        assert choose(page, "#class", "1") == [1, 4, 7, 10]
        assert choose(page, "#search", "PLAIN green") == [7]
        assert choose(page, "#search", "p00004") == [4]
        choose(page, "#search", "")
        choose(page, "#class", "all")
        by_score = sorted(range(12), key=lambda i: i * 7 % 12)
        assert choose(page, "#sort", "score:0:up") == by_score
        assert choose(page, "#sort", "score:0:down") == by_score[::-1]
        page.press("/")
        page.run("document.querySelector('#search').value = ''")
        page.press("r")  # a letter to search for, and no verdict
        assert page.run("document.activeElement.id") == "search"
        page.press("Escape")
        page.until(SAVED)
        assert page.run("document.activeElement.id") == "grid" and words(run) == {"p00000/0": "rejected"}
        page.close()


def test_two_pages_at_once(browser, run):
    with served(run) as server:
        one, two = opened(browser, server.server.url), opened(browser, server.server.url)
        one.press("r")
        two.until("document.querySelectorAll('.rejected').length === 2")  # a cell, and the word beside it
        two.press("a")  # the first image is no longer without a word, and this page knows
        two.press("r")
        one.until("document.querySelector('#counts').textContent.endsWith('1 rejected, 1 accepted')")
        assert words(run) == {"p00000/0": "accepted", "p00001/0": "rejected"}
        one.press("u")
        assert "Another page changed that word since" in text(one, "#said")
        one.until(SAVED)
        assert words(run) == {"p00000/0": "accepted", "p00001/0": "rejected"}
        one.close()
        two.close()


def test_a_server_that_is_killed_loses_nothing(browser, run):
    with served(run) as server:
        old, port = opened(browser, server.server.url), server.server.server_port
        gone = opened(browser, server.server.url)
        old.press("r")
        old.until(SAVED)
    gone.press("End", "r")
    gone.until("document.querySelector('#saved').textContent.startsWith('1 word not saved yet')")
    gone.close()
    old.press("r", "a")
    old.until("document.querySelector('#saved').textContent.includes('not saved yet. figment look does not answer')")
    assert words(run) == {"p00000/0": "rejected"}
    with served(run, port=port) as server:  # as the run's own port would be; the token is another
        old.until("document.querySelector('#saved').textContent.includes('was started again')")
        new = opened(browser, server.server.url)
        new.until("document.querySelector('#counts').textContent.endsWith('3 rejected, 1 accepted')")
        new.until(SAVED)
        saved = {"p00000/0": "rejected", "p00001/0": "rejected", "p00002/0": "accepted", "p00011/0": "rejected"}
        assert words(run) == saved
        new.press("u")
        assert text(new, "#said") == "There is nothing to undo."  # here
        new.close()
    old.close()


HOSTILE = [
    "<img src=x onerror=window.owned=1>",
    "</script><script>window.owned=1</script>",
    "\"'><svg onload=window.owned=1>",
    "{{7*7}} ${window.owned=1}",
    "&lt;b&gt;" + "x" * 300,
]


def test_hostile_names_and_captions_are_text(browser, tmp_path):
    caption = "</title></style><iframe srcdoc='<script>parent.owned=1</script>'> {} \u2028 \u202egpj.exe"
    run = make_run(tmp_path / "a '\"<b onmouseover=window.owned=1>", 10, HOSTILE, caption)
    with served(run) as server:
        page = opened(browser, server.server.url)
        for i in range(10):
            facts = page.run("[...document.querySelectorAll('#facts dd')].map((one) => one.textContent)")
            said = caption.replace("{}", HOSTILE[i % 5]).replace("\u2028", "\ufffd").replace("\u202e", "\ufffd")
            assert facts[:2] == [HOSTILE[i % 5], said]
            page.press("r")
        choose(page, "#search", "<script>")
        choose(page, "#show", "rejected")
        page.until(SAVED)
        assert len(words(run)) == 10
        assert page.run("window.owned ?? document.querySelectorAll('iframe, svg, b').length") == 0
        assert page.errors() == []
        page.close()


def test_ten_thousand_images_are_a_few_elements(browser, tmp_path):
    run = make_run(tmp_path / "run", 10_000)
    with served(run) as server:
        page = opened(browser, server.server.url)
        for key in ("End", "r", "PageUp", "r", "Home"):
            page.press(key)
            assert page.run("document.querySelectorAll('.cell').length") < 150
        page.until(SAVED)
        assert len(words(run)) == 2 and "p09999/0" in words(run)
        page.close()
