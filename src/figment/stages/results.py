"""Models to numbers: ``results.jsonl`` and the rest of what lies in a run's own folder, whose record is the run's."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from figment import files, layout, machine, measures, plain_yaml, records
from figment.errors import FigmentError
from figment.generate.said import guidance_of
from figment.guard import parse_json
from figment.images_in.captions import shown
from figment.images_in.changed import shrunk
from figment.images_in.real import how_dealt
from figment.layout import Run, Study
from figment.measures.trial import Trial
from figment.recipe.recipe import as_yaml, validate
from figment.records import Found, Record, Written
from figment.report.answers import OWN
from figment.report.csv import write_results
from figment.report.planned import planned, shows_in_groups
from figment.report.results import is_result, latest_results, read_results, result_lines
from figment.report.text import duration
from figment.shots import write_split
from figment.stages.images.repair import move
from figment.stages.model import ModelStage
from figment.stages.plans import images_key
from figment.stages.report import write_report
from figment.stages.stage import Cost, Look, Stage, StageStatus, damaged
from figment.stages.timing import seconds_of_training
from figment.types import Images, Result

if TYPE_CHECKING:
    from figment.context import Context
    from figment.recipe import Recipe

log = logging.getLogger(__name__)

PREDICTIONS = "predictions.parquet"


class Results(Stage):
    """Numbers of earlier settings stay in ``results.jsonl``, with the fingerprint of their run."""

    name = "results"
    of = ("run", "set", "table")

    def folders(self, run: Run) -> list[Path]:
        return [run.folder]

    def record(self, ctx: Context) -> Record:
        recipe, splits = ctx.recipe, measures.splits_needed(ctx.recipe)
        settings = {
            "evaluate": recipe.evaluate.model_dump(mode="json", exclude=_left_out(recipe)),
            "task": recipe.task.model_dump(mode="json", exclude={"real", "name"}),
        }
        inputs = {"model": ModelStage().record(ctx).fingerprint}
        if recipe.encoder is not None:  # else it is the learner's own, or the starter's
            inputs["encoder"] = ctx.features().encoder.fingerprint
        if recipe.evaluate.encoder is not None:
            inputs["evaluate.encoder"] = ctx.features(recipe.evaluate.encoder).encoder.fingerprint
        for split in sorted(splits & set(ctx.given)):
            images = ctx.readable(split)
            inputs[split] = "" if images is None else shown(images)
        if ctx.test_groups is not None:
            inputs["groups"] = records.fingerprint(ctx.test_groups.tolist())
        if ctx.unreadable:  # what was left out is told with the results
            inputs["unreadable"] = records.fingerprint(ctx.unreadable)
        return Record(ctx.run.folder, "run", settings, inputs)

    def run(self, ctx: Context) -> None:
        record = self.record(ctx)
        found = records.read(record.folder)
        wrong = set(records.problems(found))
        same = found.state == "finished" and found.data["fingerprint"] == record.fingerprint
        if same and not wrong & {ctx.run.results.name, PREDICTIONS}:
            _renew(ctx.run, wrong)
            return
        started = machine.Meter()
        record.forget()
        measured = measures.take(trial(ctx))
        results = [replace(r, fingerprint=record.fingerprint) for r in measured.results]
        _append_results(ctx.run, results, damaged=ctx.run.results.name in wrong)
        test = ctx.readable("test")
        if test is not None:
            predictions = _predictions(test, measured.predictions, ctx.test_groups)
            files.write_atomic(ctx.run.folder / PREDICTIONS, predictions)
        write_results({r.metric: r for r in results}, ctx.run.results_csv)
        record.finish(
            _written([*_told(ctx.run), *_numbers(ctx.run)], ctx.run),
            unreadable=ctx.unreadable,
            counts={"results": len(results)},
            **started.record(),
        )

    def cost(self, ctx: Context) -> Cost | None:
        """What so many test images can show, and how much is trained for it, before anything is made."""
        test = ctx.given.get("test")
        if test is None and "test" not in ctx.absent:
            return None
        said: list[str] = []
        if (
            test is not None
            and ctx.recipe.evaluate.evidence
            and ctx.recipe.train.has_placebo
            and ctx.recipe.prompts.has_classes
        ):
            n, groups = len(test), ctx.test_groups
            said.append(planned(ctx.run.folder).shows(n) if groups is None else shows_in_groups(n, groups))
        train, images = ctx.recipe.train, learnt_from(ctx.recipe)
        counts = trainings_of(ctx.recipe)
        k = sum(counts.values())
        parts = ", ".join(f"{name.replace('_', ' ')} {own:,}" for name, own in counts.items())
        trainings = f"{k:,} training{'s' if k != 1 else ''} ({parts})"
        if ":" in train.kind:  # what somebody else's learner does with random images, nobody knows
            return Cost("\n".join([*said, f"{trainings}, each as long as your learner takes"]), counts={"trainings": k})
        try:
            seconds = k * seconds_of_training(ctx, images)
        except FigmentError as error:
            said.append(f"{trainings}; their time is not known: {error}")
            return Cost("\n".join(said), counts={"trainings": k})
        said.append(
            f"{trainings}, about {duration(max(1.0, seconds))} at most on this machine (measured on random images)"
        )
        return Cost("\n".join(said), seconds, counts={"trainings": k})

    # ---- from the disk alone -----------------------------------------------------------------------------------------

    def status(self, run: Run) -> list[StageStatus]:
        if run.kind == "set":
            return []
        found = records.read(run.folder)
        if found.state == "finished":
            return [StageStatus("results", "done", f"{found.data.get('counts', {}).get('results', 0)} numbers")]
        if found.state == "damaged":
            return [damaged("results")]
        if run.is_old and run.kind == "table":
            done = Study(run.folder).table_json.is_file()
            return [StageStatus("results", "done" if done else "to do", "of an older figment")]
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
                look.checked(run.folder, f"the recipe and {len(found.files) - 1:,} other files")
            for name in [] if look.broken(run.folder) else _runs_of(run, found):
                if not (run.folder / name).is_dir():
                    look.add("missing", run.folder / name, "the whole run is not there", remedy="run")
        for number, line in enumerate(result_lines(run.folder), 1):
            if not is_result(line):
                look.add("broken", run.results, f"line {number} cannot be read", remedy="" if look.old else "repair")

    def repair(self, ctx: Context, look: Look) -> Iterator[str]:
        run = ctx.run
        if run.kind == "table":
            yield f"the table's own files are written again, from its finished cells, by: figment run {run.folder}"
            return
        if not (look.broken(run.folder) or look.broken(run.results)):
            yield f"an arm is gone; it is run again by: figment run {run.folder}"
            return
        before = records.read(run.folder)
        publish(ctx)
        if run.kind == "set":
            yield "wrote anew what says how these images were made"
            return
        self.run(ctx)
        if not run.is_cell:
            write_report(run)
        measured = records.read(run.folder).data.get("seconds") != before.data.get("seconds")
        yield "results: measured again" if measured else "results: wrote anew what was not as it was, without measuring"


def learnt_from(recipe: Recipe) -> int:
    """Generated images of a training, unless filters leave some out."""
    most = recipe.generate.images_per_class
    return min(most, recipe.train.images_per_class or most) * recipe.n_labels


def trainings_of(recipe: Recipe) -> dict[str, int]:
    """How many trainings a run takes, by what they are for."""
    by_measure = {m.name: m.trainings(recipe, learnt_from(recipe)) for m in measures.asked(recipe)}
    return {"the recipe": recipe.train.seeds, **{name: n for name, n in by_measure.items() if n}}


# ---- what there is to measure ----------------------------------------------------------------------------------------


def trial(ctx: Context) -> Trial:
    """What measures may ask for."""
    return Trial(
        recipe=ctx.recipe,
        learner=ctx.learner,
        models=lambda: ctx.models,
        facts=records.read(ctx.run.model).data.get("facts", {}),
        kept=ctx.kept,
        made=as_learnt(ctx),
        test=ctx.readable("test"),
        train=ctx.readable("train") if "train" in measures.splits_needed(ctx.recipe) else None,
        shots=ctx.shots,
        other_shots=ctx.other_shots,
        unlabelled=ctx.readable("unlabelled"),
        features=ctx.features,
        remember=remember_in(ctx.run.trainings),
        groups=ctx.test_groups,
        looked_at=_looked_at(ctx),
        guidance=guidance_of(records.read(ctx.run.images).data.get("generator", {})),
        val=ctx.readable("val"),
        leaks=ctx.leaks,
    )


def as_learnt(ctx: Context) -> Images:
    """All generated images as the learner sees them: rivals and the content gate must see no others."""
    side = getattr(ctx.recipe.train, "low_resolution", None)
    return ctx.images if side is None else shrunk(ctx.images, side)


def _left_out(recipe: Recipe) -> set[str]:
    """Fields of ``evaluate`` that are in no fingerprint while they are left out: runs from before there were such stay as they are."""
    later = {name for name in ("planned_test", "shot_draws") if getattr(recipe.evaluate, name) is None}
    return {*later, "encoder"}  # a place: its weights are an input


def _looked_at(ctx: Context) -> list[int]:
    """The numbers of test images that this folder's earlier results are of, whatever their settings were, while there were fewer."""
    test = ctx.readable("test")
    earlier = (
        parse_json(line, ctx.run.results, "record")
        for line in result_lines(ctx.run.folder)
        if line.strip() and is_result(line)
    )
    return sorted({row["n"] for row in earlier if row["metric"] == OWN and test is not None and row["n"] < len(test)})


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


