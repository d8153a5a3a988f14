"""What each real image is said to show, while a generator is tuned on it."""

from __future__ import annotations

from collections.abc import Sequence

from figment.errors import FigmentError
from figment.generate.finetune_settings import FinetuneSettings
from figment.images_in.contexts import contexts_of, in_context
from figment.images_in.groups import column_of
from figment.types import Images
from figment.words import printable


def captions_of(images: Images, class_names: Sequence[str], settings: FinetuneSettings) -> list[str]:
    """A caption for each image: its class in the template, in its context where one is told, or its own.

    Raises FigmentError where an image has none.
    """
    if settings.caption_column is not None:
        column = settings.caption_column
        said = column_of(images, column, "generate.finetune.caption_column")
        without = [id for id, text in zip(images.ids, said, strict=True) if not (text or "").strip()]
        if without:
            raise FigmentError(
                f"generate.finetune.caption_column: {len(without):,} of the {len(said):,} images have an empty {column!r}, such as"
                f" {printable(without[0])[-80:]}. Write a caption for each, or leave caption_column out: the class's name is one."
            )
        return [str(text) for text in said]
    template = settings.template or "a photo of a {}"
    sentences = [template.replace("{}", class_names[label]) for label in images.labels]
    if settings.contexts is None:
        return sentences
    contexts = contexts_of(images, settings.contexts, "generate.finetune.contexts")
    return [in_context(sentence, context) for sentence, context in zip(sentences, contexts, strict=True)]
