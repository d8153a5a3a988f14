"""A whole table of runs: the recipe with every row's and every column's changes, beside the numbers a paper printed.

Each cell is a run a seed, and runs that ask for the same images share them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from figment import claims, files, guard, layout, measures, records
from figment.context import Context
from figment.engines import Engine
from figment.errors import FigmentError, nearest
from figment.evaluate.accuracy import interval, paired_difference
from figment.evaluate.grouped import variance_of_mean
from figment.layout import Run, Study, folder_name
from figment.learners.clip_head.baseline_names import BASELINES
from figment.measures.measure import OLD_METRICS
from figment.plugins import permission
from figment.recipe import Recipe
from figment.recipe.table import RIVALS, Table
from figment.records import Record, Written
from figment.report.answers import OWN
from figment.report.charts import Dot
from figment.report.results import Answers, answers_of
from figment.report.table import Answer, Cell, Compared, Ordering, Printed, TablePage, conclusion, markdown, write
from figment.run import run_recipe
from figment.stages.plans import images_key
from figment.stages.results import write_resolved
from figment.studies import correlation, reference, scaling, sweep
from figment.studies.measured import Measured, Place
from figment.studies.phases import first_phase, second_phase, together
from figment.types import Result
from figment.words import printable

log = logging.getLogger(__name__)

TOP1 = "top1/"
CHOSEN_ON_TEST = (
    "The epoch was chosen on the test images (train.select: test_best), as some papers' programs do: the number is too good, and not"
    " to be compared with one whose epoch was chosen without them."
)


@dataclass(frozen=True)
class Group:
    """Cells that are one and the same run, of which they show different metrics."""

    name: str
    recipe: Recipe
    cells: dict[tuple[str, str], str]  # (row, column) -> metric


#: A run: its cells, its seed and its recipe.
Todo = tuple[Group, int, Recipe]


def run_table(
    recipe: Recipe,
    out: Path | str,
    engine: Engine | None = None,
    command: str = "",
    *,
    allow_plugins: bool = False,
) -> TablePage:
    """Run what is missing of ``recipe.table`` in ``out``, and write ``report.html``, ``table.md`` and ``table.json`` there.

    The same call again finishes what was interrupted. ``allow_plugins`` lets code run that the recipe names. Raises FigmentError,
    before anything is spent, for a row or column whose settings do not hold.
    """
    out = files.as_path(out)
    started = time.monotonic()
    for run in Study(out).runs():
        layout.check_not_of_old(run)
    with claims.held(out, root=out):
        runs = _Runs(recipe, out, engine, allow_plugins)
        first = first_phase(recipe)
        runs.make(first, then=second_phase(recipe))
        second = second_phase(recipe, runs.cells)
        if second is not None:
            runs.make(second)
        page = _page(recipe, together(first, second), runs.cells, command, time.monotonic() - started)
        write_table(page, out, runs.todo, _best(recipe, page, second, runs.cells))
    return page


class _Runs:
    """The runs of a table so far, and what they measured."""

    def __init__(self, recipe: Recipe, out: Path, engine: Engine | None, allow_plugins: bool) -> None:
        self.recipe, self.out, self.engine, self.allow_plugins = recipe, out, engine, allow_plugins
        self.todo: list[Todo] = []
        self.found: dict[Place, list[tuple[Result, Answers, float | None]]] = {}

    def make(self, table: Table, then: Table | None = None) -> None:
        """Run what is missing of a phase. Raises FigmentError, before anything of it is spent, for what would be refused in it, or
        (as far as can be told) ``then``, in the next one."""
        new = _of_other_cells(runs_of(self.recipe, table), self.found.keys())
        later = [] if then is None else runs_of(self.recipe, then)
        check_plugins([*new, *later], self.allow_plugins)
        _check_folder(self.out, {images_key(own) for _, _, own in [*self.todo, *new]})
        for number, (group, seed, own) in enumerate([*new, *later], start=len(self.todo)):
            folder, made = _folders(self.out, number // table.seeds, group, seed, own)
            if seed == self.recipe.seed and records.read(folder).state != "finished":
                _check_group(group, Context(own, Run(folder, made, self.out), allow_plugins=self.allow_plugins))
        write_resolved(self.recipe, Run(self.out))
        n = len(self.todo) + len(new)
        for one in new:
            self._run(*one, f"[{len(self.todo) + 1}/{n}] ")

    def _run(self, group: Group, seed: int, own: Recipe, place: str) -> None:
        log.info(f"{place}{printable(group.name)}, seed {seed}", extra={"heading": True})
        seeds = first_phase(self.recipe).seeds
        folder, made = _folders(self.out, len(self.todo) // seeds, group, seed, own)
        outcome = run_recipe(
            own, folder, engine=self.engine, made=made, root=self.out, reported=False, allow_plugins=self.allow_plugins
        )
        for cell, metric in group.cells.items():
            if metric not in outcome.results:
                known = ", ".join(outcome.results)
                raise FigmentError(f"The table wants {metric!r} of {' / '.join(cell)}, and the run measured: {known}.")
            one = outcome.results[metric], answers_of(folder, metric), _seconds_an_image(made)
            self.found.setdefault(cell, []).append(one)
        self.todo.append((group, seed, own))

    @property
    def cells(self) -> dict[Place, Measured]:
        """What was measured, by row and column."""
        runs = {(cell, metric): own for group, _, own in self.todo for cell, metric in group.cells.items()}
        chosen = {cell for (cell, metric), own in runs.items() if _chosen_on_test(own, metric)}
        tasks = {cell: _task_of(own) for (cell, _), own in runs.items()}
        notes = dict.fromkeys(chosen, CHOSEN_ON_TEST)
        images = {cell: own.generate.images_per_class * own.n_labels for (cell, _), own in runs.items()}
        return {
            cell: replace(_measured(found, tasks[cell], notes.get(cell, "")), images=images[cell])
            for cell, found in self.found.items()
        }


def _seconds_an_image(made: Path) -> float | None:
    """What an image of a set took to generate, when the last of them were made; None where that is not known."""
    told = records.read(Run(made).images).data
    return told["seconds"] / told["rows_made"] if told.get("rows_made") else None


def write_table(page: TablePage, out: Path, todo: Sequence[Todo], best: Recipe | None = None) -> None:
    """The page, the Markdown and the data of a table, the recipe that a sweep found best, and the record that vouches for them."""
    study, run = Study(out), Run(out)
    if best is not None:
        files.write_atomic(study.best, best.to_yaml().encode())
    files.write_atomic(study.table_md, markdown(page).encode())
    files.write_json(study.table_json, _as_json(page))
    write_page(page, out)
    recipes = [[group.name, seed, own.model_dump(mode="json")] for group, seed, own in todo]
    record = Record(
        out,
        "table",
        {"title": page.title, "rows": page.rows, "columns": page.columns},
        {"runs": records.fingerprint(recipes)},
    )
    own = [run.resolved, study.table_md, study.table_json, run.report, *([study.best] if best is not None else [])]
    counts = {"runs": len(todo), "results": len(page.cells)}
    written = {path.name: Written.of(files.read_bytes(path)) for path in own}
    record.finish(written, counts=counts, cells=_cell_names(out, todo, page.seeds))


def write_page(page: TablePage, out: Path) -> None:
    """Write ``report.html`` of a table, perhaps once more."""
    write(page, Run(out).report)
    records.vouch(out, [Run(out).report.name])


# ---- what there is to run --------------------------------------------------------------------------------------------


def table_runs(recipe: Recipe) -> list[Todo]:
    """Every run: its cells, its seed and its recipe; of a sweep's second phase those that come if the recipe's own settings are the
    best. Raises FigmentError, naming the cell, for settings that do not hold."""
    first, second = first_phase(recipe), second_phase(recipe)
    runs = runs_of(recipe, first)
    known = {cell for group, _, _ in runs for cell in group.cells}
    return runs if second is None else [*runs, *_of_other_cells(runs_of(recipe, second), known)]


def runs_of(recipe: Recipe, table: Table) -> list[Todo]:
    """Those of one phase."""
    seeds = range(recipe.seed, recipe.seed + table.seeds)
    groups = _groups(recipe, table)
    return [(g, seed, g.recipe.changed({"seed": seed}, "the table's last seed")) for g in groups for seed in seeds]


def _of_other_cells(runs: Iterable[Todo], known: Set[Place]) -> list[Todo]:
    """What is left to run for cells that are not ``known``: a second phase shows some cells of the first one again."""
    left = []
    for group, seed, own in runs:
        cells = {cell: metric for cell, metric in group.cells.items() if cell not in known}
        left += [(replace(group, cells=cells), seed, own)] if cells else []
    return left


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def check_plugins(todo: Sequence[Todo], allowed: bool) -> None:
    """Those of all cells at once, before the first one costs anything."""
    permission.check((kind for _, _, own in todo for kind in own.plugins), allowed)


def _groups(recipe: Recipe, table: Table) -> list[Group]:
    """The cells by the run they are of. A run measures what its cells show, and nothing else."""
    cells: dict[str, dict[tuple[str, str], str]] = {}
    resolved: dict[str, Recipe] = {}
    for row in table.rows:
        for column in table.columns:
            changes = table.changes(row, column)
            metric = str(changes.pop("metric", table.metric))
            metric = OLD_METRICS.get(metric, metric)
            where = f"the cell {row[:60]!r} / {column[:60]!r}"
            own = recipe.changed({"table": None, **changes}, where)
            _check_metric(metric, own.changed(measures.settings_for({metric}), where), where)
            key = records.fingerprint(own.model_dump(mode="json"))
            cells.setdefault(key, {})[row, column] = metric
            if table.rivals and metric == OWN:
                there = measures.metrics(own.changed(measures.settings_for(set(RIVALS)), where))
                cells[key] |= {(of.format(row), column): rival for rival, of in RIVALS.items() if rival in there}
            resolved[key] = own
    groups = []
    for key, own_cells in cells.items():
        name = " / ".join(next(iter(own_cells)))
        own = resolved[key].changed(
            {"name": name[:200], **measures.settings_for(set(own_cells.values()))}, f"the cell {name[:120]!r}"
        )
        groups.append(Group(name, own, own_cells))
    return groups


def _check_metric(metric: str, own: Recipe, where: str) -> None:
    """Raise FigmentError for a metric that the cell's run would not have."""
    if metric in measures.metrics(own):
        return
    known = measures.possible(own)
    lacking = [f"task.real.{split}" for split in ("train", "test") if split not in own.task.real.places]
    lacking += ["few_shot"] * (own.few_shot is None)
    hint = f" Some need {', '.join(lacking)}, which the cell has not." if lacking else ""
    raise FigmentError(
        f"The table wants {metric[:60]!r} of {where}, and that is not measured.{nearest(metric, known)} What can be"
        f" measured: {', '.join(known)}.{hint}"
    )


