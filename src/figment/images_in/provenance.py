"""Was an image generated? By what its own file says, or the table it lies in: the name of its folder says nothing.

A generated image with every mark taken off is not found here. Whoever edits a photograph with a generator marks it alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from figment.files import open_parquet
from figment.images_in.shards import ShardImages
from figment.images_in.tones import White
from figment.images_in.unreadable import Unreadable
from figment.types import Images, Indices

#: What figment's tables of images have besides image and label: those of a run, and exports. Its real images have none of these.
COLUMNS = {"prompt", "seed", "group", "digest"}

#: Who made it, and what all stands in its file then, as it is: none of these texts is compressed in PNG, JPEG, WebP, TIFF or AVIF.
MARKS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("figment", (b'xmp:CreatorTool="figment"',)),
    ("Stable Diffusion web UI", (b"Steps: ", b", Sampler: ")),  # PNG's parameters, and Exif in UTF-16
    ("Stable Diffusion web UI", ("Steps: ".encode("utf-16-be"), ", Sampler: ".encode("utf-16-be"))),
    ("ComfyUI", (b"Xtprompt\0", b'"class_type"')),
    ("InvokeAI", (b"Xtinvokeai_metadata\0",)),
    ("InvokeAI", (b"Xtsd-metadata\0",)),
    ("NovelAI", (b"XtSoftware\0NovelAI",)),
    # IPTC's digital source type, in XMP or a C2PA manifest: trainedAlgorithmicMedia, compositeWithTrainedAlgorithmicMedia, algorithmicMedia.
    ("its digital source type", (b"digitalsourcetype/", b"lgorithmicMedia")),
)
FIGMENT = MARKS[0][0]

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmp:CreatorTool="figment"
 Iptc4xmpExt:DigitalSourceType="{kind}"/></rdf:RDF></x:xmpmeta>"""


class Stored(Images, Protocol):
    """Images whose files can be had as they are."""

    @property
    def white(self) -> White:
        """What is white in those of more than 8 bits."""
        ...

    def take(self, indices: Indices) -> Stored:
        """The same kind of object with only these images, in this order."""
        ...

    def data(self, index: int) -> bytes:
        """Undecoded. Raises :class:`figment.images_in.Unreadable`."""
        ...


def maker_of(data: bytes) -> str:
    """Who made the image in a file, in words, as far as the file says that it was generated; else ``""``."""
    return next((maker for maker, texts in MARKS if all(text in data for text in texts)), "")


def source_type(trained: bool) -> str:
    """IPTC's address for where an image comes from; ``trained``: made by a model, not by a mere procedure."""
    kind = "trainedAlgorithmicMedia" if trained else "algorithmicMedia"
    return f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"


def xmp(trained: bool) -> str:
    """What figment writes into the images that it exports; ``trained`` as for :func:`source_type`."""
    return XMP.format(kind=source_type(trained))


def is_signed(data: bytes) -> bool:
    """Whether a file holds a C2PA manifest. Cameras write them too; what it says is not read, nor its signature."""
    return b"jumb" in data and b"c2pa" in data


def makers_by_table(images: Images) -> Mapping[int, str]:
    """Position -> maker, of images in Parquet files with the columns of generated ones."""
    if not isinstance(images, ShardImages):
        return {}
    names = [set(open_parquet(path).schema_arrow.names) for path in images.shards.files]
    ours = np.flatnonzero([own >= COLUMNS for own in names])
    files = np.searchsorted(images.shards.start, images.rows, "right") - 1
    return dict.fromkeys(np.flatnonzero(np.isin(files, ours)).tolist(), FIGMENT)


def read(images: Stored, index: int) -> bytes | None:
    """The file of one image; None where it cannot be read, which is said when it is decoded."""
    try:
        return images.data(index)
    except Unreadable:
        return None
