"""An export on the Hugging Face Hub: images as a data set, a trained model as a model, each uploaded in one commit."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from figment import files
from figment.errors import FigmentError
from figment.exports.folder import STARTED
from figment.hub import Kind
from figment.layout import EXPORT
from figment.words import one_line, size_text, without_secret

log = logging.getLogger(__name__)

CALLED = {"dataset": "data set", "model": "model"}


def check_place(out: Path | str | None, push: str | None, public: bool) -> None:
    """Raise FigmentError unless an export has one place to go to: a folder, or a repository that the Hub and its token allow."""
    if (out is None) == (push is None):
        raise FigmentError(
            "Say where it goes: --out WHERE, a new folder, or --push OWNER/NAME, a new repository on the Hugging Face Hub. One of them."
        )
    if push is not None:
        _check_name(push)
        _check_token(push)
    elif public:
        raise FigmentError("--public is of what is pushed to the Hub: give --push OWNER/NAME, or leave it out.")


def _check_name(repo: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise FigmentError(f"--push {repo!r} is no name on the Hub ({error}). Give owner/name.") from error


def _check_token(repo: str) -> None:
    """Before anything is made, which may take long."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise FigmentError(
            f"To push {repo} takes a token of the Hub that may write, and there is none here: hf auth login, or HF_TOKEN in the"
            " environment. Nothing was written."
        )


def ready(folder: Path, repo: str, fingerprint: str) -> Path:
    """Where what is to be pushed is made first: it can be looked at, and a second try does not make it again."""
    base = Path(tempfile.gettempdir()) / "figment-hub" if files.is_remote(folder) else folder / "hub"
    return base / f"{repo.replace('/', '--')}-{fingerprint}"


def upload(folder: Path, repo: str, kind: Kind, *, public: bool = False) -> str:
    """Put an exported folder on the Hub as a new data set or model, private unless ``public``. Returns its address.

    The token is that of ``hf auth login`` or ``HF_TOKEN``. All files come in one commit, so the repository is there as a
    whole or not at all. Raises FigmentError where the Hub cannot be reached, or the repository holds anything already.
    """
    from huggingface_hub import HfApi, get_token

    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    log.info(
        f"to upload: {size_text(size)} as the {'public' if public else 'private'} {CALLED[kind]} {repo}, from {folder}"
    )
    api = HfApi()
    try:
        url = api.create_repo(repo, repo_type=kind, private=not public, exist_ok=True)
        info = (api.model_info if kind == "model" else api.dataset_info)(url.repo_id)
        found = [file.rfilename for file in info.siblings or []]
        _check_new(f"The {CALLED[kind]} {url.repo_id}", found, bool(info.private), public)
        api.upload_folder(
            folder_path=folder,
            repo_id=url.repo_id,
            repo_type=kind,
            commit_message="A classifier trained with figment" if kind == "model" else "Images generated with figment",
            ignore_patterns=[EXPORT, STARTED, ".lock*", ".*.tmp"],
        )
    except FigmentError:
        raise
    except Exception as error:  # the Hub's client speaks through other network libraries with other versions
        reason = one_line(without_secret(f"{type(error).__name__}: {error}", get_token()))[:300]
        raise FigmentError(
            f"The Hub did not take {repo} ({reason}). Uploading needs a network"
            " and a token that may write: hf auth login, or HF_TOKEN in the environment. What would be uploaded is ready in"
            f" {folder}; the same command again goes on from there."
        ) from error
    return str(url)


def _check_new(what: str, found: list[str], private: bool, public: bool) -> None:
    there = [name for name in found if name != ".gitattributes"]
    if there:
        raise FigmentError(
            f"{what} holds files already, such as {there[0]}. Nothing was uploaded: an export never goes over"
            " what is there. Choose a new name with --push."
        )
    if not private and not public:
        raise FigmentError(f"{what} is there, empty, and public. Nothing was uploaded; say --public if that is meant.")
