"""The page of ``tools/scale.py``, from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

#: Of commit c1ce1a3, by running a start of 300 shards of it and by reading the rest.
BEFORE = (
    "At commit c1ce1a3 a start opened the footer of every shard to look for rows that had failed (300 opens of 300 shards, .57 ms of a processor each on"
    " a disk): 400,000 opens of 400,000 shards, 25 minutes in a store that takes 30 ms, 8 at a time. The last part of a job array then read every shard whole for its checksum: at 100 MB a shard 40 TB. Today the names tell"
    " a start what is done, and closing reads a sidecar of 150 bytes for each shard that the closing process did not make itself: 60 MB."
)


def page(rows: Sequence[Row]) -> str:
    return "\n".join(
        [
            "# A run of 400,000 shards, and a thousand workers",
            "",
            "Made by `python tools/scale.py` from raw rows, each with commit and command: [scale.jsonl](scale.jsonl). The store has names and"
            " hardly a byte, and counts what it is asked; what looks at folders and hands out work is figment's own.",
            "",
            *_starts([row for row in rows if row["what"] in ("start", "close")]),
            *_clusters([row for row in rows if row["part"] == "cluster"]),
        ]
    )


def _starts(rows: Sequence[Row]) -> list[str]:
    lines = [
        "## A start, and the end",
        "",
        BEFORE,
        "",
        "| shards | what | lists, of 1,000 names | files opened | asked about | one after another at 30 ms | processor seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['shards']:,} | {'to start' if row['what'] == 'start' else 'to close'} | {row['lists']:,} | {row['reads']:,}"
            f" | {row['looks']:,} | {row['at 30 ms each']:,} s | {row['processor seconds']} |"
        )
    return [
        *lines,
        "",
        "Sixteen folders are listed and 32 sidecars are read at a time, so that a store is waited for a sixteenth and less of the seconds in the table. One"
        " footer is opened, by which a folder of other settings is known.",
        "",
    ]


def _clusters(rows: Sequence[Row]) -> list[str]:
    lines = [
        "## A thousand workers",
        "",
        f"{rows[0]['workers']:,} workers, simulated, on a clock of its own: a shard takes 5 to 15 minutes, a worker a minute to start, a run is stopped half way and started again. *Everything at"
        " once*: 1 % of shards lose their worker, 2 % their machine, .5 % fail once; 2 % of places are ten times as slow; on one machine of eight workers"
        " everything fails within seconds; two shards fail wherever they are tried; the store takes 1.6 writes a second and says SlowDown to the rest.",
        "",
        "| weather | shards | half | given out | workers hired | died | machines left | failed | told to slow down | simulated hours | times those without any loss | lists to start |"
        " opened to start |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    ends = []
    for row in rows:
        if row["what"] == "sum":
            ends.append(
                f"- {row['case']}: of {row['shards']:,} shards {row['made once']:,} were made once, {row['lost']:,} not,"
                f" {row['doubled']:,} twice."
            )
            continue
        lines.append(
            f"| {row['case']} | {row['shards']:,} | {'first' if row['what'] == 'half' else 'second'} | {row['given']:,} | {row['hired']:,} | {row['lost']:,}"
            f" | {row['gone']:,} | {row['failed']:,} | {row['throttled']:,} | {row['simulated hours']:,} | {row['times the ideal']}"
            f" | {row['start: lists']:,} | {row['start: reads']:,} |"
        )
        if row["said"]:
            ends.append(f"- {row['case']}, said at the end: {row['said']}")
    return [*lines, "", *ends, ""]
