"""What an encoder makes of real images: which it cannot tell apart, before anything is learnt on its features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from figment.checking.findings import SHOWN, Finding
from figment.encoders import INCEPTION, Features, class_prototypes, open_encoder
from figment.errors import FigmentError
from figment.evaluate.leaks import near_copies
from figment.images_in.concat import concatenate
from figment.neighbours import nearest
from figment.types import Images
from figment.words import printable

ALIKE = 0.999  # equal pixels have at least this cosine, up to the rounding of half precision


def of_encoder(
    name: str, given: Mapping[str, Images], class_names: Sequence[str], templates: Sequence[str]
) -> Iterator[Finding]:
    """Class names that are read alike, images of two classes that look the same, classes that are taken for others, and test images
    with a near copy in another split. Raises FigmentError where there is no such encoder."""
    if name == INCEPTION:
        raise FigmentError(
            "inception is FID's network, and what it cannot tell apart says nothing of a classifier. Name a CLIP, such as starter/clip."
        )
    encoder = open_encoder(name)
    try:
        class_prototypes(encoder, class_names, templates)
    except FigmentError as error:
        yield Finding("encoder", "wrong", str(error))
    features = Features(encoder)
    readable = {split: features.readable(images, f"encode {split}")[0] for split, images in given.items()}
    own = {split: features(images) for split, images in readable.items()}
    everything = concatenate(*readable.values())
    yield from _of_pairs(np.concatenate(list(own.values())), everything, class_names)
    for split in ("train", "val"):
        if split in own and "test" in own and min(len(own[split]), len(own["test"])) > 1:
            yield from _of_copies(own["test"], own[split], split)


def _of_pairs(features: np.ndarray, images: Images, class_names: Sequence[str]) -> Iterator[Finding]:
    """Of each image the nearest one of another class, and the nearest one at all."""
    labels, rows = images.labels, np.arange(len(images))
    if len(np.unique(labels)) < 2:
        return
    cosine, other = nearest(features, features, (labels, labels))
    alike = sorted({(min(i, j), max(i, j)) for i, j in enumerate(other.tolist()) if cosine[i] > ALIKE})
    if alike:
        such = "; ".join(" and ".join(_named(images, i, class_names) for i in pair) for pair in alike[:SHOWN])
        text = (
            f"{len(alike):,} pair{'s' * (len(alike) != 1)} of images of two classes look the same to it, such as {such}"
        )
        yield Finding("encoder", "note", f"{text}. No classifier on it can tell them apart")
    taken = labels[nearest(features, features, (rows, rows))[1]]
    right = float((taken == labels).mean())
    text = f"{100 * right:.1f} % of images are of the class of the image nearest to them"
    if right < 1:
        pairs, counts = np.unique(np.stack([labels, taken], 1)[taken != labels], axis=0, return_counts=True)
        (a, b), n = pairs[counts.argmax()].tolist(), int(counts.max())
        text += f"; most often {class_names[a][:40]!r} is taken for {class_names[b][:40]!r} ({n:,} of {int((labels == a).sum()):,})"
    yield Finding("encoder", "ok", text)


def _named(images: Images, index: int, class_names: Sequence[str]) -> str:
    name = images.ids[index].partition("/")[2]  # without the number of the split
    return f"{printable(name)[-80:]} ({class_names[images.labels[index]][:40]})"


def _of_copies(test: np.ndarray, others: np.ndarray, split: str) -> Iterator[Finding]:
    """Near copies across splits. The larger set says how near different photographs come."""
    turned = len(others) < len(test)
    found = near_copies(*((others, test) if turned else (test, others)))
    n = len(set(found.pairs[:, 1 if turned else 0].tolist()))
    if found.surely:
        text = f"{n:,} of the {len(test):,} test images are as near to one in {split} as copies are, where about"
        yield Finding("leaks", "note", f"{text} {found.by_chance:.1f} would be by chance: look at them")