def _runs_of(run: Run, found: Found) -> list[str]:
    """The runs of a study as its record has them: the cells of a table, or the arms."""
    order = Study(run.folder).order_of_arms
    if order.relative_to(run.folder).as_posix() not in found.files:
        return list(found.data.get("cells", []))
    return [f"{order.parent.name}/{name}" for name in files.load_json(order, "record")]


# ---- what lies in the folder of a run --------------------------------------------------------------------------------


def publish(ctx: Context) -> None:
    """Write what tells anybody what this run is: the resolved recipe, which real images were learnt from, which arms there are."""
    run, study = ctx.run, Study(ctx.run.folder)
    run.share()
    _publish(ctx, run)
    if ctx.recipe.arms and study.arms.is_dir():
        names = [layout.folder_name(number, name) for number, name in enumerate(ctx.recipe.arms)]
        files.write_json(study.order_of_arms, names)
    if run.made.kind == "set":
        _publish_set(ctx, run.made)
    elif not run.made.recipe.is_file():  # of a run whose turn is still to come
        _publish(ctx, run.made)


def _publish(ctx: Context, run: Run) -> None:
    write_resolved(ctx.recipe, run)
    few = ctx.recipe.few_shot
    if few is not None and ctx.shots is not None:
        facts = {**few.model_dump(), "seed": ctx.seed}
        write_split(run.shots, ctx.shots, range(len(ctx.shots)), **facts)
    real = ctx.recipe.task.real
    if real.folder is not None:
        files.write_json(run.split, how_dealt(real, ctx.given))


