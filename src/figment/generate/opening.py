"""Opens a diffusers pipeline that lies in a folder, checks its weights, and reads what it says of itself before that."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from figment import weights
from figment.device import is_out_of_memory
from figment.errors import FigmentError
from figment.files import load_json, read_text
from figment.generate.families import FAMILIES
from figment.generate.training.families import UNET


def open_pipeline(
    folder: Path, name: str, dtype: torch.dtype, allow_pickle: bool, given: Mapping[str, torch.nn.Module] | None = None
) -> Any:
    """``given`` are parts that are open already."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise FigmentError(
            f"The model {name} is no diffusers pipeline: {index} is missing."
            " Name the folder of a pipeline saved by diffusers."
        )
    text = read_text(index, "model configuration")
    # Images are judged by filters, which give a reason; the built-in checker would paint them black instead.
    without: dict[str, Any] = {}
    if "safety_checker" in text:
        without = {"safety_checker": None, "requires_safety_checker": False}
    if "StableDiffusionXLPipeline" in text:  # else pixels would depend on whether a watermarking package is installed
        without["add_watermarker"] = False
    if '"watermarker"' in text:  # DeepFloyd IF's paints over images for people to look at, which are not asked for
        without["watermarker"] = None
    parts: dict[str, Any] = dict(given or {})
    try:
        for part, kind in _networks(folder):
            if part not in without and part not in parts:
                parts[part] = open_part(kind, folder, part, name, dtype, allow_pickle)
        safe = None if allow_pickle else True
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            folder, dtype=dtype, use_safetensors=safe, local_files_only=True, **without, **parts
        )
    except FigmentError:
        raise
    except (
        Exception
    ) as error:  # damaged files, missing parts, classes this diffusers lacks: each library has its own errors
        _raise_if_memory_lacks(error, f"the model {name}", dtype)
        raise FigmentError(
            f"The model {name} cannot be opened by diffusers {diffusers.__version__}: {' '.join(str(error).split())}"
        ) from error
    for part, component in pipe.components.items():
        if isinstance(component, torch.nn.Module) and part not in parts:
            weights.check(component, f"The {part} of the model {name}")
        if part.startswith("tokenizer") and component is not None:
            component.model_max_length = _tokens_read(folder, part, component)
    return pipe


def _networks(folder: Path) -> Iterator[tuple[str, Any]]:
    """The parts of a pipeline that have weights, and their classes in diffusers or transformers."""
    index = load_json(folder / "model_index.json", "model configuration")
    for part, entry in index.items():
        match entry:
            case ["diffusers" | "transformers" as library, str(name)]:
                kind = getattr({"diffusers": diffusers, "transformers": transformers}[library], name, None)
                if isinstance(kind, type) and issubclass(kind, torch.nn.Module):
                    yield part, kind


def open_part(kind: Any, folder: Path, part: str, name: str, dtype: torch.dtype, allow_pickle: bool) -> torch.nn.Module:
    """Diffusers would open it too, but tell nobody what its checkpoint lacks."""
    library = kind.__module__.partition(".")[0]
    place = folder / part if (folder / part).is_dir() else folder
    try:
        said = {"torch_dtype" if library == "diffusers" else "dtype": dtype}
        return weights.load(kind, place, f"The {part} of the model {name}", allow_pickle=allow_pickle, **said)
    except FigmentError:
        raise
    except Exception as error:
        _raise_if_memory_lacks(error, f"the {part} of the model {name}", dtype)
        version = diffusers.__version__ if library == "diffusers" else transformers.__version__
        raise FigmentError(
            f"The {part} of the model {name} cannot be opened by {library} {version}: {' '.join(str(error).split())}"
        ) from error


def _raise_if_memory_lacks(error: Exception, what: str, dtype: torch.dtype) -> None:
    """Weights are read into main memory, whatever device they are for."""
    if not is_out_of_memory(error):
        return
    shorter = "Set generate.dtype: bfloat16, which takes half, close" if dtype == torch.float32 else "Close"
    raise FigmentError(
        f"The memory of this machine ran out while {what} was opened in {str(dtype).removeprefix('torch.')}."
        f" {shorter} other programs, take fewer workers, or choose a smaller or quantised model."
    ) from error


def read_index(folder: Path) -> dict[str, Any] | None:
    """The pipeline's model_index.json; None where it cannot be read, which opening the model tells."""
    try:
        index = load_json(folder / "model_index.json", "model configuration")
        return index if isinstance(index["_class_name"], str) and isinstance(index["scheduler"][1], str) else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def has_unet(index: Mapping[str, Any]) -> bool:
    return index.get(UNET) == ["diffusers", "UNet2DConditionModel"]


def own_scheduler(folder: Path, kind: str) -> Any:
    """The pipeline's own, without its weights; None where it cannot be had, which opening the model tells."""
    try:
        return getattr(diffusers, kind).from_pretrained(folder / "scheduler", local_files_only=True)
    except Exception:
        return None


def tokenizers(folder: Path) -> Iterator[tuple[Any, int]]:
    """The tokenizers of a pipeline, each with the number of tokens that reach the model: CLIP's 77; of a T5, what is asked for."""
    index = load_json(folder / "model_index.json", "model configuration")
    arguments = inspect.signature(getattr(diffusers, index["_class_name"]).__call__).parameters
    family = FAMILIES.get(index["_class_name"])
    for name, (_, kind) in ((k, v) for k, v in sorted(index.items()) if k.startswith("tokenizer") and v[1]):
        tokenizer = getattr(transformers, kind).from_pretrained(folder / name)
        asked = arguments.get("max_sequence_length")
        told = family.tokens if family else None
        yield tokenizer, told or (asked.default if asked and "T5" in kind else _tokens_read(folder, name, tokenizer))


def _tokens_read(folder: Path, part: str, tokenizer: Any) -> int:
    """Where a tokenizer must cut: a few are saved without a limit, and their text encoder has one all the same."""
    config = folder / part.replace("tokenizer", "text_encoder") / "config.json"
    told = load_json(config, "model configuration") if config.is_file() else {}
    return min(tokenizer.model_max_length, told.get("max_position_embeddings") or tokenizer.model_max_length)


@contextmanager
def quiet() -> Iterator[None]:
    """No loading bars, and errors only: a run of a million images has its own progress bar."""
    logs = (diffusers.utils.logging, transformers.utils.logging)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what diffusers will rename is no concern of the user's
            yield
    finally:
        for log, (verbosity, bar) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bar:
                log.enable_progress_bar()
