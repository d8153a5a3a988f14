"""How a model's name becomes a folder on this machine, and what keeps that safe: no pickles, no code of others."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from figment import guard, hub, records
from figment.errors import FigmentError, nearest
from figment.files import load_json, read_bytes
from figment.hashes import file_hash

STARTER = {"starter": "pipeline", "starter/clip": "clip", "starter/clip_rn": "clip_rn"}
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@((?!.*\.\.)[\w./-]+))?", re.ASCII)

COMMIT = re.compile(r"[0-9a-f]{40}")

# What a model is made of. A repository's root often holds the same weights again as one file, and flax or ONNX
# twins: none of them matches. The safety checker (a GB) is left there too, and half precision where there is more.
# A part of a pipeline alone, such as a small VAE, lies in the root under diffusers' name.
SMALL = ["*.json", "*.txt", "*.model", "README.md"]
WEIGHTS = ["model.safetensors", "model-*.safetensors", "diffusion_pytorch_model.safetensors", "*/*.safetensors"]
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

CONFIGS = ("model_index.json", "config.json", OPEN_CLIP_CONFIG)  # which say what of a repository is wanted


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


def here(model: ModelFolder, *, allow_pickle: bool = False) -> ModelFolder:
    """The same model on this machine, which may be another than the one that found it: of the Hub the very same commit.

    Raises FigmentError where it is not there and cannot be had, or where what is there by its name is another one.
    """
    if model.path.is_dir():
        return model
    found = resolve(pinned(model.name, model.path), allow_pickle=allow_pickle)
    if found.fingerprint != model.fingerprint:
        raise FigmentError(f"The model {model.name} is another one on {platform.node()}. Copy the same weights there.")
    return replace(found, name=model.name)


def pinned(name: str, folder: Path) -> str:
    """The Hub id with the commit of the snapshot ``folder`` that it was found in; a name that is none as it is."""
    match = HUB_ID.fullmatch(name)
    return f"{match[1]}@{folder.name}" if match and COMMIT.fullmatch(folder.name) else name


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


def card_folder(name: str) -> Path | None:
    """Where the card of a model would lie on this machine; None where the model does not. Nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache

    if name in STARTER:
        from figment.starter import folder

        return folder(STARTER[name]).parent  # one card for all of its models
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    match = HUB_ID.fullmatch(name)
    found = None if match is None else try_to_load_from_cache(match[1], "README.md", revision=match[2])
    return Path(found).parent if isinstance(found, str) else None


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


def _download(repo: str, revision: str | None, allow_pickle: bool, check: Callable[[Path], None]) -> Path:
    """The folder of a Hub model."""

    def whole(get: Callable[..., str]) -> Path:
        # These say which of a repository's weights are wanted, and under which licence they are.
        folder = Path(get(allow_patterns=SMALL, ignore_patterns=UNWANTED))
        check(folder)
        sizes = hub.listed(repo, folder)
        names = wanted(folder, sizes, allow_pickle)
        hub.announce(repo, {name: sizes[name] for name in names}, folder, license_of(folder))
        return Path(get(allow_patterns=hub.only(names)))

    return hub.fetch(repo, revision, whole)


def wanted(folder: Path, names: Collection[str], allow_pickle: bool = False) -> list[str]:
    """Of the files of a Hub repository those that its model is opened from, as the configuration in ``folder`` says."""
    from huggingface_hub.utils import filter_repo_objects

    def matching(allow: Sequence[str], ignore: Sequence[str]) -> set[str]:
        return set(filter_repo_objects(names, allow_patterns=list(allow), ignore_patterns=list(ignore)))

    chosen = matching(SMALL + _weights(folder, allow_pickle), UNWANTED)
    for variant in VARIANTS:
        half = [f"{part}*.{variant}*" for part in _without_weights(folder, chosen)]
        chosen |= matching(half, [*NEVER, *([] if allow_pickle else ["*.bin"])]) if half else set()
    return sorted(chosen)


def is_weights(name: str) -> bool:
    """Whether a file holds weights, by its name."""
    return Path(name).suffix in (".safetensors", *PICKLES)


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


def _without_weights(folder: Path, names: Collection[str]) -> list[str]:
    """The parts of a model, as prefixes of names (``unet/``, or empty for the folder itself), that have a configuration and no weights
    among these files.

    Of a pipeline those that its index in ``folder`` names: beside them there may be others, as SDXL's ``vae_1_0/``.
    """
    own = set(_parts(folder))
    place = lambda name: name.rpartition("/")[0]
    parts = {place(name) for name in names if name.rpartition("/")[2] == "config.json"}
    there = {place(name) for name in names if name.endswith((".safetensors", ".bin"))}
    return [f"{part}/" if part else "" for part in sorted((parts & own if own else parts) - there)]


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
        digest.update(f"{name}\0{file_hash(path)}\n".encode())
    return digest.hexdigest()[:16]
