"""How a model's name becomes a folder on this machine, and what keeps that safe: no pickles, no code of others."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from figment import guard, records
from figment.errors import FigmentError, nearest
from figment.files import load_json, read_bytes
from figment.words import one_line, without_secret

STARTER = {"starter": "pipeline", "starter/clip": "clip", "starter/clip_rn": "clip_rn"}
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@((?!.*\.\.)[\w./-]+))?", re.ASCII)

# What a model is made of. A repository's root often holds the same weights again as one file, and flax or ONNX
# twins: none of them matches. The safety checker (a GB) is left there too, and half precision where there is more.
SMALL = ["*.json", "*.txt", "*.model", "README.md"]
WEIGHTS = ["model.safetensors", "model-*.safetensors", "*/*.safetensors"]
VARIANTS = ("fp16", "bf16")  # diffusers' and transformers' word for the same weights in another precision
NEVER = ["*.non_ema*", "safety_checker/*", "onnx/*", "openvino/*"]
UNWANTED = [*(f"*.{variant}*" for variant in VARIANTS), *NEVER]
PICKLED_WEIGHTS = ["pytorch_model*.bin", "*/*.bin"]
LFS_POINTER = b"version https://git-lfs"  # how the file begins that Git leaves where a large one was not fetched
LFS_POINTER_BYTES = 1024  # at most

# The layout of the Hub's open_clip models.
OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ["open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"]
OPEN_CLIP_PICKLES = ["open_clip_pytorch_model.bin"]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model that lies on this machine. ``fingerprint`` changes with any byte of its weights or configuration."""

    path: Path
    name: str  # as the user wrote it
    fingerprint: str


def resolve(
    name: str, *, allow_pickle: bool = False, check: Callable[[Path], None] = lambda folder: None
) -> ModelFolder:
    """The folder of a model: ``starter``, ``starter/clip``, ``starter/clip_rn``, a folder's path, or a Hub id ``owner/name[@revision]``.

    A Hub model is downloaded once, without pickles unless ``allow_pickle``. ``check`` looks at the folder when its configuration is
    there, before weights are downloaded or read, and raises FigmentError for a model that is of no use. Raises it too where the model
    cannot be had, has only pickled weights, or would need code of its own to be run.
    """
    if name in STARTER:
        from figment.starter import folder

        path = folder(STARTER[name])
        return ModelFolder(path, name, _hash_files(path, _files(path), pickles=False))
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not any(path.glob("*.json")):  # looked at first: what follows reads every file below
            raise FigmentError(
                f"The folder {path} holds no model: no model_index.json, config.json or {OPEN_CLIP_CONFIG}."
            )
        files = _checked_files(path, name, allow_pickle)
        check(path)
        return ModelFolder(path.resolve(), name, _hash_files(path, files, pickles=allow_pickle))
    if match := HUB_ID.fullmatch(name):
        path = _download(match[1], match[2], allow_pickle, check)
        _checked_files(path, name, allow_pickle)
        # The Hub names a snapshot's folder after its commit, which stands for every byte in it.
        return ModelFolder(path, name, records.fingerprint([match[1], path.name, allow_pickle]))
    raise _missing(path, name)


def variant_of(folder: Path) -> str | None:
    """The precision in the names of a part's weights (``fp16`` of ``model.fp16.safetensors``) where it has no others, else None."""
    names = [p.name for suffix in ("safetensors", "bin") for p in folder.glob(f"*.{suffix}")]
    told = {name: next((v for v in VARIANTS if f".{v}." in name or f".{v}-" in name), None) for name in names}
    return None if None in told.values() else next((v for v in VARIANTS if v in told.values()), None)


def model_type(folder: Path) -> str:
    """What the folder's config.json says it is: ``clip``, ``siglip``, ...; empty where it says nothing."""
    kind = _read_json(folder / "config.json").get("model_type", "")
    return kind if isinstance(kind, str) else ""


def is_open_clip(folder: Path) -> bool:
    """Whether a folder is for open_clip. One that transformers can open as well is not: it is read as it always was."""
    return (folder / OPEN_CLIP_CONFIG).is_file() and model_type(folder) != "clip"


def is_timm(folder: Path) -> bool:
    """Whether a folder's config.json says of which architecture of timm it holds the weights, and nothing else can open it."""
    return isinstance(_read_json(folder / "config.json").get("architecture"), str) and not is_open_clip(folder)


def license_of(folder: Path) -> str | None:
    """What the model card in the folder says of its licence (``openrail++``), or None."""
    try:
        card = read_bytes(folder / "README.md", "model card").decode(errors="replace")
    except OSError:
        return None
    front = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    found = (
        dict(re.findall(r"^(license(?:_name)?):[ \t]*['\"]?([^'\"\n]+?)['\"]?[ \t]*$", front[1], re.MULTILINE))
        if front
        else {}
    )
    return found.get("license_name") or found.get("license")