def _check_group(group: Group, ctx: Context) -> None:
    """Find out before any run of the table what would be refused in this one. Raises FigmentError, naming the cell."""
    try:
        ctx.check()
    except FigmentError as error:
        raise FigmentError(f"The cell {group.name[:120]!r}: {error}") from error
    train = ctx.given.get("train")
    most = 0 if train is None else int(np.bincount(train.labels).min())
    for metric in group.cells.values():
        shots = metric.removeprefix(f"{TOP1}real_")
        if shots.isdigit() and int(shots) > most:
            raise FigmentError(
                f"The cell {group.name[:120]!r} shows {metric!r}, and the smallest class in task.real.train has {most} images."
            )


def _check_folder(out: Path, images: set[str]) -> None:
    """Raise FigmentError where a folder holds a run, or a table of which none of the ``images`` are."""
    if not Study(out).is_table and (out / "prompts").is_dir():
        raise FigmentError(f"{out} holds a single run, and this recipe has a table. Choose another folder with --out.")
    there = {p.name for p in layout.subfolders(Study(out).sets) if layout.shard_files(Run(p).images)}
    if there and not there & images:
        raise FigmentError(
            f"{out} holds a table of other images than this recipe asks for: its task, prompts, generator or seed is another."
            " Choose another folder with --out, or remove that one."
        )


