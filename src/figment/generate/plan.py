"""Which images a run makes: a list too long to keep, of which any part is computed when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from figment.generate.seeds import sample_seed
from figment.types import Prompt, Sample


class Plan:
    """The attempts to make, in order: ``images_per_class`` for each class, spread evenly over its prompts.

    Classes take turns, so that a part of the data set is already a balanced one. Which prompts and seeds there are does
    not depend on ``images_per_class``: asking for more adds to the end.
    """

    def __init__(self, prompts: Sequence[Prompt], images_per_class: int, seed: int, shard_size: int = 256):
        by_class: dict[int, list[Prompt]] = {}
        for prompt in prompts:
            by_class.setdefault(prompt.label, []).append(prompt)
        self.classes = list(by_class.values())
        self.images_per_class, self.seed, self.shard_size = images_per_class, seed, shard_size

    def __len__(self) -> int:
        return self.images_per_class * len(self.classes)

    def __getitem__(self, position: int) -> Sample:
        if not 0 <= position < len(self):
            raise IndexError(position)
        turn, label = divmod(position, len(self.classes))
        own = self.classes[label]
        prompt, k = own[turn % len(own)], turn // len(own)
        seed = sample_seed(self.seed, prompt.id, k)
        return Sample(f"{prompt.id}/{k}", prompt.id, prompt.text, prompt.label, seed, prompt.group)

    def __iter__(self) -> Iterator[Sample]:
        return (self[position] for position in range(len(self)))

    @property
    def n_shards(self) -> int:
        return -(-len(self) // self.shard_size)

    def shard(self, index: int) -> list[Sample]:
        """The samples of one shard."""
        return [self[i] for i in self.positions(index)]

    def positions(self, index: int) -> range:
        """The positions of one shard's samples in the whole."""
        return range(index * self.shard_size, min((index + 1) * self.shard_size, len(self)))
