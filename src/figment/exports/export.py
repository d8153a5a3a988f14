"""One run to one place, in one format."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from figment import claims, files
from figment.errors import FigmentError, nearest
from figment.exports import hub
from figment.exports.credentials import Credentials
from figment.exports.folder import fill_folder
from figment.exports.found import found
from figment.exports.source import Source, open_source

log = logging.getLogger(__name__)

PUSHED = "parquet"  # the format that the Hub gets, and `datasets` opens from there
OLD_HUB = "hub"  # what --push was in version 0.1: a format, whose --out was the repository


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
    out: Path | str | None = None,
    *,
    push: str | None = None,
    rejected: bool = False,
    public: bool = False,
    sign: tuple[Path | str, Path | str] | None = None,
) -> Exported:
    """Write the kept images of a run into ``out``, in the format ``to``, one of :func:`formats`; or ``push`` them to the Hub.

    ``folder`` is that of a run, or of images alone. With ``rejected`` the images that the filters rejected are written too, with
    ``kept`` false and their reason; attempts that failed have no image and are never written. ``push`` is the name of a new data set,
    ``owner/name``, in the place of ``out`` and of Parquet alone, private unless ``public``. ``sign`` names a certificate and its key,
    PEM files with which every image is signed (:class:`figment.exports.credentials.Credentials`). Interrupted, the same call goes on
    where it was.

    Raises FigmentError where ``out`` holds anything else or lies among the files of a run, where the run is not finished, where that
    certificate cannot sign, and where the Hub cannot be reached, holds such a data set, or there is no token for it.
    """
    if to == OLD_HUB and push is None and out is not None:
        log.warning(
            "--to hub --out %s is now --to %s --push %s; the old way is read for one version.", out, PUSHED, out
        )
        to, out, push = PUSHED, None, str(out)
    if to not in formats():
        of_models = [*found("figment.exports.models")]
        raise FigmentError(
            f"There is no format {to!r}.{nearest(to, [*formats(), *of_models])} Allowed: {', '.join(formats())}; for the trained model:"
            f" {', '.join(of_models)}."
        )
    if push is not None and to != PUSHED:
        raise FigmentError(
            f"Images are pushed to the Hub as --to {PUSHED}, which datasets opens from there. For --to {to} give --out."
        )
    hub.check_place(out, push, public)
    folder = files.as_path(folder)
    credentials = None if sign is None else Credentials(*sign)
    if out is not None:
        claims.check_outside(files.as_path(out))
    source = open_source(folder, rejected, credentials)
    if push is None:
        return _exported(str(out), source, _fill(files.as_path(str(out)), source, to))
    made = hub.ready(folder, push, source.fingerprint)
    _fill(made, source, to)
    return _exported(hub.upload(made, push, "dataset", public=public), source, True)


def _fill(out: Path, source: Source, to: str) -> bool:
    write = formats()[to]
    identity = {"format": to, "fingerprint": source.fingerprint}
    return fill_folder(out, identity, lambda resuming: write(out, source, resuming))


def _exported(where: str, source: Source, written: bool) -> Exported:
    counts = Counter(source.images.labels.tolist())
    of_none = {"no class": counts[-1]} if counts[-1] else {}
    return Exported(where, {n: counts[i] for i, n in enumerate(source.class_names)} | of_none, source.left_out, written)
