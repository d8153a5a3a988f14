"""Labelled pictures from where they lie: labels and content hashes at once, pixels only when asked for."""

from figment.pictures.decode import decode
from figment.pictures.folder import FilePictures
from figment.pictures.open import open_pictures
from figment.pictures.shards import ShardPictures, open_shards
from figment.pictures.unreadable import Unreadable

__all__ = ["FilePictures", "ShardPictures", "Unreadable", "decode", "open_pictures", "open_shards"]
