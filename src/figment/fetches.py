"""What a recipe would fetch, how large it is, under which licence, and what of it is here: ``figment doctor RECIPE``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from figment import hub, layout, measures, starter
from figment.doctor import Finding, State
from figment.errors import FigmentError
from figment.generate.speed_settings import TINY
from figment.hub import Told
from figment.models import CONFIGS, HUB_ID, STARTER, is_weights, license_of, wanted
from figment.recipe import Recipe
from figment.recipe.generate import DiffusersSettings, GlideSettings
from figment.recipe.prompts import ServerSettings
from figment.recipe.sources import Source, sources
from figment.studies.arms import arm_runs
from figment.studies.table import table_runs
from figment.words import size_text

VAE = "generate.speed.vae"
INCEPTION = "inception"  # `figment.encoders.INCEPTION`, which imports torch


@dataclass(frozen=True)
class Fetch:
    """One thing that a recipe names: how it stands, and how many bytes of it are still to come; None = nobody can say."""

    state: State
    text: str
    size: int | None = 0


def examine_recipe(recipe: Recipe) -> list[Finding]:
    """What the recipe, its arms and all cells of its table would fetch, a line each, and the sum. Nothing is fetched but a few
    configurations, into a folder that goes away."""
    runs = all_runs(recipe)
    fields: dict[Source, dict[str, None]] = {}
    for run in runs:
        for field, source in sources(run):
            fields.setdefault(source, {})[field] = None
    others = [finding for run in runs for finding in _by_hand(run)]
    for asked in dict.fromkeys(_small_vaes(runs)):
        small = _small_vae(*asked)
        if isinstance(small, Source):
            fields.setdefault(small, {})[VAE] = None
        elif small is not None:
            others.append(small)
    found = {source: _look(source) for source in fields}
    findings = [
        Finding(", ".join(fields[source]), fetch.state, f"{source.name}: {fetch.text}")
        for source, fetch in found.items()
        if fetch is not None
    ]
    return [*findings, *dict.fromkeys(others), _sum([fetch for fetch in found.values() if fetch is not None])]


def all_runs(recipe: Recipe) -> list[Recipe]:
    """The recipe of every run that ``figment run`` would make of it. Raises FigmentError for settings that do not hold."""
    if recipe.table is not None:
        return [own for _, _, own in table_runs(recipe)]
    return [recipe, *(arm for arm, _ in arm_runs(recipe, Path("runs")).values())]


def _sum(fetches: list[Fetch]) -> Finding:
    known = sum(fetch.size or 0 for fetch in fetches)
    unknown = sum(fetch.size is None for fetch in fetches)
    if not known and not unknown:
        return Finding("in all", "ok", "nothing is to be fetched")
    place = hub.cache()
    free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
    told = [f"{size_text(known)} to be fetched"] if known else []
    told += [f"{unknown} of unknown size"] if unknown else []
    text = f"{' and '.join(told)}; {size_text(free)} are free in {place}"
    return Finding("in all", "note" if known <= free else "missing", text)


# ---- on the Hub ------------------------------------------------------------------------------------------------------


def _look(source: Source) -> Fetch | None:
    """None for what is in the package, or a file or folder that is here."""
    if source.name in (*STARTER, INCEPTION) or Path(source.name).expanduser().exists():
        return None
    match = HUB_ID.fullmatch(source.name)
    if match is None and source.kind != "data set":
        return Fetch("missing", "there is no such file or folder here, and it is no Hub id")
    repo, revision = (match[1], match[2]) if match else (source.name, None)
    try:
        told = hub.ask(repo, revision, "dataset" if source.kind == "data set" else "model")
    except hub.Away as error:
        return _without_a_network(source, repo, revision, error)
    except FigmentError as error:
        return Fetch("missing", str(error), None)
    return _of_data(repo, told) if source.kind == "data set" else _of_model(source, repo, told)


def _of_model(source: Source, repo: str, told: Told) -> Fetch:
    folder = hub.snapshot(repo, told.commit)
    barred = told.gated and not hub.may_have(repo)
    try:
        names = _files(source, repo, told, folder, barred)
    except FigmentError as error:
        return Fetch("missing", str(error), None)
    if said := _weights_lacking(names, told, source):
        return Fetch("missing", said, None)
    missing = hub.lacking(names, folder)
    size, whole = sum(told.sizes[name] for name in missing), sum(told.sizes[name] for name in names)
    licence = f"licence {told.licence or 'not told'}"
    if not missing:
        return Fetch("ok", f"here, {size_text(whole)} in {folder}; {licence}")
    part = f" of {size_text(whole)}, the rest is here" if size < whole else ""
    text = f"{'at most ' if barred else ''}{size_text(size)} to fetch{part}; {licence}"
    if barred:
        return Fetch("missing", f"{text}; gated: {hub.how_to_accept(repo)}", size)
    return Fetch("note", text + ("; gated, and accepted" if told.gated else ""), size)


def _files(source: Source, repo: str, told: Told, folder: Path | None, barred: bool) -> list[str]:
    """What would be fetched of a repository, by its configuration, here in ``folder`` or there. What is ``barred`` tells none: then all
    that may be its parts counts."""
    if source.kind == "lora":
        name = source.file or layout.LORA
        if name not in told.sizes:
            there = (
                ", ".join(sorted(n for n in told.sizes if n.endswith(".safetensors"))[:10]) or "no .safetensors file"
            )
            raise FigmentError(f"has no {name}. Set weight_name to the file that is meant; there is {there}")
        return [name]
    own = [name for name in CONFIGS if name in told.sizes]
    if folder is not None and not hub.lacking(own, folder):
        return wanted(folder, told.sizes, source.allow_pickle)
    with TemporaryDirectory() as place:
        if own and not barred:
            hub.fetch(repo, told.commit, lambda get: Path(get(allow_patterns=hub.only(own), local_dir=place)))
        return wanted(Path(place), told.sizes, source.allow_pickle)


def _weights_lacking(names: list[str], told: Told, source: Source) -> str:
    """What is wrong where a model has no weights that may be opened, else nothing."""
    if any(map(is_weights, names)):
        return ""
    if any(map(is_weights, told.sizes)) and not source.allow_pickle:
        return "has no weights in the safetensors format where they are looked for: see allow_pickle, or choose another revision"
    return "has no weights"


def _of_data(repo: str, told: Told) -> Fetch:
    """All of it counts, though fewer splits may be fetched: which files these are the data set's own configuration says."""
    licence, size = f"licence {told.licence or 'not told'}", sum(told.sizes.values())
    if (copy := _data_cache() / repo.replace("/", "___")).is_dir():
        return Fetch("ok", f"a copy is in {copy}; {licence}")
    text = f"at most {size_text(size)} to fetch; {licence}"
    if told.gated and not hub.may_have(repo, "dataset"):
        return Fetch("missing", f"{text}; gated: {hub.how_to_accept(repo, 'dataset')}", size)
    return Fetch("note", text, size)


