"""Prompts as a pipeline takes them: each distinct one is encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from figment.device import free_memory, put
from figment.generate.families import Encoded, Family, encode, encode_negative
from figment.generate.lora import Applied
from figment.generate.placing import computes_on

CACHE_BYTES = 256 * 2**20  # of encoded prompts: two thousand of SD's, sixty of Flux's
WAITING_CACHE_BYTES = 8 * CACHE_BYTES  # in main memory: those of a shard, so that the encoders come back once for each
TOGETHER = 32  # prompts that are encoded at a time, where a whole shard's are

Asked = tuple[int, str]  # what an image is asked for with: a label, 0 where all have one LoRA or none, and a prompt


class Texts:
    """Encodes prompts for an opened pipeline, and remembers as many as CACHE_BYTES hold, the most recently used.

    ``lora`` is one of a text encoder, perhaps one for each class. ``aside`` are text encoders that lie in main memory but while they
    are needed; with ``waiting``, where some do or the whole pipeline is offloaded, what is encoded waits there as well. ``mend`` is the
    setting that helps where there is no room for them.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        negative_prompt: str,
        lora: Applied | None,
        aside: Sequence[torch.nn.Module] = (),
        waiting: bool = False,
        mend: str = "",
    ):
        self.pipe, self.family, self.negative_prompt, self.lora = pipe, family, negative_prompt, lora
        self.aside, self.waiting, self.device = list(aside), waiting, computes_on(pipe)
        self.mend = f"Set {mend}." if mend else "Choose a smaller model, or end what else uses that memory."
        self.at_hand = True  # whether what lies aside is where it computes just now
        self._put_aside()
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
        return {name: torch.cat([one[name] for one in encoded]).to(self.device) for name in encoded[0]}

    def read_ahead(self, asked: Sequence[Asked], guided: bool) -> None:
        """Encode what a shard asks for all at once, so that encoders which have to be brought for it are brought once."""
        new = [one for one in dict.fromkeys(asked) if one not in self.encoded]
        if not new:
            return
        with self._at_hand():
            for i in range(0, len(new), TOGETHER):
                if i and i + TOGETHER > self._most(self.encoded[new[0]]):
                    break  # the first would be forgotten before their batch comes
                self._remembered(new[i : i + TOGETHER])
            for label in dict.fromkeys(label for label, _ in asked if guided):
                self._negative(label)

    def forget(self) -> None:
        self.encoded.clear()
        self.negatives.clear()

    def _remembered(self, asked: Sequence[Asked]) -> list[Encoded]:
        new = [one for one in dict.fromkeys(asked) if one not in self.encoded]
        for label in dict.fromkeys(label for label, _ in new):
            self._choose([label])
            own = [one for one in new if one[0] == label]
            with self._at_hand():
                told = encode(self.pipe, self.family, [text for _, text in own])
            self.encoded.update(zip(own, map(self._kept, told), strict=True))
        for one in asked:
            self.encoded.move_to_end(one)
        encoded = [self.encoded[one] for one in asked]
        while len(self.encoded) > self._most(encoded[0]):
            self.encoded.popitem(last=False)
        return encoded

    def _most(self, one: Encoded) -> int:
        """How many like this one are remembered."""
        room = WAITING_CACHE_BYTES if self.waiting else CACHE_BYTES
        return max(1, room // sum(t.nbytes for t in one.values()))

    def _negative(self, label: int) -> Encoded:
        if label not in self.negatives:
            self._choose([label])
            with self._at_hand():
                told = encode_negative(self.pipe, self.family, self.negative_prompt)
            self.negatives[label] = self._kept(told)
        return self.negatives[label]

    def _kept(self, encoded: Encoded) -> Encoded:
        return {name: tensor.cpu() for name, tensor in encoded.items()} if self.waiting else encoded

    @contextmanager
    def _at_hand(self) -> Iterator[None]:
        """With the encoders that wait aside where they compute, and all that is done meanwhile finds them there."""
        bring = [] if self.at_hand else self.aside
        for part in bring:
            put(part, self.device, "The text encoder", self.mend)
        self.at_hand = True
        try:
            yield
        finally:
            if bring:
                self._put_aside()

    def _put_aside(self) -> None:
        self.at_hand = not self.aside
        for part in self.aside:
            part.to("cpu")
        if self.aside:
            free_memory(self.device)

    def _choose(self, labels: Sequence[int]) -> None:
        """Whose LoRA what follows is computed with: one label for all of it, or one for each image."""
        if self.lora is not None:
            self.lora.choose(labels)
