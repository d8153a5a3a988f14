"""What backbones are good for, on one page: every number that was judged so far, how, and why others are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from figment.recipe.recipe import as_yaml
from figment.report import table

Told = Mapping[str, Any]  # one of the results of judge.json


def write(results: Sequence[Told], path: Path) -> None:
    """Render to ``path``; see `as_table`."""
    table.write(as_table(results), path)


def as_table(results: Sequence[Told]) -> table.TablePage:
    """A row a number and data set, a column a backbone. ``results`` are those of ``judge.json``, failures among them."""
    done, failed = ([one for one in results if ("failed" in one) == wanted] for wanted in (False, True))
    names = _names(results)
    cells = {
        (row, names[one["backbone"]["fingerprint"]]): table.Cell(value, ci, n=one["numbers"]["n"])
        for one in done
        for row, value, ci in _rows(one)
    }
    asked = list(dict.fromkeys(one["evaluation"] for one in results))
    of_each = {one["evaluation"]: one for one in results}
    reasons = [f"{names[one['backbone']['fingerprint']]}, {_asked(one)}: {one['failed']}" for one in failed]
    return table.TablePage(
        title="What a backbone is good for",
        caption="Backbones beside one another, each row on the same test images with the same settings: differences between columns count,"
        " those between rows are of other questions.",
        row_header="judged by, on",
        compares="columns",
        rows=list(dict.fromkeys(row for one in done for row, _, _ in _rows(one))),
        columns=list(names.values()),
        cells=cells,
        notes=[
            *(f"Not there: {reason}" for reason in reasons),
            *(f"{name}: {of_each[name]['protocol']} ({of_each[name]['paper']})." for name in asked),
            "Numbers without an interval are means over classes or groups, or are themselves the best or the worst of several.",
        ],
        seconds=sum(one["seconds"] for one in done),
        settings=as_yaml(_settings(results, names)),
        answer=table.Answer("What is it good for?", _headline(done, names), tuple(reasons), "not-measured"),
    )


def _names(results: Sequence[Told]) -> dict[str, str]:
    """Fingerprint -> name of each backbone; two of one name, such as a run's before and after, have their fingerprints beside."""
    named = {one["backbone"]["fingerprint"]: str(one["backbone"]["name"]) for one in results}
    several = list(named.values())
    return {own: name if several.count(name) == 1 else f"{name} ({own[:6]})" for own, name in named.items()}


def _rows(one: Told) -> Iterator[tuple[str, float, tuple[float, float] | None]]:
    """The row, value and interval of each number of one evaluation."""
    numbers = one["numbers"]
    for name, value in numbers["values"].items():
        ci = numbers["ci"].get(name)
        yield f"{one['evaluation']}, {name}{_where(one)}", value, None if ci is None else (ci[0], ci[1])


def _asked(one: Told) -> str:
    return f"{one['evaluation']}{_where(one)}"


def _where(one: Told) -> str:
    """What else tells one row from another: settings other than the published ones, the seed, the data set."""
    return f"{otherwise(one)}: {one['on']}"


def otherwise(one: Told) -> str:
    """`` (k=1, seed 3)``: what of an evaluation is not as published, if anything."""
    changed = [f"{name}={value}" for name, value in one["changed"].items()]
    changed += [f"seed {one['seed']}"] * bool(one["seed"])
    return f" ({', '.join(changed)})" if changed else ""


def _headline(done: Sequence[Told], names: Mapping[str, str]) -> str:
    n, backbones = len(done), len(names)
    return f"{n} evaluation{'s' * (n != 1)} of {backbones} backbone{'s' * (backbones != 1)}"


def _settings(results: Sequence[Told], names: Mapping[str, str]) -> dict[str, Any]:
    backbones = {names[one["backbone"]["fingerprint"]]: dict(one["backbone"]) for one in results}
    return {"backbones": backbones, "evaluations": {_asked(one): dict(one["settings"]) for one in results}}