def _data_cache() -> Path:
    """Where the datasets library keeps what it fetched."""
    from huggingface_hub import constants

    return Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets")


def _without_a_network(source: Source, repo: str, revision: str | None, error: hub.Away) -> Fetch:
    """What the cache alone can say."""
    if source.kind == "data set":
        copy = _data_cache() / repo.replace("/", "___")
        if copy.is_dir():
            return Fetch("ok", f"a copy is in {copy}")
        return Fetch("missing", f"not here, and {error.said}: its size and licence cannot be known", None)
    folder = hub.snapshot(repo, revision)
    if folder is None:
        return Fetch("missing", f"not here, and {error.said}: its size and licence cannot be known", None)
    sizes = hub.listed(repo, folder)
    names = [source.file or layout.LORA] if source.kind == "lora" else wanted(folder, sizes, source.allow_pickle)
    missing = hub.lacking(names, folder)
    if missing:
        size = sum(sizes.get(name, 0) for name in missing)
        return Fetch(
            "missing", f"{size_text(size)} of it are not here ({', '.join(missing[:3])}), and {error.said}", size
        )
    whole = sum(sizes[name] for name in names)
    return Fetch("ok", f"here, {size_text(whole)} in {folder}; licence {license_of(folder) or 'not told'}")


# ---- a small VAE, which goes with the latents of some models alone ----------------------------------------------------


def _small_vaes(runs: Sequence[Recipe]) -> Iterator[tuple[str, str, bool]]:
    """What is asked for, of which model, and whether pickles are allowed."""
    for recipe in runs:
        own = recipe.generate
        if isinstance(own, DiffusersSettings) and own.speed.vae is not None:
            yield own.speed.vae, own.model, own.allow_pickle


def _small_vae(asked: str, model: str, allow_pickle: bool) -> Source | Finding | None:
    """The one that it is; or why the model does not take it, or that nobody can say which it is. None for one that has a name,
    and is a source like all, where nobody can say."""
    from figment.generate.tiny_vae import name_for

    own = _own_vae(model)
    if own is None:
        text = f"{TINY}: some MB besides, of a repository that the model's latents tell"
        return Finding(VAE, "note", text) if asked == TINY else None
    try:
        return Source("model", name_for(asked, own, model), allow_pickle)
    except FigmentError as error:
        return Finding(VAE, "missing", str(error).removeprefix(f"{VAE}: "))


def _own_vae(model: str) -> dict[str, Any] | None:
    """The configuration of a model's own VAE, empty where it has none; None where nobody can say."""
    from figment.generate.guidance import config_of

    with suppress(FigmentError), TemporaryDirectory() as place:
        if model in STARTER:
            return config_of(starter.folder(STARTER[model]) / "vae")
        if (folder := Path(model).expanduser()).is_dir():
            return config_of(folder / "vae")
        if match := HUB_ID.fullmatch(model):
            wanted = hub.only(["vae/config.json"])
            return config_of(
                hub.fetch(match[1], match[2], lambda get: Path(get(allow_patterns=wanted, local_dir=place))) / "vae"
            )
    return None


# ---- elsewhere -------------------------------------------------------------------------------------------------------


def _by_hand(recipe: Recipe) -> Iterator[Finding]:
    """What figment does not fetch by itself, or cannot know of."""
    if recipe.looks_with == INCEPTION or INCEPTION in (measure.encoder for measure in measures.asked(recipe)):
        from figment.encoders.inception import weights_file

        yield _there("FID's network", weights_file)
    if isinstance(recipe.generate, GlideSettings):
        from figment.generate.glide import GlideGenerator

        folder = recipe.generate.weights
        yield _there("generate.weights", lambda: GlideGenerator(weights=folder).weights)
    if isinstance(recipe.prompts, ServerSettings):
        text = f"{recipe.prompts.model} answers on {recipe.prompts.base_url}: nothing is fetched"
        yield Finding("prompts", "ok", text)
    for kind in recipe.plugins:
        yield Finding(kind, "note", "what your own code fetches cannot be known")


def _there(subject: str, find: Callable[[], Path]) -> Finding:
    try:
        return Finding(subject, "ok", f"here, {find()}")
    except FigmentError as error:
        return Finding(subject, "missing", str(error))
