"""Reports of many classes: what is grouped, what is named, what is found; and how large the page is."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from figment.report import charts
from figment.report.classes import (
    LARGEST_GROUP,
    alike,
    class_rows,
    confused_pairs,
    groups_of,
    listed,
    together,
)
from figment.report.page import render
from figment.types import Result
from pages import Page
from report_sizes import sized_report

LARGEST_PAGE = 3_000_000  # bytes, of 1,000 classes with images of 128 pixels


def result(**per_class: float) -> Result:
    return Result("top1", 0.5, 100, (0.4, 0.6), per_class)


@pytest.fixture(scope="module")
def thousand() -> str:
    return render(sized_report(1000, side=128))


def test_class_rows_are_sorted_by_gain_and_leave_out_classes_of_one_arm():
    rows = class_rows(result(a=0.5, b=0.5, c=0.5, d=0.1), result(a=0.4, b=0.9, c=0.6))
    assert [row.name for row in rows] == ["b", "c", "a"]
    assert [round(row.gain, 6) for row in rows] == [0.4, 0.1, -0.1]
    assert rows[0].after.ci is None and class_rows(None, result(a=0.4)) == []


def test_confused_pairs_count_wrong_answers_only():
    confusion = np.array([[90, 10, 0], [0, 70, 30], [0, 0, 0]])
    assert confused_pairs(confusion) == [(1, 2, 30, 0.3), (0, 1, 10, 0.1)]
    assert len(confused_pairs(np.ones((9, 9)))) == 15


def test_classes_that_are_taken_for_one_another_are_a_group():
    confusion = np.diag(np.full(6, 50.0))
    confusion[0, 4], confusion[4, 0], confusion[4, 2], confusion[1, 3] = 9, 5, 6, 7
    confusion[5, 0] = 1  # one mistake is of chance
    first, second = groups_of(confusion)
    assert list(first.classes) == [0, 4, 2] and (first.inside, first.mistakes) == (20, 20)
    assert list(second.classes) == [1, 3]
    assert first.confusion.tolist() == [[50, 9, 0, 0], [5, 50, 6, 0], [0, 0, 50, 0]]
    assert together([first, second], 6) == [0, 4, 2, 1, 3, 5]
    assert groups_of(np.eye(4)) == []


def test_a_chain_of_neighbours_is_no_group_of_all():
    n = 30
    confusion = 50 * np.eye(n) + 20 * np.eye(n, k=1)
    groups = groups_of(confusion)
    assert max(len(own.classes) for own in groups) <= LARGEST_GROUP
    assert sorted(together(groups, n)) == list(range(n))


def test_what_is_alike_is_told_once():
    few = alike({"a": 200, "b": 200, "c": 190}, highest_first=False)
    assert [(one.low, one.high, list(one.names)) for one in few] == [(190, 190, ["c"]), (200, 200, ["a", "b"])]
    values = {f"class {k}": k / 1000 for k in range(101)}
    many = alike(values)
    assert sum(len(one.names) for one in many) == 101 and len(many) <= 9 and many[0].high == 0.1
    assert all(one.low <= values[name] <= one.high for one in many for name in one.names)


def test_the_list_begins_with_what_got_worse():
    confusion = np.array([[8, 2, 0], [0, 10, 0], [1, 3, 6]])
    lines = listed(["a", "b", "c"], result(a=0.9, b=0.9), result(a=0.8, b=1.0, c=0.6), confusion, {"a": 5})
    assert [line.name for line in lines] == ["a", "b", "c"] and lines[2].gain is None
    assert lines[0].taken_for == ("b", 0.2) and lines[1].taken_for is None and lines[0].kept == 5
    assert [line.name for line in listed(["a", "b"], None, result(a=0.8, b=0.6), None, {})] == ["b", "a"]


def test_the_picture_shows_each_mistake_and_nothing_else():
    confusion = 50 * np.eye(30)
    confusion[3, 20] = 1
    pixels = np.asarray(Image.open(io.BytesIO(charts.matrix_picture(confusion, range(30)))))
    assert pixels.shape == (30, 30, 4) and (np.diagonal(pixels[..., 3]) > 250).all()
    assert np.argwhere(pixels[..., 0] == charts.WRONG[0]).tolist() == [[3, 20]] and pixels[3, 20, 3] > 80


def test_no_mistake_is_lost_where_several_classes_share_a_point():
    n = charts.MAX_PICTURE_SIDE + 1
    confusion = np.eye(n)
    confusion[0, n - 1] = 1
    pixels = np.asarray(Image.open(io.BytesIO(charts.matrix_picture(confusion, range(n)))))
    assert pixels.shape[:2] == (-(-n // 2), -(-n // 2)) and pixels[0, -1, 3] > 80
    assert (pixels[..., 3] > 0).sum() == len(pixels) + 1


def test_a_thousand_classes_fit_a_small_page(thousand):
    page = Page(thousand.replace(script_of(thousand), ""))
    assert len(thousand.encode()) < LARGEST_PAGE
    assert page.count("circle", class_="dot after") == 20 + 1  # the extremes, and the arm
    assert page.count("img", class_="matrix") == 1 and page.count("svg", class_="heatmap") == 6
    for said in ("The most frequent mistakes", "1,000 classes by what they gained", "of 20 of 1,000 classes"):
        assert said in page.text, said
    assert page.count("tr") < 1_150  # the list, and little else


def test_every_class_is_in_the_list_once(thousand):
    rows = re.findall(r'<tr><th scope="row"><bdi[^>]*>([^<]*)</bdi></th><td>[\d.]+</td>', thousand)
    assert len(rows) == len(set(rows)) == 1000


def script_of(html: str) -> str:
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    return script


def test_only_the_search_may_run(thousand):
    known = base64.b64encode(hashlib.sha256(script_of(thousand).encode()).digest()).decode()
    assert f"script-src 'sha256-{known}'" in thousand and "default-src 'none'" in thousand
    assert "<script" not in render(sized_report(10))


@pytest.mark.parametrize("n", [2, 10])
def test_few_classes_have_a_matrix_with_names_and_no_list(n):
    page = Page(render(sized_report(n)))
    assert page.count("svg", class_="heatmap") == 1
    assert page.count("img", class_="matrix") == page.count("input") == 0


FRAME = """<body><iframe id=f src="page.html" style="border:0;width:390px;height:844px"></iframe><pre id=said></pre><script>
f.onload = () => {
  const page = f.contentDocument, found = page.querySelector("#find");
  const wide = page.documentElement.scrollWidth;
  found.value = "SHARK  tiger";
  found.dispatchEvent(new Event("input"));
  const rows = [...page.querySelectorAll("#list tbody tr")].filter(row => row.offsetHeight);
  said.textContent = JSON.stringify([wide, rows.map(row => row.cells[0].textContent)]);
};
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_phone_scrolls_down_only_and_finds_a_class(thousand, tmp_path):
    (tmp_path / "page.html").write_text(thousand, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    command = ["chromium", *options, "--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'user'}"]
    dom = subprocess.run([*command, (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=120)
    (said,) = re.findall(r'<pre id="said">\[(\d+),(.*)\]</pre>', dom.stdout)
    assert int(said[0]) <= 390 and '"tiger shark"' in said[1] and "hammerhead" not in said[1]