def _folders(out: Path, number: int, group: Group, seed: int, own: Recipe) -> tuple[Path, Path]:
    """Where a run goes, and where the images are that it shares."""
    study = Study(out)
    return study.cells / folder_name(number, group.name) / f"seed-{seed}", study.sets / images_key(own)


def _cell_names(out: Path, todo: Sequence[Todo], seeds: int) -> list[str]:
    """Where the runs of a table lie, for its record: else a lost one could not be missed."""
    folders = (_folders(out, number // seeds, *one)[0] for number, one in enumerate(todo))
    return [folder.relative_to(out).as_posix() for folder in folders]


# ---- what came of it -------------------------------------------------------------------------------------------------


def _task_of(recipe: Recipe) -> str:
    """The same for recipes that are asked the same question: the classes, and where the test images are."""
    return records.fingerprint([recipe.task.class_names, recipe.task.real.places.get("test")])


def _chosen_on_test(own: Recipe, metric: str) -> bool:
    """Whether what a cell shows was trained with the recipe's settings, and they keep the epoch that is best on the test images.

    A CLIP head keeps the last epoch where it learns from real images alone, as for the exchange rate.
    """
    kind, _, of = metric.partition("/")
    of_curve = metric == "exchange_rate" or of.removeprefix("real_").isdigit()
    to_the_end = own.train.kind == "clip_head" and (of_curve or of in ("real_only", "real_all"))
    others = of in ("zero_shot", "bias_removed", "images_only", "frozen", *BASELINES)
    trained = metric == "worth" or of_curve or kind in ("top1", "top5", "gain")
    return own.train.select == "test_best" and trained and not (others or to_the_end)


def _measured(runs: list[tuple[Result, Answers, float | None]], task: str, note: str = "") -> Measured:
    right = [one.right for _, one, _ in runs if one.right is not None]
    every = np.stack(right) if len(right) == len(runs) else None
    seconds = _mean([one for _, _, one in runs if one is not None])
    return Measured([result for result, _, _ in runs], every, task, runs[0][1].groups, note, seconds)


def _cell(cell: Measured) -> Cell:
    values = np.array([r.value for r in cell.results])
    n = cell.results[0].n
    if measures.known(cell.results[0].metric).unit == "share" and cell.groups is None:
        ci = interval(values, n)
    elif cell.groups is not None and cell.right is not None:
        ci = interval(values, n, variance_of_mean(cell.right.mean(0), cell.groups))
    elif cell.groups is not None:  # each seed's own knows of them: what they cover together errs on the wide side
        ci = (min(r.ci[0] for r in cell.results), max(r.ci[1] for r in cell.results))
    elif len(values) == 1:
        ci = cell.results[0].ci
    else:
        half = stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values))
        ci = (float(values.mean() - half), float(values.mean() + half))
    return Cell(float(values.mean()), ci, tuple(values.tolist()), n, cell.note)


