"""Which images a run makes: a list too long to keep, of which any part is computed when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import zip_longest
from math import lcm

from figment.errors import FigmentError
from figment.generate.seeds import sample_seed
from figment.types import Images, Prompt, Sample


class Plan:
    """The attempts to make, in order: ``images_per_class`` for each class, spread evenly over its prompts; or, with ``per_prompt``, so
    many of each prompt.

    Classes take turns, so that a part of the data set is already a balanced one. Which prompts and seeds there are does
    not depend on ``images_per_class``: asking for more adds to the end.

    ``shots`` maps labels to the ids of the real images that the images of a class start from. They take turns too: all
    pairs of a prompt and a shot come before any of them comes again. Raises FigmentError for classes without.

    With ``per_prompt`` a class with fewer prompts has fewer images, ``images_per_class`` at most: of a set that is there already each
    prompt has one. Every prompt has an image before any has a second, so a larger ``per_prompt`` adds to the end too.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        images_per_class: int,
        seed: int,
        shard_size: int = 256,
        shots: Mapping[int, Sequence[str]] | None = None,
        per_prompt: int | None = None,
    ):
        by_class: dict[int, list[Prompt]] = {}
        for prompt in prompts:
            by_class.setdefault(prompt.label, []).append(prompt)
        self.classes = list(by_class.values())
        self.images_per_class, self.seed, self.shard_size, self.shots = images_per_class, seed, shard_size, shots
        self.per_prompt = per_prompt
        lacking = [own[0] for own in self.classes if shots is not None and not shots.get(own[0].label)]
        if lacking:
            names = ", ".join(f"class {p.label} ({p.text[:40]!r})" for p in lacking[:10])
            raise FigmentError(
                f"There is no real image that images could start from of {len(lacking)} classes: {names}. Give some of every"
                " class, or leave real guidance out."
            )

    def __len__(self) -> int:
        most = self.images_per_class * len(self.classes)
        return most if self.per_prompt is None else min(most, self._rounds * len(self._in_turn))

    @cached_property
    def _in_turn(self) -> list[tuple[int, int]]:
        """With ``per_prompt``, class and prompt of each position of a round: classes take turns until they have none left."""
        own = (
            [(c, i) for i in range(min(len(prompts), self.images_per_class))] for c, prompts in enumerate(self.classes)
        )
        return [place for turn in zip_longest(*own) for place in turn if place is not None]

    @property
    def _rounds(self) -> int:
        """Images of a prompt: fewer than ``per_prompt`` where no class may have as many images."""
        assert self.per_prompt is not None
        return min(self.per_prompt, -(-self.images_per_class // max(map(len, self.classes))))

    def reaching(self, rows: int) -> Plan:
        """The same for so many images or more, where there can be: no prompt, no seed and no place is another."""
        sizes, n, of_each = [len(own) for own in self.classes], -(-rows // len(self.classes)), self.per_prompt
        if of_each is not None:
            while n < max(sizes) and sum(min(n, size) for size in sizes) < rows:
                n += 1
            of_each = max(of_each, -(-rows // sum(sizes)))  # a set that was made with more of each
            if of_each > 1:
                n = max(n, of_each * max(sizes))
        prompts = [prompt for own in self.classes for prompt in own]
        return Plan(prompts, n, self.seed, self.shard_size, self.shots, of_each)

    def __getitem__(self, position: int) -> Sample:
        if not 0 <= position < len(self):
            raise IndexError(position)
        if self.per_prompt is None:
            turn, label = divmod(position, len(self.classes))
        else:
            k, place = divmod(position, len(self._in_turn))
            label, i = self._in_turn[place]
            turn = k * len(self.classes[label]) + i
        own = self.classes[label]
        prompt, k = own[turn % len(own)], turn // len(own)
        seed = sample_seed(self.seed, prompt.id, k)
        init = self._shot(turn, prompt.label, len(own)) if self.shots is not None else ""
        return Sample(
            f"{prompt.id}/{k}",
            prompt.id,
            prompt.text,
            prompt.label,
            seed,
            prompt.group,
            init=init,
            attributes=prompt.attributes,
        )

    def _shot(self, turn: int, label: int, prompts: int) -> str:
        """The shots in turn, with a step to the side whenever the pairs with the prompts would begin again."""
        assert self.shots is not None
        own = self.shots[label]
        return own[(turn + turn // lcm(prompts, len(own))) % len(own)]

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


def ids_by_class(images: Images) -> dict[int, list[str]]:
    """Label -> the ids of its images, in their order: the ``shots`` of a :class:`Plan`."""
    ids: dict[int, list[str]] = {}
    for id, label in zip(images.ids, images.labels.tolist(), strict=True):
        ids.setdefault(label, []).append(id)
    return ids
