"""Captions to tokens, by the tokenizer of a CLIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from figment.errors import FigmentError
from figment.models import resolve

LONGEST = 77  # tokens of a caption, as CLIP reads


@dataclass(frozen=True)
class Tokens:
    """Texts to ``int64 (n, length)``: cut at ``length``, filled up behind their ``end``."""

    vocabulary: int
    length: int
    end: int
    fingerprint: str
    tokenizer: Callable[..., Any] | None = None

    def __call__(self, texts: Sequence[str]) -> Tensor:
        assert self.tokenizer is not None
        found = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        return found.input_ids


NO_TOKENS = Tokens(0, 0, 0, "")


def read(name: str) -> Tokens:
    """The tokenizer of a CLIP's folder or Hub id, or of ``starter/clip``. Raises FigmentError where there is none."""
    from transformers import AutoTokenizer

    folder = resolve(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise FigmentError(
            f"{name} has no tokenizer that transformers opens ({' '.join(str(error).split())[:200]}). Set train.tokenizer to the folder or"
            " Hub id of a CLIP, such as openai/clip-vit-base-patch32 or starter/clip."
        ) from error
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        raise FigmentError(
            f"The tokenizer of {name} has no token that ends a text, or none that fills one up. Set train.tokenizer to that of a CLIP."
        )
    length = min(LONGEST, tokenizer.model_max_length)
    return Tokens(len(tokenizer), length, tokenizer.eos_token_id, folder.fingerprint, tokenizer)