def _page(recipe: Recipe, table: Table, cells: dict[Place, Measured], command: str, seconds: float) -> TablePage:
    shown = {place: _cell(cell) for place, cell in cells.items()}
    plain = frozenset(
        column for (_, column), cell in cells.items() if not measures.known(cell.results[0].metric).is_share
    )
    caption = "One seed. 95 % intervals, over the test images alone."
    if table.seeds > 1:
        caption = f"{table.seeds} seeds a cell: other images, other shots, another training. 95 % intervals."
    if any(cell.note == CHOSEN_ON_TEST for cell in cells.values()):
        caption += " Some epochs were chosen on the test images: see below the table."
    grouped = next((cell for cell in cells.values() if cell.groups is not None), None)
    if grouped is not None and grouped.groups is not None:
        caption += f" {len(grouped.groups):,} test images in {len(np.unique(grouped.groups)):,} groups."
    return TablePage(
        title=table.title,
        caption=caption,
        row_header="",
        rows=[name for row in table.rows for name in (row, *_rows_of_rivals(row, cells))],
        columns=list(table.columns),
        cells=shown,
        printed=[Printed(row, values) for row, values in table.printed.items()],
        unit="plain" if plain == set(table.columns) else "percent",
        plain=plain,
        lower_is_better=_lower_is_better(table, cells),
        orderings=list(_orderings(table, cells)),
        notes=[*table.notes, *_learners(cells), *_correlated(table, cells)],
        seeds=table.seeds,
        settings=recipe.to_yaml(),
        command=command,
        seconds=seconds,
        source=table.source,
        chart=table.chart or table.scaling is not None,
        answer=_answer(table, cells, shown, len(recipe.task.class_names)),
        compared=[] if table.reference is None else reference.compared(table, cells),
    )


