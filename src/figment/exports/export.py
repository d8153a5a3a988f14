"""One run to one place, in one format."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from figment import claims, files
from figment.errors import FigmentError, nearest
from figment.exports.credentials import Credentials
from figment.exports.folder import fill_folder
from figment.exports.found import found
from figment.exports.source import Source, open_source

log = logging.getLogger(__name__)

HUB = "hub"  # no format of its own: the Parquet export, uploaded


@dataclass(frozen=True)
class Exported:
    """What an export holds: ``counts`` are images by class name; ``left_out`` the rejected ones that are not in it."""

    where: str
    counts: dict[str, int]
    left_out: int
    written: bool  # False where all of it was there already


def formats() -> dict[str, Callable[[Path, Source, bool], None]]:
    """Name -> ``write(out, source, resuming)``, of every file in this folder that defines one."""
    return found("figment.exports")


def export(
    folder: Path | str,
    to: str,
    out: Path | str,
    *,
    rejected: bool = False,
    public: bool = False,
    sign: tuple[Path | str, Path | str] | None = None,
) -> Exported:
    """Write the kept images of a run into ``out``, in the format ``to``: one of :func:`formats`, or "hub".

    ``folder`` is that of a run, or of images alone. With ``rejected`` the images that the filters rejected are written too, with
    ``kept`` false and their reason; attempts that failed have no image and are never written. For ``hub``, ``out`` is the
    name of a new data set, ``owner/name``, private unless ``public``. ``sign`` names a certificate and its key, PEM files with which every image is
    signed (:class:`figment.exports.credentials.Credentials`). Interrupted, the same call goes on where it was.

    Raises FigmentError where ``out`` holds anything else or lies among the files of a run, where the run is not finished, where that certificate cannot
    sign, and where the Hub cannot be reached.
    """
    known = [*formats(), HUB]
    if to not in known:
        of_models = [*found("figment.exports.models")]
        raise FigmentError(
            f"There is no format {to!r}.{nearest(to, [*known, *of_models])} Allowed: {', '.join(known)}; for the trained model:"
            f" {', '.join(of_models)}."
        )
    folder = files.as_path(folder)
    credentials = None if sign is None else Credentials(*sign)
    if to == HUB:
        return _to_hub(folder, str(out), rejected, public, credentials)
    claims.check_outside(files.as_path(out))
    source = open_source(folder, rejected, credentials)
    written = _fill(files.as_path(out), source, to)
    return _exported(str(out), source, written)


def _fill(out: Path, source: Source, to: str) -> bool:
    write = formats()[to]
    identity = {"format": to, "fingerprint": source.fingerprint}
    return fill_folder(out, identity, lambda resuming: write(out, source, resuming))


def _to_hub(folder: Path, repo: str, rejected: bool, public: bool, credentials: Credentials | None) -> Exported:
    from figment.exports import hub

    hub.check_name(repo)
    source = open_source(folder, rejected, credentials)
    # Made in full first: it can be looked at, and a second try does not make it again.
    base = Path(tempfile.gettempdir()) / "figment-hub" if files.is_remote(folder) else folder / "hub"
    ready = base / f"{repo.replace('/', '--')}-{source.fingerprint}"
    _fill(ready, source, "parquet")
    size = sum(p.stat().st_size for p in ready.rglob("*.parquet"))
    log.info(
        f"to upload: {len(source):,} images of {len(source.class_names)} classes, {size / 2**20:,.1f} MiB, as the"
        f" {'public' if public else 'private'} data set {repo}, from {ready}"
    )
    return _exported(hub.upload(ready, repo, public=public), source, True)


def _exported(where: str, source: Source, written: bool) -> Exported:
    counts = Counter(source.images.labels.tolist())
    of_none = {"no class": counts[-1]} if counts[-1] else {}
    return Exported(where, {n: counts[i] for i, n in enumerate(source.class_names)} | of_none, source.left_out, written)
