"""Prompts as a pipeline takes them: each distinct one is encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from figment.generate.families import Encoded, Family, encode, encode_negative
from figment.generate.lora import Applied

CACHE_BYTES = 256 * 2**20  # of encoded prompts: two thousand of SD's, sixty of Flux's

Asked = tuple[int, str]  # what an image is asked for with: a label, 0 where all have one LoRA or none, and a prompt


class Texts:
    """Encodes prompts for an opened pipeline, and remembers as many as CACHE_BYTES hold, the most recently used.

    ``lora`` is one of a text encoder, perhaps one for each class.
    """

    def __init__(self, pipe: Any, family: Family, negative_prompt: str, lora: Applied | None):
        self.pipe, self.family, self.negative_prompt, self.lora = pipe, family, negative_prompt, lora
        self.encoded: OrderedDict[Asked, Encoded] = OrderedDict()  # the least recently used first
        self.negatives: dict[int, Encoded] = {}  # by label

    def __call__(self, asked: Sequence[Asked], guided: bool) -> Encoded:
        """The pipeline's arguments for a batch, each ``(B, ...)``; ``guided`` ones have what guidance pushes away from too."""
        labels = [label for label, _ in asked]
        self._choose(labels)  # loads what the batch needs in one go
        encoded = self._remembered(asked)
        if guided:
            encoded = [{**one, **self._negative(label)} for one, label in zip(encoded, labels, strict=True)]
        self._choose(labels)
        return {name: torch.cat([one[name] for one in encoded]) for name in encoded[0]}

    def forget(self) -> None:
        self.encoded.clear()
        self.negatives.clear()

    def _remembered(self, asked: Sequence[Asked]) -> list[Encoded]:
        new = [one for one in dict.fromkeys(asked) if one not in self.encoded]
        for label in dict.fromkeys(label for label, _ in new):
            self._choose([label])
            own = [one for one in new if one[0] == label]
            self.encoded.update(zip(own, encode(self.pipe, self.family, [text for _, text in own]), strict=True))
        for one in asked:
            self.encoded.move_to_end(one)
        encoded = [self.encoded[one] for one in asked]
        most = max(1, CACHE_BYTES // sum(t.nbytes for t in encoded[0].values()))
        while len(self.encoded) > most:
            self.encoded.popitem(last=False)
        return encoded

    def _negative(self, label: int) -> Encoded:
        if label not in self.negatives:
            self._choose([label])
            self.negatives[label] = encode_negative(self.pipe, self.family, self.negative_prompt)
        return self.negatives[label]

    def _choose(self, labels: Sequence[int]) -> None:
        """Whose LoRA what follows is computed with: one label for all of it, or one for each image."""
        if self.lora is not None:
            self.lora.choose(labels)