def _missing(path: Path, name: str) -> FigmentError:
    if path.is_file():
        return FigmentError(
            f"The model {name} is a file. Name the folder of a model in the diffusers, transformers or open_clip layout."
        )
    near = [str(path.parent / p.name) for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    return FigmentError(
        f"There is no model folder {path}.{nearest(name, [*STARTER, *near])}"
        " A model is 'starter', 'starter/clip', 'starter/clip_rn', an existing folder, or a Hub id: owner/name or owner/name@revision."
    )


def download(repo: str, revision: str | None, files: Sequence[str]) -> Path:
    """The folder of these files of a Hub repository. Raises FigmentError where they cannot be had."""
    return _fetched(repo, revision, lambda fetch: Path(fetch(allow_patterns=list(files))))


def _download(repo: str, revision: str | None, allow_pickle: bool, check: Callable[[Path], None]) -> Path:
    """The folder of a Hub model."""

    def whole(fetch: Callable[..., str]) -> Path:
        # These say which of a repository's weights are wanted.
        folder = Path(fetch(allow_patterns=SMALL, ignore_patterns=UNWANTED))
        check(folder)
        folder = Path(fetch(allow_patterns=SMALL + _weights(folder, allow_pickle), ignore_patterns=UNWANTED))
        for variant in VARIANTS:
            if lacking := _without_weights(folder):
                half = [f"{part}*.{variant}*" for part in lacking]
                folder = Path(fetch(allow_patterns=half, ignore_patterns=NEVER + ([] if allow_pickle else ["*.bin"])))
        return folder

    return _fetched(repo, revision, whole)


def _fetched(repo: str, revision: str | None, wanted: Callable[[Callable[..., str]], Path]) -> Path:
    """What ``wanted`` returns, which is given the Hub's function for some files of this repository; its errors in a paragraph."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return wanted(partial(snapshot_download, repo, revision=revision))
    except FigmentError:
        raise
    except GatedRepoError as error:
        raise FigmentError(
            f"The model {repo} asks its users to accept its licence."
            f" Do so on https://huggingface.co/{repo}, then run: hf auth login"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise FigmentError(
            f"There is neither a folder {repo} nor a model of that name on the Hugging Face Hub{at}."
            " Check the spelling; a private model needs: hf auth login"
        ) from error
    except Exception as error:  # the Hub's client lets its network library's errors through, and those of JSON
        if isinstance(error, OSError) and not isinstance(error, LocalEntryNotFoundError | HfHubHTTPError):
            raise FigmentError(f"The model {repo} could not be stored on this machine: {error}.") from error
        raise _not_fetched(repo, revision, error) from error


def _not_fetched(repo: str, revision: str | None, error: BaseException) -> FigmentError:
    """What the Hub, or whoever answered in its place, said; else that nobody did."""
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
        said = f"the Hugging Face Hub {why}: HTTP {statuses[0]}"
    elif isinstance(error, OSError):
        said = "the Hugging Face Hub cannot be reached (no network, or HF_HUB_OFFLINE is set)"
    else:
        reason = one_line(without_secret(f"{type(error).__name__}: {error}", get_token()))[:200].rstrip(".")
        said = f"the Hugging Face Hub gave no answer that can be read ({reason})"
    version = f" --revision {revision}" if revision else ""
    return FigmentError(
        f"The model {repo} is not on this machine, and {said}. The same command again tries again. Or, on a machine with a network, run:"
        f" hf download {repo}{version} and copy its cache here, or give the path of a folder that holds the model,"
        " or use 'starter', which needs no network."
    )


def _weights(folder: Path, allow_pickle: bool) -> list[str]:
    """The patterns of a model's weights, by what lies beside them.

    A pipeline's are those of its parts: beside them there may be the same again, as Stable Diffusion 3.5's ``text_encoders/`` (16 GB).
    """
    if is_open_clip(folder):
        safe, pickled = OPEN_CLIP_WEIGHTS, OPEN_CLIP_PICKLES
    elif parts := _parts(folder):
        safe, pickled = [f"{part}/*.safetensors" for part in parts], [f"{part}/*.bin" for part in parts]
    else:
        safe, pickled = WEIGHTS, PICKLED_WEIGHTS
    return safe + pickled if allow_pickle else safe


def _parts(folder: Path) -> list[str]:
    """The parts of a pipeline, by its index; none where it has no index."""
    index = _read_json(folder / "model_index.json")
    return [part for part, entry in index.items() if isinstance(entry, list) and entry and entry[0] is not None]


def _without_weights(folder: Path) -> list[str]:
    """The parts of a model, as prefixes of names (``unet/``, or empty for the folder itself), that have a configuration and no weights.

    Of a pipeline those that its index names: beside them there may be others, as SDXL's ``vae_1_0/``.
    """
    own = {folder / part for part in _parts(folder)}
    parts = {p.parent for p in folder.rglob("config.json")}
    bare = [
        p
        for p in sorted(parts & own if own else parts)
        if not any(q.suffix in (".safetensors", ".bin") for q in p.iterdir())
    ]
    return ["" if p == folder else f"{p.relative_to(folder).as_posix()}/" for p in bare]


def _checked_files(folder: Path, name: str, allow_pickle: bool) -> list[Path]:
    """All files of a model. Raises FigmentError where it may not be opened, or is not there whole."""
    files = _files(folder)
    lost = [p for p in files if not p.exists()]
    if lost:
        raise FigmentError(
            f"The model {name} has a link to what is not there: {lost[0].relative_to(folder)} ->"
            f" {lost[0].readlink()}. Copy the file or folder to its place, or mend the link."
        )
    guard.check_files(files, folder, f"The model {name}")
    _refuse_code(folder, name, files)
    _refuse_pointers(folder, name, files)
    _refuse_pickles(folder, name, files, allow_pickle)
    return files


def _files(folder: Path) -> list[Path]:
    """All files below a folder but the hidden ones, also in folders that are linked into it, and links to what is not there.

    A link inside a linked folder is not followed, so no circle of links is walked.
    """

    def below(place: Path, linked: bool) -> Iterator[Path]:
        for path in sorted(p for p in place.iterdir() if not p.name.startswith(".")):
            if not path.is_dir():
                yield path
            elif not (linked and path.is_symlink()):
                yield from below(path, linked or path.is_symlink())

    return list(below(folder, linked=False))


def _refuse_code(folder: Path, name: str, files: Sequence[Path]) -> None:
    """No model may bring Python of its own: neither a pipeline, nor a component, nor a transformers class."""
    index = _read_json(folder / "model_index.json")
    custom = [] if isinstance(index.get("_class_name", ""), str) else ["model_index.json"]
    for part, entry in index.items():
        module = entry[0] if isinstance(entry, list) and entry else None
        if isinstance(module, str) and (folder / part / f"{module}.py").is_file():
            custom.append(f"{part}/{module}.py")
    configs = [p for p in files if p.name.endswith("config.json")]
    custom += [str(p.relative_to(folder)) for p in configs if "auto_map" in _read_json(p)]
    if custom:
        raise FigmentError(
            f"The model {name} needs Python code of its own ({', '.join(custom)}), and figment runs no code that comes"
            " with a model. Choose one whose classes are part of diffusers or transformers."
        )


def _refuse_pointers(folder: Path, name: str, files: Sequence[Path]) -> None:
    """Git leaves a few lines where a large file should be, until its extension LFS fetches it."""
    small = [p for p in files if p.suffix in (".json", ".model", ".safetensors", *PICKLES)]
    small = [p for p in small if p.stat().st_size <= LFS_POINTER_BYTES]
    pointers = [p.relative_to(folder).as_posix() for p in small if read_bytes(p).startswith(LFS_POINTER)]
    if pointers:
        raise FigmentError(
            f"The model {name} was not fetched whole: {', '.join(pointers[:3])} {'is' if len(pointers) == 1 else 'are'}"
            " what Git LFS leaves in the place of a large file. In its folder run: git lfs pull"
        )


def _refuse_pickles(folder: Path, name: str, files: Sequence[Path], allow_pickle: bool) -> None:
    safe = {p.parent for p in files if p.suffix == ".safetensors"}
    pickled = {p.parent for p in files if p.suffix in PICKLES}
    # Beside a config.json lie a model's weights; elsewhere a stray checkpoint is never opened.
    unsafe = {p for p in pickled - safe if (p / "config.json").is_file() and p.name != "safety_checker"}
    if (allow_pickle and pickled) or (safe and not unsafe):
        return
    if not pickled:
        raise FigmentError(
            f"The model {name} has no weights: there is no .safetensors file in {folder} or below. Copy them there, or"
            " fetch the model again."
        )
    where = ", ".join(sorted(p.relative_to(folder).as_posix() for p in unsafe)) if safe else "."
    raise FigmentError(
        f"The model {name} has no weights in the safetensors format{'' if where == '.' else f' in {where}'}."
        " Pickled weights (.bin, .pt, .ckpt) can run any code when they are opened, so they are used only where you say"
        " allow_pickle: true. Better: choose a revision with .safetensors files, or save the model again with"
        " safe_serialization=True."
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = load_json(path, "model configuration")
    except (OSError, ValueError):
        return {}  # whoever needs the file says what is wrong with it
    return value if isinstance(value, dict) else {}


def _hash_files(folder: Path, files: Sequence[Path], pickles: bool) -> str:
    """Names and bytes of what the model is loaded from; the card does not count."""
    suffixes = {".json", ".txt", ".model", ".safetensors", *(PICKLES if pickles else ())}
    digest = hashlib.sha256()
    for name, path in sorted((p.relative_to(folder).as_posix(), p) for p in files if p.suffix in suffixes):
        digest.update(f"{name}\0{_hash_file(path.resolve(), path.stat())}\n".encode())
    return digest.hexdigest()[:16]


def _hash_file(path: Path, stat: os.stat_result) -> str:
    return _hash_once(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=4096)
def _hash_once(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    """Of a file's bytes, which are read once: a table of 20 arms would read a model of 34 GB twenty times, 90 seconds each."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
