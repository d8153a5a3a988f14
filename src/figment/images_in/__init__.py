"""Labelled images from where they lie: labels and content hashes at once, pixels only when asked for."""

from figment.images_in.decode import decode, pixel_hash
from figment.images_in.folder import FileImages
from figment.images_in.open import open_images
from figment.images_in.shards import ShardImages, open_shards
from figment.images_in.unreadable import Unreadable

__all__ = ["FileImages", "ShardImages", "Unreadable", "decode", "open_images", "open_shards", "pixel_hash"]
