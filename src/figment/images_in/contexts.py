"""What each image shows besides its class, its background and the pose: words beside the images, for captions that say all of it."""

from __future__ import annotations

from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in.groups import looked_up
from figment.images_in.table import read_pairs
from figment.types import Images
from figment.words import printable


def contexts_of(images: Images, where: str, field: str) -> list[str]:
    """The context of each image, from a CSV: a column with the image's id or file name, and one or more with words, joined by commas.

    ``field`` names the setting in messages. Raises FigmentError for a file that is not there or cannot be read, and where an image
    has no context.
    """
    path = as_path(where)
    if not path.is_file():
        raise FigmentError(f"{field}: there is no file {path}.")
    found = looked_up(images.ids, read_pairs(path, join=", "), path)
    without = [id for id, words in zip(images.ids, found, strict=True) if words is None]
    if without:
        raise FigmentError(
            f"{field}: {path} says nothing of {len(without):,} of the {len(found):,} images, such as {printable(without[0])[-80:]}. Write"
            " a line for each: its file name, then its background, its pose, or both."
        )
    return [words for words in found if words is not None]


def in_context(sentence: str, context: str) -> str:
    """``a photo of a cat, on a sofa, seen from above``."""
    return f"{sentence.rstrip('. ')}, {context}"
