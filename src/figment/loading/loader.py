"""Batches for training, from any images in any order, with a place in them that can be saved and taken up again."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from figment import machine
from figment.errors import FigmentError
from figment.images_in.ahead import ahead
from figment.loading.orders import Order
from figment.types import Images, Indices

AHEAD = 64  # images, or a whole batch where that is more: what an object store is asked for before it is needed


class ImageDataset(Dataset):
    """Any :class:`figment.types.Images` as a map-style data set of ``(image, label)``.

    ``transform`` is called on ``uint8 (H, W, 3)`` arrays, one image each; without one an image is a ``uint8 (3, H, W)``
    tensor. ``labels`` ``int64 (N,)`` take the place of the images' own, such as their groups for a contrastive loss. Can
    be pickled if its parts can.
    """

    def __init__(
        self,
        images: Images,
        transform: Callable[[np.ndarray], Any] | None = None,
        labels: np.ndarray | None = None,
    ):
        self.images, self.transform = images, transform
        self.labels = images.labels if labels is None else labels
        if len(self.labels) != len(images):
            raise FigmentError(f"There are {len(self.labels):,} labels for {len(images):,} images: give one for each.")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Indices) -> list[tuple[Any, int]]:
        images = self.images.load(indices)
        labels = self.labels[np.asarray(indices)].tolist()
        transform = self.transform or _to_tensor
        return [(transform(image), label) for image, label in zip(images, labels, strict=True)]

    def ahead(self, indices: Indices) -> None:
        """These will be asked for next, in this order."""
        ahead(self.images, indices)

    def batch(self, indices: Indices) -> list[torch.Tensor]:
        """``uint8 (B, 3, H, W)``, channels last in memory, and ``int64 (B,)``: untransformed images without detours.

        Raises FigmentError for images of different sizes.
        """
        images = self.images.load(indices)
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            raise FigmentError(
                f"Images of different sizes do not go into one batch: {', '.join(map(str, sorted(shapes)[:3]))}."
                " Give a transform that brings them to one size."
            )
        return [_to_tensor(np.stack(images)), torch.from_numpy(self.labels[np.asarray(indices)])]


def _to_tensor(images: np.ndarray) -> torch.Tensor:
    """``(..., H, W, 3)`` to ``(..., 3, H, W)`` on the same memory."""
    return torch.from_numpy(images).movedim(-1, -3)


class Loader:
    """A :class:`torch.utils.data.DataLoader` that knows which batches it has handed out.

    Iterating gives what is left of an epoch, and then the whole of the next one. All batches are full; the images that
    do not fill one are others in every epoch. What comes depends on ``order`` and ``batch_size`` alone: random transforms
    that draw from torch's, numpy's or Python's own generators draw the same for any ``num_workers``, and again after a
    restart. Of ``world_size`` processes, each gets every so many-th batch, from its ``rank`` on.

    ``state_dict`` says how many batches were handed out, not how many the workers have in store; a loader like it that
    loads the state goes on with the very next one, also in a world of another size whose batches together are as large.
    ``options`` are DataLoader's: ``pin_memory``, ``prefetch_factor`` ...

    Raises FigmentError where an epoch does not fill a batch, or a batch does not hold whole slots.
    """

    def __init__(
        self,
        dataset: Dataset,
        order: Order,
        batch_size: int,
        *,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        collate_fn: Callable[[list[Any]], Any] = default_collate,
        **options: Any,
    ):
        self.batches = _Batches(order, batch_size, rank, world_size, max(1, num_workers))
        self._loader = DataLoader(
            _Fetch(dataset, collate_fn),
            batch_sampler=self.batches,  # type: ignore[arg-type]
            collate_fn=_as_it_is,
            num_workers=num_workers,
            # Workers outlive an epoch, and their seeds are not drawn from the generator that everybody uses.
            **{"persistent_workers": num_workers > 0, "generator": torch.Generator(), **options},
        )

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.batches)

    @property
    def epoch(self) -> int:
        """The epoch of the next batch."""
        return self.batches.handed_out // len(self)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            if isinstance(batch, FigmentError):
                raise batch
            self.batches.handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """JSON-able, and the same in all processes of a world, and in another world whose batches together are as large."""
        return {"batches": self.batches.handed_out, **self.batches.identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises FigmentError where the state is one of other images, another order or other batches."""
        own = self.batches.identity
        changed = [name for name in own if state.get(name) != own[name]]
        if changed:
            name = changed[0]
            raise FigmentError(
                f"The saved position is one of other batches: {name} was {state.get(name)!r} and is now {own[name]!r}."
                " Use the images, order, seed and batch size it was saved with, or start from the beginning."
            )
        self.batches.handed_out = int(state["batches"])


