"""Models to numbers: ``results.jsonl`` and the rest of what lies in a run's own folder, whose record is the run's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from figment import files, machine, measures, records
from figment.layout import Run
from figment.measures.trial import Trial
from figment.records import Record, Written
from figment.report.csv import write_results
from figment.report.results import is_result, read_results, result_lines
from figment.shots import write_split
from figment.stages.model import ModelStage, shown
from figment.stages.stage import Look, Stage, StageStatus
from figment.types import Images, Result

if TYPE_CHECKING:
    from figment.context import Context


class Results(Stage):
    """Numbers of earlier settings stay in ``results.jsonl``, with the fingerprint of their run."""

    name = "results"
    of = ("run", "table")

    def folders(self, run: Run) -> list[Path]:
        return [run.folder]

    def record(self, ctx: Context) -> Record:
        recipe, splits = ctx.recipe, measures.splits_needed(ctx.recipe)
        settings = {
            "evaluate": recipe.evaluate.model_dump(mode="json"),
            "task": recipe.task.model_dump(mode="json", exclude={"real", "name"}),
        }
        inputs = {"model": ModelStage().record(ctx).fingerprint}
        for split in sorted(splits & set(ctx.given)):
            images = ctx.readable(split)
            inputs[split] = "" if images is None else shown(images)
        if ctx.unreadable:  # what was left out is told with the results
            inputs["unreadable"] = records.fingerprint(ctx.unreadable)
        return Record(ctx.run.folder, "run", settings, inputs)

    def run(self, ctx: Context) -> None:
        record = self.record(ctx)
        found = records.read(record.folder)
        if found.state == "finished" and found.data["fingerprint"] == record.fingerprint and not _lost(ctx.run):
            _vouch_for_recipe(ctx.run)
            return
        started = machine.Meter()
        record.forget()
        measured = measures.take(trial(ctx))
        results = [replace(r, fingerprint=record.fingerprint) for r in measured.results]
        _append_results(ctx.run, results)
        test = ctx.readable("test")
        if test is not None:
            files.write_atomic(ctx.run.folder / "predictions.parquet", _predictions(test, measured.predictions))
        write_results({r.metric: r for r in results}, ctx.run.results_csv)
        record.finish(
            _written(ctx.run), unreadable=ctx.unreadable, counts={"results": len(results)}, **started.record()
        )

    # ---- from the disk alone -----------------------------------------------------------------------------------------

    def status(self, run: Run) -> list[StageStatus]:
        found = records.read(run.folder)
        if found.state == "finished":
            return [StageStatus("results", "done", f"{found.data.get('counts', {}).get('results', 0)} numbers")]
        if records.read(run.model).state == "old":
            return [StageStatus("results", "done", f"{len(result_lines(run.folder))} lines (of an older figment)")]
        return [StageStatus("results", "to do", "")]

    def verify(self, look: Look) -> None:
        run = look.run
        if look.old:
            look.known |= {run.results, run.predictions, run.report, run.recipe, run.shots}
        else:
            found = look.record(run.folder)
            if found.state == "finished":
                look.checked(run.folder, "the recipe and the measured numbers")
        for number, line in enumerate(result_lines(run.folder), 1):
            if not is_result(line):
                look.add("broken", run.results, f"line {number} cannot be read", remedy="" if look.old else "repair")

    def repair(self, ctx: Context, look: Look) -> Iterator[str]:
        if ctx.run.kind == "table":
            (ctx.run.folder / records.NAME).unlink(missing_ok=True)
            yield f"the table is damaged; it is written again, from its finished cells, by: figment run {ctx.run.folder}"
            return
        lines = result_lines(ctx.run.folder)
        if not all(is_result(line) for line in lines):
            good = "".join(f"{line}\n" for line in lines if line.strip() and is_result(line))
            files.write_atomic(ctx.run.results, good.encode())
            yield "results.jsonl: took out the lines that cannot be read"
        (ctx.run.folder / records.NAME).unlink(missing_ok=True)
        publish(ctx)
        self.run(ctx)
        yield "results: measured again"


# ---- what there is to measure ----------------------------------------------------------------------------------------


def trial(ctx: Context) -> Trial:
    """What measures may ask for."""
    return Trial(
        recipe=ctx.recipe,
        learner=ctx.learner,
        models=lambda: ctx.models,
        facts=records.read(ctx.run.model).data.get("facts", {}),
        kept=ctx.kept,
        test=ctx.readable("test"),
        train=ctx.readable("train") if "train" in measures.splits_needed(ctx.recipe) else None,
        shots=ctx.shots,
        features=ctx.features,
        remember=remember_in(ctx.run.trainings),
    )


def remember_in(folder: Path) -> Callable[[Any, Callable[[], np.ndarray]], np.ndarray]:
    """What trainings that are the same in two runs of a study predict, is worked out once."""

    def remember(key: Any, make: Callable[[], np.ndarray]) -> np.ndarray:
        path = folder / f"{records.fingerprint(key)}.parquet"
        told = records.beside(path) if path.is_file() else None
        if told is not None:
            data = files.read_bytes(path)
            if told.is_of(data):
                columns = pq.read_table(pa.BufferReader(data))
                return np.stack([columns[name].to_numpy() for name in columns.column_names])
        own = make()
        sink = pa.BufferOutputStream()
        pq.write_table(
            pa.table({str(i): row for i, row in enumerate(own)}), sink, compression="zstd", write_page_checksum=True
        )
        records.write_beside(path, sink.getvalue().to_pybytes(), own.shape[1])
        return own

    return remember


# ---- what lies in the folder of a run --------------------------------------------------------------------------------


def publish(ctx: Context) -> None:
    """Write what tells anybody what this run is: the resolved recipe, and which real images were learnt from."""
    ctx.run.share()
    few = ctx.recipe.few_shot
    for run in dict.fromkeys((ctx.run, ctx.run.made)):
        if run != ctx.run and run.recipe.is_file():
            continue  # whose images are used: it has its own
        files.write_atomic(run.resolved, ctx.recipe.to_yaml().encode())
        if few is not None and ctx.shots is not None:
            facts = {**few.model_dump(), "seed": ctx.seed}
            write_split(run.shots, ctx.shots, range(len(ctx.shots)), **facts)


def _own_files(run: Run) -> list[Path]:
    """What the record of a run vouches for, as far as it is there."""
    own = [
        run.resolved,
        run.shots,
        run.shared,
        run.results,
        run.results_csv,
        run.folder / "predictions.parquet",
        run.report,
    ]
    return [path for path in own if path.is_file()]


def _written(run: Run) -> dict[str, Written]:
    return {path.name: Written.of(files.read_bytes(path)) for path in _own_files(run)}


def _lost(run: Run) -> bool:
    """Whether a file of the numbers is gone or damaged; the report is made from them."""
    found = records.read(run.folder)
    numbers = {run.results.name, run.results_csv.name, "predictions.parquet"}
    return bool(set(records.problems(found, numbers)))


def _vouch_for_recipe(run: Run) -> None:
    """A recipe that differs in nothing that counts, such as its name, was written anew."""
    names = {path.name for path in (run.resolved, run.shots, run.shared) if path.is_file()}
    if records.problems(records.read(run.folder), names):
        records.vouch(run.folder, names)


def _predictions(test: Images, predictions: dict[str, np.ndarray]) -> bytes:
    """A row for each test image: its id, its label, and what each classifier takes it for, a column a seed."""
    columns = {f"{metric}/{s}": one for metric, own in predictions.items() for s, one in enumerate(own)}
    ids = {"id": pa.array(test.ids, pa.string())}
    labels = {name: pa.array(one, pa.int32()) for name, one in {"label": test.labels, **columns}.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({**ids, **labels}), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def _append_results(run: Run, results: list[Result]) -> None:
    """Add to results.jsonl, in place of earlier lines of the same run."""
    own = {r.fingerprint for r in results}
    lines = [r for r in read_results(run.folder) if r.fingerprint not in own] + results
    text = "".join(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in lines)
    files.write_atomic(run.results, text.encode())
