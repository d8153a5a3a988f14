"""Charts as inline SVG: pure functions from numbers to markup.

Positions are percentages of the plot, so a chart is as wide as the page while its text keeps its size; colours are CSS classes, so
dark mode and print need nothing here. Markup is only ever built by ``Markup.format``, which escapes every value put into it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup
from PIL import Image

from figment.report.text import count, interval, loss, percent, points_interval, quantity, shorten, width
from figment.types import Result

Span = tuple[float, float]
SERIES = (
    "after",
    "real",
    "bad",
    "before",
)  # CSS classes of the lines of a history, told apart by dashes as well as by colour
MAX_HEATMAP_CLASSES = 20
MAX_PICTURE_SIDE = 400  # pixels: more are finer than a page shows
RIGHT, WRONG, FAINTEST = (
    (0, 114, 178),
    (213, 94, 0),
    0.35,
)  # of the picture of a matrix: the style's colours, least opacity
N_COLOURS = 6  # of the lines of a chart: CSS classes c0 to c5
# markers around (0, 0); five shapes and six colours come together once in 30 lines
SHAPES = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
    "M-4 -4h8v8h-8z",
    "M0 -5.5L5.2 4H-5.2z",
    "M0 -6L6 0L0 6L-6 0z",
    "M0 5.5L5.2 -4H-5.2z",
)


@dataclass(frozen=True)
class Axis:
    """Values to positions: 0 at ``low``, 100 at ``high``, clipped to these; linear, or base-2 logarithmic where ``log``."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log2(max(value, self.low) / self.low) / math.log2(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 3)


@dataclass(frozen=True)
class Mark:
    """A dot with a whisker: ``kind`` is a CSS class, ``y`` its height in the row in percent, ``draws`` the values behind a mean."""

    value: float
    ci: Span | None
    kind: str
    y: float = 50.0
    draws: Sequence[float] = ()


@dataclass(frozen=True)
class Line:
    """A line through dots at each x; ``look`` numbers its colour and marker, the same for the same name in two charts."""

    name: str
    points: Mapping[float, Mark]
    look: int


@dataclass(frozen=True)
class Dot:
    """A named dot of a scatter plot: on either axis a value and its 95 % interval. ``kind`` is "best" for the one to choose, "rival"
    for another that is named, "" for the rest."""

    name: str
    x: float
    y: float
    x_ci: Span
    y_ci: Span
    kind: Literal["best", "rival", ""] = ""