def _answer(table: Table, cells: dict[Place, Measured], shown: dict[Place, Cell], classes: int) -> Answer | None:
    """What a study says ahead of its numbers."""
    if table.scaling is not None:
        return scaling.answer(table, cells, classes)
    if table.sweep is not None:
        return sweep.answer(table.rows, cells, shown)
    return None if table.reference is None else reference.answer(table, cells, shown)


def _correlated(table: Table, cells: dict[Place, Measured]) -> list[str]:
    """A sweep says it in its answer."""
    said = "" if table.sweep is not None else correlation.of_table(table, cells)
    return [said] if said else []


def _best(recipe: Recipe, page: TablePage, second: Table | None, cells: dict[Place, Measured]) -> Recipe | None:
    """The recipe with the settings that a sweep found best, to be run as it is."""
    if second is None:
        return None
    changes = second.rows[sweep.best_of(second.rows, cells)]
    return recipe.changed(
        {**changes, "table": None, "name": f"{recipe.name[:160]}, best settings"}, "the best settings"
    )


def _learners(cells: dict[Place, Measured]) -> list[str]:
    """How networks were trained, so that scores of another generator can be compared with these, and what cannot."""
    of = {
        (r.details["architecture"], r.details["learner"][:12])
        for cell in cells.values()
        for r in cell.results
        if "architecture" in r.details and "learner" in r.details
    }
    if not of:
        return []
    named = "; ".join(f"{name} {key}" for name, key in sorted(of))
    return [
        f"Training recipes, by their fingerprints: {named}. Scores of two generators compare where these, the test images and the"
        " numbers of images are the same."
    ]


def _rows_of_rivals(row: str, cells: dict[tuple[str, str], Measured]) -> list[str]:
    there = {name for name, _ in cells}
    return [name for name in (of.format(row) for of in RIVALS.values()) if name in there]


def _lower_is_better(table: Table, cells: dict[tuple[str, str], Measured]) -> frozenset[str]:
    """The columns in which less is better: by what they show, or because the recipe says so."""
    of_column: dict[str, list[bool]] = {}
    for (_, column), cell in cells.items():
        of_column.setdefault(column, []).append(measures.known(cell.results[0].metric).lower_is_better)
    return frozenset(table.lower_is_better) | {column for column, lower in of_column.items() if all(lower)}


def _orderings(table: Table, cells: dict[tuple[str, str], Measured]) -> Iterator[Ordering]:
    """Every order of two cells, of one row or of one column, that the printed numbers agree on, and what became of it."""
    # Where a paper prints rows that are run, the others of ours have no counterpart in it.
    run_and_printed = table.printed.keys() & table.rows.keys()
    lower = _lower_is_better(table, cells)
    for row in table.rows:
        own = [row] if row in table.printed else [] if run_and_printed else list(table.printed)
        for a, b in combinations(table.columns, 2):
            less = [column in lower for column in (a, b)]
            there = (row, a) in cells and (row, b) in cells
            if there and less[0] == less[1] and _comparable(cells[row, a], cells[row, b]):
                differences = [
                    table.printed[r][b] - table.printed[r][a] for r in own if {a, b} <= table.printed[r].keys()
                ]
                sign = -1 if less[0] else 1
                yield from _ordering("columns", row, a, b, differences, cells[row, a], cells[row, b], sign)
    for column in table.columns:
        sign = -1 if column in lower else 1
        for a, b in combinations(table.rows, 2):
            both = [table.printed.get(row, {}).get(column) for row in (a, b)]
            there = (a, column) in cells and (b, column) in cells
            if there and None not in both and _comparable(cells[a, column], cells[b, column]):
                differences = [both[1] - both[0]]  # type: ignore[operator]
                yield from _ordering("rows", column, a, b, differences, cells[a, column], cells[b, column], sign)


