"""A data set on the Hugging Face Hub: the Parquet export, uploaded in one commit."""

from __future__ import annotations

from pathlib import Path

from figment.errors import FigmentError
from figment.exports.folder import STARTED
from figment.layout import EXPORT
from figment.words import one_line, without_secret


def check_name(repo: str) -> None:
    """Raise FigmentError where the Hub would not take this name."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise FigmentError(f"--out {repo!r} is no name of a data set on the Hub ({error}). Give owner/name.") from error


def upload(folder: Path, repo: str, *, public: bool = False) -> str:
    """Put an exported folder on the Hub as a new data set, private unless ``public``. Returns its address.

    The token is that of ``hf auth login`` or ``HF_TOKEN``. All files come in one commit, so the data set is there as a
    whole or not at all. Raises FigmentError where it cannot be reached, or holds anything already.
    """
    from huggingface_hub import HfApi, get_token

    api = HfApi()
    try:
        url = api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
        info = api.dataset_info(url.repo_id)
        _check_new(url.repo_id, [f.rfilename for f in info.siblings or []], bool(info.private), public)
        api.upload_folder(
            folder_path=folder,
            repo_id=url.repo_id,
            repo_type="dataset",
            commit_message="Images generated with figment",
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


def _check_new(repo: str, found: list[str], private: bool, public: bool) -> None:
    there = [name for name in found if name != ".gitattributes"]
    if there:
        raise FigmentError(
            f"The data set {repo} holds files already, such as {there[0]}. Nothing was uploaded: an export never goes over"
            " what is there. Choose a new name with --out."
        )
    if not private and not public:
        raise FigmentError(
            f"The data set {repo} is there, empty, and public. Nothing was uploaded; say --public if that is meant."
        )