class _Batches:
    """What is left of the current epoch: the number of each batch since the beginning, its images, and those that come after them.

    Of ``readers`` processes each reads every so many-th batch: what comes after is what the same one will read.
    """

    def __init__(self, order: Order, batch_size: int, rank: int, world_size: int, readers: int):
        self.order, self.batch_size, self.rank, self.world_size = order, batch_size, rank, world_size
        self.readers = readers
        self.handed_out = 0
        if batch_size < 1 or batch_size % order.slot:
            raise FigmentError(
                f"batch_size counts images: it must be a multiple of {order.slot}; here it is {batch_size}."
            )
        if not len(self):
            raise FigmentError(
                f"An epoch of {len(order):,} images does not fill a batch of {batch_size} for each of {world_size} processes."
                " Take a smaller batch_size, or an order with more images an epoch (Mixed has n)."
            )

    @cached_property
    def identity(self) -> dict[str, Any]:
        first = hashlib.sha256(self.order(0).astype("<i8").tobytes()).hexdigest()[:16]
        return {"batch_size": self.batch_size * self.world_size, "images": len(self.order), "order": first}

    def __len__(self) -> int:
        return len(self.order) // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        epoch, position = divmod(self.handed_out, len(self))
        used = self.order(epoch)[: len(self) * self.world_size * self.batch_size]
        own = used.reshape(len(self), self.world_size, self.batch_size)[:, self.rank]
        for i in range(position, len(self)):
            after = own[i + self.readers :: self.readers][: max(1, AHEAD // self.batch_size)]
            yield epoch * len(self) + i, own[i], after.ravel()


class _Fetch(Dataset):
    """Fetches and collates whole batches. A user's mistake is handed on, so that no worker's traceback is put around it."""

    def __init__(self, dataset: Any, collate_fn: Callable[[list[Any]], Any]):
        self.dataset, self.collate_fn = dataset, collate_fn
        plain = type(dataset) is ImageDataset and dataset.transform is None
        self.plain = plain and collate_fn is default_collate  # nothing is random, nor the user's

    def __getitems__(self, batch: tuple[int, np.ndarray, np.ndarray]) -> Any:
        number, indices, after = batch
        try:
            if isinstance(self.dataset, ImageDataset):
                self.dataset.ahead(np.concatenate([indices, after]))
            if self.plain:
                return self.dataset.batch(indices)
            with _random_numbers_of(number, indices):
                return self.collate_fn(self._items(indices.tolist()))
        except FigmentError as error:
            return error

    def _items(self, indices: list[int]) -> list[Any]:
        many = getattr(self.dataset, "__getitems__", None)
        return many(indices) if many is not None else [self.dataset[i] for i in indices]


def usual_workers(device: torch.device) -> int:
    """Processes that prepare images where nobody says how many: none on a CPU, which they would only share, up to 8 beside a GPU."""
    return 0 if device.type == "cpu" else min(8, machine.cores())


def _as_it_is(batch: Any) -> Any:
    return batch


@contextmanager
def _random_numbers_of(number: int, indices: np.ndarray) -> Iterator[None]:
    """Random numbers that depend on the batch alone; afterwards everything is as it was."""
    data = number.to_bytes(8, "little") + indices.tobytes()
    seed = int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "little")
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would reset those of the GPUs too
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])