def write_resolved(recipe: Recipe, run: Run) -> None:
    """The resolved recipe of a run. One that somebody has edited is set aside: what they wrote is not written over."""
    text = recipe.to_yaml()
    if run.resolved.is_file() and _is_edited(run.resolved, text):
        with suppress(FileNotFoundError):  # another part of a job array was faster
            kept = move(run.resolved, run.set_aside)
            log.warning(f"{run.resolved} was not as figment writes it. What it held is kept in {kept}.")
    files.write_atomic(run.resolved, text.encode())


def _is_edited(path: Path, ours: str) -> bool:
    """Whether a resolved recipe is another text than figment writes for what it says; one that lacks fields of today is not, and
    ``ours`` is none."""
    try:
        if files.read_text(path, "recipe") == ours:
            return False
        data = plain_yaml.read(path)
        validate(data, str(path))
        return as_yaml(data) != files.read_text(path, "recipe")
    except (FigmentError, OSError, ValueError):
        return True  # damaged, or of another version


def _publish_set(ctx: Context, run: Run) -> None:
    """Of a set that cells share, the first of them says what it is, in a record of its own."""
    found = records.read(run.folder)
    if found.state == "finished" and not records.problems(found):
        return
    _publish(ctx, run)
    Record(run.folder, "set", {"images": images_key(ctx.recipe)}, {}).finish(_written(_told(run), run))


def _told(run: Run) -> list[Path]:
    """The files of :func:`publish`."""
    return [run.resolved, run.shots, run.split, run.shared, Study(run.folder).order_of_arms]


def _written(paths: Iterable[Path], run: Run) -> dict[str, Written]:
    """For the record of a run: what there is of these files."""
    return {
        path.relative_to(run.folder).as_posix(): Written.of(files.read_bytes(path)) for path in paths if path.is_file()
    }


def _numbers(run: Run) -> list[Path]:
    return [run.results, run.results_csv, run.folder / PREDICTIONS]


def _renew(run: Run, wrong: set[str]) -> None:
    """Vouch for what :func:`publish` wrote: a recipe may differ in what does not count, such as its name. Nothing is measured."""
    if run.results_csv.name in wrong:
        write_results(latest_results(run.folder), run.results_csv)
    names = _written([*_told(run), run.results_csv], run)
    if names != {name: one for name, one in records.read(run.folder).files.items() if name in names}:
        records.vouch(run.folder, names)


def _predictions(test: Images, predictions: dict[str, np.ndarray], groups: np.ndarray | None) -> bytes:
    """A row for each test image: its id, its content hash, its label, its group if there are any, and what each classifier takes it
    for, a column a seed."""
    columns = {f"{metric}/{s}": one for metric, own in predictions.items() for s, one in enumerate(own)}
    ids = {"id": pa.array(test.ids, pa.string()), "digest": pa.array(test.digests, pa.string())}
    of_groups = {} if groups is None else {"group": groups}
    labels = {name: pa.array(one, pa.int32()) for name, one in {"label": test.labels, **of_groups, **columns}.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({**ids, **labels}), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def _append_results(run: Run, results: list[Result], damaged: bool) -> None:
    """Add to results.jsonl, in place of earlier lines of the same run.

    Of a damaged file nobody knows which lines are right: it is set aside as it is.
    """
    own = {r.fingerprint for r in results}
    if run.results.is_file() and (damaged or not all(map(is_result, result_lines(run.folder)))):
        move(run.results, run.set_aside)
    lines = [r for r in read_results(run.folder) if r.fingerprint not in own] + results
    text = "".join(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in lines)
    files.write_atomic(run.results, text.encode())
