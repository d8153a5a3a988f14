"""The page of a storm, from its rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

#: Files of which a flip is unseen by whoever only reads, each with the reason; the first that fits counts.
UNREAD = {
    r"report\.html$": "nothing reads the page; report writes it anew",
    r"results\.csv$": "a copy of the numbers for spreadsheets; figment reads results.jsonl",
    r"table\.md$": "a copy of the numbers; figment reads table.json",
    r"README\.md$": "the card of the images, for readers elsewhere",
    r"^cells/": "a table's page is made from table.json; the same command reads its cells, and compares their checksums",
    r"predictions\.parquet$": "what each test image was taken for; the page's numbers are in results.jsonl",
    r"shots\.json$": "which real images were learnt from; read where they are learnt from again",
    r"resolved\.yaml$": "of a table or a set: read where something of it is made again",
    r"shared\.json$": "where shared images are",
    r"(^|/)prompts/": "read where images are made; images have their own prompts beside them",
    r"(^|/)model/": "read by whoever predicts with it; the page's numbers are in results.jsonl",
    r"^features/|^trainings/": "a cache: compared with its checksum before it is used",
    r"^finetune/": "read where images are made",
    r"scores/stage\.json$": "the order of the filters, which their folders tell too",
    r"(^|/)images/": "read where images are made, exported or learnt from, and compared then; the page shows some of the pixels",
}


def page(rows: Sequence[Row]) -> str:
    return "\n".join(
        [
            "# What kills and flipped bytes do",
            "",
            "Made by `python tools/storm.py` from raw rows, each with commit and command: [storm.jsonl](storm.jsonl). Models are tiny and"
            " real; whole runs, few-shot runs, fine-tunings and tables take seconds each.",
            "",
            *_kills([row for row in rows if row["part"] == "kills"]),
            *_flips([row for row in rows if row["part"] == "flips"]),
        ]
    )


def _kills(rows: Sequence[Row]) -> list[str]:
    lines = [
        "## Kills",
        "",
        "`kill -9` at moments spread evenly over a run, of the run itself or of one of its two workers; then the same command again. Every"
        " run that was finished is compared, file by file, with one that nobody disturbed.",
        "",
        "| engine, run | kills | of workers | runs finished | rows | lost | doubled | files that differ | found by verify | dead ends |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    total: Counter[str] = Counter()
    for case in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == case]
        done = [row for row in own if row.get("finished")]
        counts = Counter(
            {
                "kills": sum("killed" in row for row in own),
                "of workers": sum(row.get("killed") == "worker" for row in own),
                "finished": len(done),
                "rows": sum(row["rows"] for row in done),
                "lost": sum(row["lost"] for row in done),
                "doubled": sum(row["doubled"] for row in done),
                "other": sum(len(row["other"]) for row in done),
                "found": sum(len(row["found"]) for row in done),
                "dead ends": sum("dead end" in row for row in own),
            }
        )
        total.update(counts)
        lines.append(_line(case, counts))
    return [*lines, _line("**all**", total), ""]


def _line(name: str, counts: Counter[str]) -> str:
    columns = ("kills", "of workers", "finished", "rows", "lost", "doubled", "other", "found", "dead ends")
    return f"| {name} | {' | '.join(f'{counts[c]:,}' for c in columns)} |"


def _flips(rows: Sequence[Row]) -> list[str]:
    silent = [row for row in rows if row["read"] == "another" and not row["verify"]]
    unseen = [row for row in rows if not row["verify"]]
    mended = Counter(str(row["mended"]).partition(":")[0] for row in rows if "mended" in row)
    lines = [
        "## Flipped bits",
        "",
        f"{len(rows):,} single bits, the kinds of files in turn, in finished folders. Tracebacks: {sum(row['traceback'] for row in rows)}."
        f" Numbers or words shown by `status` and `report` that changed without a word: {sum(row['read'] == 'another' for row in rows)},"
        f" and of those unseen by `verify` too: {len(silent)}. Flips that `verify` did not find: {len(unseen)}."
        f" Mended, of every tenth: {', '.join(f'{how} {n}' for how, n in mended.most_common()) or 'none tried'}.",
        "",
        "| file | flips | found by verify | refused or told by status or report | shown as before | shown otherwise | why reading does not see it |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in sorted({row["kind"] for row in rows}):
        own = [row for row in rows if row["kind"] == kind]
        read = Counter(row["read"] for row in own)
        why = (
            next((said for pattern, said in UNREAD.items() if re.search(pattern, kind)), "") if read["the same"] else ""
        )
        seen = sum(row["verify"] for row in own)
        lines.append(
            f"| `{kind}` | {len(own)} | {seen} | {read['refused'] + read['told']} | {read['the same']} | {read['another']} | {why} |"
        )
    return [*lines, ""]
