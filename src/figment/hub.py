"""What the Hugging Face Hub has: files, sizes, licence, who may have them, and how they come here. Its errors in a paragraph."""

from __future__ import annotations

import glob
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from figment.errors import FigmentError
from figment.words import one_line, size_text, without_secret

log = logging.getLogger(__name__)

Kind = Literal["model", "dataset"]


class Away(FigmentError):
    """The Hub, or who stands before it, did not answer: what it has is not known. ``said`` is why, in a few words."""

    said = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What the Hub says of a repository, without anything being fetched."""

    sizes: Mapping[str, int]  # file -> bytes
    licence: str | None  # as its card has it: openrail++
    gated: bool  # whether its users must accept something first
    commit: str


def ask(repo: str, revision: str | None, kind: Kind = "model") -> Told:
    """One request. Raises FigmentError for a repository that there is not, and `Away` where nobody answers."""
    from huggingface_hub import HfApi

    with _explained(repo, revision, kind):
        info: Any = HfApi().repo_info(repo, revision=revision, repo_type=kind, files_metadata=True)
    card = info.card_data.to_dict() if info.card_data else {}
    licence = card.get("license_name") or card.get("license")
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    told = ", ".join(licence) if isinstance(licence, list) else licence
    return Told(sizes, told, bool(info.gated), info.sha)


def may_have(repo: str, kind: Kind = "model") -> bool:
    """Whether whoever is logged in here, or nobody, may fetch from a gated repository. Raises as `ask` does."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError

    with _explained(repo, None, kind):
        try:
            HfApi().auth_check(repo, repo_type=kind)
        except GatedRepoError:
            return False
    return True


def how_to_accept(repo: str, kind: Kind = "model") -> str:
    """What to do for a gated repository."""
    place = "datasets/" if kind == "dataset" else ""
    return f"accept its licence on https://huggingface.co/{place}{repo}, then run: hf auth login"


def cache() -> Path:
    """Where models from the Hub are kept on this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def fetch(repo: str, revision: str | None, wanted: Callable[[Callable[..., str]], Path]) -> Path:
    """What ``wanted`` returns, which is given the Hub's function for some files of this repository. Raises FigmentError."""
    from huggingface_hub import snapshot_download

    with _explained(repo, revision, "model"):
        return wanted(partial(snapshot_download, repo, revision=revision))


def only(names: Iterable[str]) -> list[str]:
    """The patterns of files with these very names."""
    return [glob.escape(name) for name in names]


def snapshot(repo: str, revision: str | None) -> Path | None:
    """The folder that holds what is here of a repository, found without a network; None where nothing is."""
    from huggingface_hub import snapshot_download

    with suppress(Exception):  # each way of not being there has its own
        return Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[]))
    return None


def listed(repo: str, folder: Path) -> dict[str, int]:
    """The files of a repository as they were listed when something was fetched into its snapshot ``folder``: name -> bytes.

    Those that are in it, where no list was kept, as by older versions of the Hub's library.
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return {file.path: file.size for file in get_cached_repo_tree(repo, revision=folder.name)}
    except CachedRepoTreeNotFoundError:
        return {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}


def announce(repo: str, sizes: Mapping[str, int], folder: Path | None, licence: str | None) -> None:
    """Say what is about to be fetched, if anything is. Raises FigmentError where the disk has no room for it."""
    missing = lacking(sizes, folder)
    if not missing:
        return
    size, place = sum(sizes[name] for name in missing), cache()
    free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
    if size > free:
        raise FigmentError(
            f"The model {repo} takes {size_text(size)} more, and {size_text(free)} are free in {place}. Make room there, or set HF_HOME to a"
            " folder on a larger disk."
        )
    files = "1 file" if len(missing) == 1 else f"{len(missing):,} files"
    log.info(f"fetching {repo}: {size_text(size)} in {files}, licence {licence or 'not told'}, to {place}")


def lacking(names: Collection[str], folder: Path | None) -> list[str]:
    """Those that are not in a snapshot's folder."""
    return [name for name in names if folder is None or not (folder / name).is_file()]


@contextmanager
def _explained(repo: str, revision: str | None, kind: Kind) -> Iterator[None]:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = "data set" if kind == "dataset" else "model"
    try:
        yield
    except FigmentError:
        raise
    except GatedRepoError as error:
        accept = how_to_accept(repo, kind)
        raise FigmentError(f"The {what} {repo} is gated, and this machine may not have it: {accept}") from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise FigmentError(
            f"There is neither a folder {repo} nor a {what} of that name on the Hugging Face Hub{at}."
            f" Check the spelling; a private {what} needs: hf auth login"
        ) from error
    except Exception as error:  # the Hub's client lets its network library's errors through, and those of JSON
        away = isinstance(error, LocalEntryNotFoundError | HfHubHTTPError | ConnectionError)
        if isinstance(error, OSError) and not away:
            raise FigmentError(f"The {what} {repo} could not be stored on this machine: {error}.") from error
        raise _not_fetched(repo, revision, what, error) from error


def _not_fetched(repo: str, revision: str | None, what: str, error: BaseException) -> Away:
    """What the Hub, or whoever answered in its place, said; else that nobody did."""
    version, said = f" --revision {revision}" if revision else "", _said(error)
    away = Away(
        f"The {what} {repo} is not on this machine, and {said}. The same command again tries again. Or, on a machine with a network, run:"
        f" hf download {repo}{version} and copy its cache here, or give the path of a folder that holds the {what},"
        " or use 'starter', which needs no network."
    )
    away.said = said
    return away


def _said(error: BaseException) -> str:
    from huggingface_hub import get_token

    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < 10:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    statuses = [status for one in causes if (status := getattr(getattr(one, "response", None), "status_code", 0))]
    if statuses:
        why = (
            "wants fewer requests (wait a while; hf auth login raises the limit)"
            if statuses[0] == 429
            else "does not serve it now"
        )
        return f"the Hugging Face Hub {why}: HTTP {statuses[0]}"
    if isinstance(error, OSError) or any(isinstance(one, ConnectionError | TimeoutError) for one in causes):
        return "the Hugging Face Hub cannot be reached (no network, or HF_HUB_OFFLINE is set)"
    reason = one_line(without_secret(f"{type(error).__name__}: {error}", get_token()))[:200].rstrip(".")
    return f"the Hugging Face Hub gave no answer that can be read ({reason})"


def download(repo: str, revision: str | None, files: Sequence[str]) -> Path:
    """The folder of these files of a repository. Raises FigmentError where they cannot be had."""

    def named(get: Callable[..., str]) -> Path:
        if lacking(files, snapshot(repo, revision)) and not is_offline():
            told = ask(repo, revision)
            announce(repo, {name: told.sizes[name] for name in files if name in told.sizes}, None, told.licence)
        return Path(get(allow_patterns=only(files)))

    return fetch(repo, revision, named)