def linear_axis(values: Iterable[float], min_step: float = 0.0, max_ticks: int = 7) -> Axis:
    """An axis around the finite values whose ends and ticks are round numbers (steps of 1, 2 or 5 times a power of ten)."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    step = _round_step(max((high - low) / (max_ticks - 2), min_step, 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first, last = first - 1, last + 1
    ticks = tuple(round(k * step, 10) for k in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def accuracy_axis(results: Iterable[Result]) -> Axis:
    """An axis that holds these accuracies and their intervals, in whole per cents."""
    return marks_axis([Mark(r.value, r.ci, "") for r in results])


def marks_axis(marks: Iterable[Mark]) -> Axis:
    """``accuracy_axis`` of dots with whiskers."""
    return linear_axis((min(1.0, max(0.0, v)) for m in marks for v in (m.value, *(m.ci or ()))), min_step=0.01)


def shots_axis(shots: Iterable[float]) -> Axis:
    """A base-2 logarithmic axis with a tick at each number of shots and a little room on both sides."""
    ticks = tuple(sorted(shots))
    return Axis(ticks[0] / 1.25, ticks[-1] * 1.25, ticks, log=True)


def doubling_axis(values: Iterable[float]) -> Axis:
    """``shots_axis`` of numbers from 0 on: nought, which has no place on a logarithmic scale, stands where ``doubling`` puts it."""
    rising = sorted(set(values))
    return shots_axis(doubling(v, rising) for v in rising)


def doubling(value: float, values: Iterable[float]) -> float:
    """What stands for ``value`` on the ``doubling_axis`` of ``values``: itself, and for 0 one halving of the smallest other."""
    return value or min((v for v in values if v > 0), default=2.0) / 2


def whiskers(axis: Axis, marks: Sequence[Mark], title: str) -> Markup:
    """One row of a dot-and-whisker chart; stacked in a table, the rows share the axis that ``ticks`` writes below them."""
    grid = _join(_line("grid", axis(t), 0, axis(t), 100) for t in axis.ticks)
    return _svg("row", title, grid + _join(_mark(axis, mark) for mark in marks))


def difference(result: Result) -> Markup:
    """A difference with its interval, beside the line of no difference."""
    axis = linear_axis((0.0, result.value, *result.ci))
    title = f"Difference: {points_interval(result)}"
    zero = _line("zero", axis(0.0), 0, axis(0.0), 100)
    return _svg("row", title, zero + _mark(axis, Mark(result.value, result.ci, "plain")))


def offsets(axis: Axis, mark: Mark, title: str) -> Markup:
    """One row of ``whiskers`` that shows a difference: its line of no difference stands out."""
    grid = _join(_line("grid" if t else "zero", axis(t), 0, axis(t), 100) for t in axis.ticks)
    return _svg("row", title, grid + _mark(axis, mark))


def ticks(axis: Axis, factor: float = 100) -> Markup:
    """The tick labels below a column of ``whiskers``, in per cent, or plain where ``factor`` is 1."""
    texts = (_text("tick", axis(t), 50, f"{factor * t:g}".replace("-", "−"), "middle") for t in axis.ticks)
    return Markup('<svg class="scale" aria-hidden="true">{}</svg>').format(_join(texts))


def learning_curve(
    real: Mapping[int, Result],
    synthetic: Result | None = None,
    worth: float | None = None,
    worth_ci: Span | None = None,
) -> Markup:
    """Accuracy of real images alone over shots, the synthetic accuracy as a level line, and where the two cross.

    Args:
        real: accuracy (mean and interval over draws) at each number of real images a class.
        synthetic: the accuracy that the synthetic images reach.
        worth: the crossing, in real images a class; ``worth_ci`` its interval, whose end may be infinite.
    """
    shots = sorted(real)
    x, y = shots_axis(shots), accuracy_axis([*real.values(), *([synthetic] if synthetic else [])])
    body = [_y_grid(y, "{:.0f} %", 100), *(_text("tick", x(s), 100, f"{s:g}", "middle", dy=20) for s in shots)]
    if synthetic:
        body += [_level(y, synthetic)]
    band = [(x(s), 100 - y(real[s].ci[1])) for s in shots] + [(x(s), 100 - y(real[s].ci[0])) for s in reversed(shots)]
    body += [_stretched(_polygon("real", band) + _polyline("real", [(x(s), 100 - y(real[s].value)) for s in shots]))]
    body += [_dot("draw real", x(s), 100 - y(v), 2) for s in shots for v in real[s].details.get("per_seed", ())]
    body += [_dot("dot real", x(s), 100 - y(real[s].value), 4.5) for s in shots]
    if synthetic and worth is not None:
        body += [_crossing(x, y, synthetic.value, worth, worth_ci)]
    title = "Real images alone: " + ", ".join(f"{interval(real[s])} at {s} a class" for s in shots)
    return _svg("plane", title + (f"; synthetic images: {interval(synthetic)}" if synthetic else ""), _join(body))


def history(losses: Mapping[str, Sequence[float]]) -> Markup:
    """Loss at each epoch, one line a name. Epochs whose loss is not finite leave a gap."""
    epochs = max(map(len, losses.values()))
    x = linear_axis((1, epochs), min_step=1)
    x = Axis(1, max(epochs, 2), tuple(t for t in x.ticks if 1 <= t <= epochs))
    y = linear_axis(v for values in losses.values() for v in values)
    body = [_y_grid(y, "{:g}"), *(_text("tick", x(t), 100, f"{t:g}", "middle", dy=20) for t in x.ticks)]
    for k, values in enumerate(losses.values()):
        runs = _finite_runs([(x(e), v) for e, v in enumerate(values, start=1)])
        lines = _join(_polyline(f"{SERIES[k % 4]} dash{k % 4}", [(at, 100 - y(v)) for at, v in run]) for run in runs)
        body += [
            _stretched(lines),
            *(_dot(f"dot {SERIES[k % 4]}", run[0][0], 100 - y(run[0][1]), 3) for run in runs if len(run) == 1),
        ]
    ends = ", ".join(f"{shorten(name)} from {loss(v[0])} to {loss(v[-1])}" for name, v in losses.items() if len(v))
    return _svg("plane small", f"Loss over {epochs} epochs: {ends}", _join(body))


def lines(drawn: Sequence[Line], title: str, factor: float = 1) -> Markup:
    """Lines over a doubling scale, with bands for their intervals and a marker of its own for each line.

    Args:
        drawn: their x from 0 on; the ticks are at all of them, labelled where there is room.
        title: for those who do not see the chart; what each line says is added to it.
        factor: 100 for shares, shown in per cent, and 1 for plain numbers.
    """
    places = sorted({v for line in drawn for v in line.points})
    x = doubling_axis(places)
    y = linear_axis(v for line in drawn for m in line.points.values() for v in (m.value, *(m.ci or ()), *m.draws))
    body = [_y_grid(y, "{:g} %" if factor == 100 else "{:g}", factor), *_spaced_ticks(x, places)]
    body += [_band_and_line(line, x, y, places) for line in drawn]
    body += [_markers(line, x, y, places, factor) for line in drawn]
    said = (
        f"{shorten(line.name)}: "
        + ", ".join(f"{factor * m.value:.4g} at {quantity(v)}" for v, m in sorted(line.points.items()))
        for line in drawn
    )
    return _svg("plane", f"{title}. {'; '.join(said)}", _join(body))


def scatter(dots: Iterable[Dot], axes: tuple[str, str]) -> Markup:
    """Named dots with an interval on either axis, the second of which is a share shown in per cent; those of a kind have their name
    beside them, the others when they are pointed at."""
    drawn = [d for d in dots if math.isfinite(d.x) and math.isfinite(d.y)]
    x = linear_axis(v for d in drawn for v in (d.x, *d.x_ci))
    y = linear_axis(v for d in drawn for v in (d.y, *d.y_ci))
    looks = {"best": "after", "rival": "bad", "": "before"}
    body = [_y_grid(y, "{:g} %", 100), *(_text("tick", x(t), 100, f"{t:g}", "middle", dy=20) for t in x.ticks)]
    for d in drawn:
        at, height, look = x(d.x), 100 - y(d.y), looks[d.kind]
        said = Markup("<title>{}</title>").format(
            f"{shorten(d.name, 120)}: {axes[0]} {d.x:.4g}, {axes[1]} {percent(d.y)}"
        )
        bars = (
            [_line(f"whisker thin {look}", x(d.x_ci[0]), height, x(d.x_ci[1]), height)] if _are_finite(d.x_ci) else []
        )
        bars += (
            [_line(f"whisker thin {look}", at, 100 - y(d.y_ci[0]), at, 100 - y(d.y_ci[1]))]
            if _are_finite(d.y_ci)
            else []
        )
        body += [*bars, Markup("<g>{}{}</g>").format(said, _dot(f"dot {look}", at, height, 6))]
        if d.kind:
            anchor, dx = ("start", 12) if at < 55 else ("end", -12)
            dy = -8 if d.kind == "best" else 18  # names of neighbours do not meet
            body += [_text("name", at, height, shorten(d.name, 60), anchor, dx=dx, dy=dy)]
    everything = "; ".join(f"{shorten(d.name, 80)}: {d.x:.4g}, {percent(d.y)}" for d in drawn)
    return _svg("plane", f"{axes[1]} against {axes[0]}. {everything}", _join(body))


def _are_finite(span: Span) -> bool:
    return all(map(math.isfinite, span))


def key(look: int) -> Markup:
    """The marker of a line, for its legend."""
    shape = '<svg class="key c{}" width="24" height="14" viewBox="-12 -7 24 14" aria-hidden="true"><path class="line" d="M-11 0H11"/><path d="{}"/></svg>'
    return Markup(shape).format(look % N_COLOURS, SHAPES[look % len(SHAPES)])


def matrix_picture(confusion: np.ndarray, order: Sequence[int]) -> bytes:
    """The confusion matrix of many classes as a PNG with a transparent ground: rows are true classes and columns predicted ones, both in
    this order. A pixel is one cell, or the strongest of ``picture_step`` x as many; a wrong answer is never fainter than can be seen."""
    counts = np.asarray(confusion, np.float64)
    shares = np.sqrt(counts / np.maximum(1, counts.sum(1, keepdims=True)))[np.ix_(order, order)]  # as in `heatmap`
    diagonal = np.eye(len(order), dtype=bool)
    step = picture_step(len(order))
    right, wrong = (_strongest(np.where(cells, shares, 0), step) for cells in (diagonal, ~diagonal))
    on_diagonal = _strongest(diagonal, step)
    opacity = np.where(on_diagonal, right, np.where(wrong > 0, np.maximum(wrong, FAINTEST), 0))
    pixels = np.zeros((*opacity.shape, 4), np.uint8)
    pixels[..., :3] = np.where(on_diagonal[..., None], RIGHT, WRONG)
    pixels[..., 3] = np.round(255 * opacity)
    pixels[pixels[..., 3] == 0] = 0  # so that what is empty compresses to nothing
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def picture_step(n: int) -> int:
    """How many of ``n`` classes share a row of pixels in their `matrix_picture`."""
    return -(-n // MAX_PICTURE_SIDE)


def _strongest(cells: np.ndarray, step: int) -> np.ndarray:
    """The greatest of each ``step`` x ``step`` block; blocks at the ends may be smaller."""
    starts = np.arange(0, len(cells), step)
    return np.maximum.reduceat(np.maximum.reduceat(cells, starts, axis=0), starts, axis=1)


def heatmap(confusion: Sequence[Sequence[float]] | np.ndarray, class_names: Sequence[str], rest: str = "") -> Markup:
    """The confusion matrix, each row as shares of its true class: right answers in one colour, wrong ones in another. ``rest`` is what
    a last column is called that holds all other classes."""
    names = [shorten(name, 22) for name in class_names]
    columns = [*names, *([rest] if rest else [])]
    cell = min(52, max(34, 640 // len(names)))
    left = 12 + round(7.2 * max(map(width, names)))
    top = 24 + round(5.2 * max(map(width, columns)))
    size = cell * len(names)
    body = [_column_name(left + (j + 0.5) * cell, top - 8, name) for j, name in enumerate(columns)]
    for i, row in enumerate(confusion):
        body += [
            Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
                left - 8, top + (i + 0.5) * cell + 4, names[i]
            )
        ]
        body += [_cell(left + j * cell, top + i * cell, cell, row, i, j, columns) for j in range(len(columns))]
    # room at the right for the last slanted name
    shape = Markup(
        '<svg class="heatmap" role="img" width="{0}" height="{1}" viewBox="0 0 {0} {1}"><title>{2}</title>{3}</svg>'
    )
    title = f"Confusion matrix of {len(names)} classes: rows are true classes, columns predicted ones, in per cent of the row"
    return shape.format(left + cell * len(columns) + round(0.75 * top), top + size + 2, title, _join(body))


def shares(parts: Sequence[tuple[str, int, str]]) -> Markup:
    """One stacked bar of (name, count, CSS class) parts."""
    total = max(1, sum(n for _, n, _ in parts))
    body, start = [], 0.0
    for name, n, kind in parts:
        share = 100 * n / total
        rect = Markup('<rect class="{}" x="{:.3f}%" width="{:.3f}%" height="100%"><title>{}: {}</title></rect>')
        body += [rect.format(kind, start, share, shorten(name), n)]
        start += share
    return _svg("shares", ", ".join(f"{shorten(name)}: {n}" for name, n, _ in parts), _join(body))


def bar(n: int, most: int) -> Markup:
    """A horizontal bar of ``n`` where ``most`` fills the cell."""
    share = 100 * n / max(1, most)
    return Markup(
        '<svg class="bar" aria-hidden="true"><rect class="kept" width="{:.3f}%" height="100%" rx="2"/></svg>'
    ).format(share)


def _svg(kind: str, title: str, body: Markup) -> Markup:
    return Markup('<svg class="{}" role="img"><title>{}</title>{}</svg>').format(kind, title, body)


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}%" y1="{}%" x2="{}%" y2="{}%"/>').format(kind, x1, y1, x2, y2)


def _dot(kind: str, x: float, y: float, radius: float) -> Markup:
    return Markup('<circle class="{}" cx="{}%" cy="{}%" r="{}"/>').format(kind, x, _tidy(y), radius)


def _text(kind: str, x: float, y: float, text: str, anchor: str, dx: int = 0, dy: int = 4) -> Markup:
    shape = Markup('<text class="{}" x="{}%" y="{}%" dx="{}" dy="{}" text-anchor="{}">{}</text>')
    return shape.format(kind, x, _tidy(y), dx, dy, anchor, text)


def _mark(axis: Axis, mark: Mark) -> Markup:
    if not math.isfinite(mark.value):
        return Markup("")
    parts = [_dot(f"draw {mark.kind}", axis(v), mark.y, 2) for v in mark.draws]
    if mark.ci and all(map(math.isfinite, mark.ci)):
        parts += [_line(f"whisker {mark.kind}", axis(mark.ci[0]), mark.y, axis(mark.ci[1]), mark.y)]
    return _join([*parts, _dot(f"dot {mark.kind}", axis(mark.value), mark.y, 5)])


def _y_grid(axis: Axis, label: str, factor: float = 1) -> Markup:
    lines = (_line("grid", 0, 100 - axis(t), 100, 100 - axis(t)) for t in axis.ticks)
    texts = (_text("tick", 0, 100 - axis(t), label.format(factor * t), "end", dx=-8) for t in axis.ticks)
    return _join([*lines, *texts])


def _spaced_ticks(x: Axis, places: Sequence[float]) -> list[Markup]:
    """Tick labels from the right, the last of which counts most; those that would touch the one before are left out."""
    shown: list[Markup] = []
    free = math.inf
    for value in reversed(places):
        at, said = x(doubling(value, places)), quantity(value)
        half = 1.2 * len(said) + 1  # in per cent of the plot on a narrow screen
        if at + half <= free:
            shown += [_text("tick", at, 100, said, "middle", dy=20)]
            free = at - half
    return shown


def _band_and_line(line: Line, x: Axis, y: Axis, places: Sequence[float]) -> Markup:
    """Points without a value leave a gap in the line; those without an interval one in the band."""
    at = {v: x(doubling(v, places)) for v in places}
    kind = f"c{line.look % N_COLOURS}"
    marks = [(v, line.points.get(v) or Mark(math.nan, None, "")) for v in places]
    ends = [(at[v], m.ci if m.ci and all(map(math.isfinite, m.ci)) else (math.nan, math.nan)) for v, m in marks]
    low = _finite_runs([(v, ci[0]) for v, ci in ends])
    high = _finite_runs([(v, ci[1]) for v, ci in ends])
    bands = (
        _polygon(kind, [(v, 100 - y(t)) for v, t in top] + [(v, 100 - y(b)) for v, b in reversed(bottom)])
        for bottom, top in zip(low, high, strict=True)
    )
    runs = _finite_runs([(at[v], m.value) for v, m in marks])
    polylines = (_polyline(kind, [(v, 100 - y(m)) for v, m in run]) for run in runs)
    return _stretched(_join([*bands, *polylines]))


def _markers(line: Line, x: Axis, y: Axis, places: Sequence[float], factor: float) -> Markup:
    kind, shape = f"c{line.look % N_COLOURS}", SHAPES[line.look % len(SHAPES)]
    marker = Markup('<svg class="marker {}" x="{}%" y="{}%"><path d="{}"/><title>{}</title></svg>')
    parts = []
    for value, mark in line.points.items():
        if math.isfinite(mark.value):
            at = x(doubling(value, places))
            parts += [_dot(f"draw {kind}", at, 100 - y(d), 2) for d in mark.draws]
            said = f"{shorten(line.name)} at {quantity(value)}: {factor * mark.value:.4g}"
            parts += [marker.format(kind, at, _tidy(100 - y(mark.value)), shape, said)]
    return _join(parts)


def _level(y: Axis, result: Result) -> Markup:
    top, bottom = 100 - y(result.ci[1]), 100 - y(result.ci[0])
    band = Markup('<rect class="band after" x="0" width="100%" y="{}%" height="{}%"/>').format(
        _tidy(top), _tidy(bottom - top)
    )
    return band + _line("level", 0, _tidy(100 - y(result.value)), 100, _tidy(100 - y(result.value)))


def _crossing(x: Axis, y: Axis, accuracy: float, worth: float, worth_ci: Span | None) -> Markup:
    at, height = x(worth), _tidy(100 - y(accuracy))
    parts = [_line("drop", at, height, at, 100)]
    if worth_ci:
        parts += [_line("reach", x(worth_ci[0]), 100, x(worth_ci[1]), 100)]
    side, dx = ("end", -10) if at > 50 else ("start", 10)
    label = f"worth {worth:.0f} a class" if worth >= 10 else f"worth {worth:.1f} a class"
    return _join([*parts, _dot("cross", at, height, 7), _text("callout", at, 100, label, side, dx=dx, dy=-12)])


def _stretched(shapes: Markup) -> Markup:
    """Lines and areas in a 100 x 100 box that is stretched over the plot (their points cannot be percentages)."""
    return Markup('<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%">{}</svg>').format(
        shapes
    )


def _polyline(kind: str, points: Sequence[Span]) -> Markup:
    return Markup('<polyline class="line {}" points="{}"/>').format(kind, _points(points))


def _polygon(kind: str, points: Sequence[Span]) -> Markup:
    return Markup('<polygon class="band {}" points="{}"/>').format(kind, _points(points))


def _points(points: Sequence[Span]) -> str:
    return " ".join(f"{_tidy(x)},{_tidy(y)}" for x, y in points)


def _column_name(x: float, y: float, name: str) -> Markup:
    return Markup('<text transform="translate({} {}) rotate(-45)">{}</text>').format(x, y, name)


def _cell(x: float, y: float, size: int, row: Sequence[float], i: int, j: int, names: Sequence[str]) -> Markup:
    share = row[j] / max(1, sum(row))
    kind = "right" if i == j else "wrong"
    # the square root lets rare confusions be seen beside a strong diagonal
    rect = Markup(
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="3" fill-opacity="{:.3f}"><title>{}</title></rect>'
    )
    title = f"{names[i]} taken for {names[j]}: {count(row[j])} of {count(sum(row))} ({percent(share)})"
    drawn = rect.format(kind, x + 1, y + 1, size - 2, size - 2, max(0.03, math.sqrt(share)), title)
    if round(100 * share) == 0:
        return drawn
    text = Markup('<text class="value {}" x="{}" y="{}" text-anchor="middle">{:.0f}</text>')
    strong = "strong" if kind == "right" and share > 0.75 else ""
    return drawn + text.format(strong, x + size / 2, y + size / 2 + 4, 100 * share)


def _finite_runs(points: Sequence[Span]) -> list[list[Span]]:
    runs: list[list[Span]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _round_step(at_least: float) -> float:
    power = 10.0 ** math.floor(math.log10(at_least))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= at_least * (1 - 1e-9))


def _tidy(value: float) -> float:
    return round(value, 3)