def _comparable(a: Measured, b: Measured) -> bool:
    kinds = [cell.results[0].metric for cell in (a, b)]
    return a.task == b.task and (kinds[0] == kinds[1] or all(kind.startswith(TOP1) for kind in kinds))


def _ordering(
    axis: Any, at: str, a: str, b: str, printed: list[float], cell_a: Measured, cell_b: Measured, sign: int
) -> Iterator[Ordering]:
    """None where the printed numbers do not agree on the order."""
    if not printed or not (all(d * sign > 0 for d in printed) or all(d * sign < 0 for d in printed)):
        return
    if printed[0] * sign < 0:
        a, b, cell_a, cell_b = b, a, cell_b, cell_a
    value, ci = _difference(cell_a, cell_b, sign)
    state: Any = "holds" if ci[0] > 0 else "reversed" if ci[1] < 0 else "undecided"
    yield Ordering(axis, at, b, a, abs(float(np.mean(printed))), value, ci, state)


def _difference(a: Measured, b: Measured, sign: int) -> tuple[float, tuple[float, float]]:
    """By how much b is better than a, seed by seed, with its 95 % interval."""
    if a.right is not None and b.right is not None:
        groups = b.groups if a.groups is None else a.groups
        paired = paired_difference(*((a.right, b.right) if sign > 0 else (b.right, a.right)), groups=groups)
        return paired.value, paired.ci
    d = sign * np.array([y.value - x.value for x, y in zip(a.results, b.results, strict=True)])
    if len(d) == 1:
        return float(d[0]), (-np.inf, np.inf)
    half = stdtrit(len(d) - 1, 0.975) * d.std(ddof=1) / np.sqrt(len(d))
    return float(d.mean()), (float(d.mean() - half), float(d.mean() + half))


def _as_json(page: TablePage) -> dict[str, Any]:
    """Everything on the page, and its conclusion in words."""
    own = {f.name: getattr(page, f.name) for f in fields(page)}
    cells = [{"row": row, "column": column, **asdict(cell)} for (row, column), cell in page.cells.items()]
    return {
        **own,
        "cells": cells,
        "printed": [{"row": p.row, "values": dict(p.values)} for p in page.printed],
        "orderings": [asdict(o) for o in page.orderings],
        "answer": None if page.answer is None else asdict(page.answer),
        "compared": [asdict(c) for c in page.compared],
        "plain": sorted(page.plain),
        "lower_is_better": sorted(page.lower_is_better),
        "conclusion": conclusion(page),
    }


def read_table(folder: Path) -> TablePage:
    """The page of a table that was run in ``folder``, as :func:`run_table` returned it. Raises FigmentError without one."""
    path = Study(folder).table_json
    if not path.is_file():
        raise FigmentError(f"{folder} holds no finished table. Run its recipe again to finish it: figment run {folder}")
    try:
        return _page_of(guard.parse_json(records.vouched(folder, path.name), path, "record"))
    except (FigmentError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FigmentError(
            f"{path} is damaged. Write it again, from the finished runs: figment run {folder}"
        ) from error


def _page_of(own: dict[str, Any]) -> TablePage:
    cells = {(c.pop("row"), c.pop("column")): c for c in own["cells"]}
    del own["conclusion"]
    return TablePage(
        **{
            **own,
            "cells": {
                place: Cell(**{**c, "ci": tuple(c["ci"]), "per_seed": tuple(c["per_seed"])})
                for place, c in cells.items()
            },
            "answer": _answer_of(own.get("answer")),
            "compared": [Compared(**{**c, "ci": tuple(c["ci"])}) for c in own.get("compared", [])],
            "printed": [Printed(**p) for p in own["printed"]],
            "orderings": [Ordering(**{**o, "ci": tuple(o["ci"])}) for o in own["orderings"]],
            "plain": frozenset(own["plain"]),
            "lower_is_better": frozenset(own["lower_is_better"]),
        }
    )


def _answer_of(own: dict[str, Any] | None) -> Answer | None:
    if own is None:
        return None
    dots = tuple(Dot(**{**d, "x_ci": tuple(d["x_ci"]), "y_ci": tuple(d["y_ci"])}) for d in own["dots"])
    return Answer(**{**own, "sentences": tuple(own["sentences"]), "axes": tuple(own["axes"]), "dots": dots})
