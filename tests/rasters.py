"""Image files that Pillow does not write, made by hand: TIFF with any tags, PNG with 16 bits and any chunks."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def tiff(pixels: np.ndarray, tags: dict[int, int | tuple[int, ...]], bits: int = 0) -> bytes:
    """``(H, W)`` or ``(H, W, bands)``, uncompressed in one strip. Other tags by number; all values are SHORT. ``bits`` for packed ones."""
    height, width, bands = pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)
    own = {
        256: width,
        257: height,
        258: (bits or 8 * pixels.itemsize,) * bands,
        259: 1,
        277: bands,
        278: height,
        **tags,
    }
    lists = {tag: value if isinstance(value, tuple) else (value,) for tag, value in own.items()}
    entries = {tag: (3, len(value), struct.pack(f"<{len(value)}H", *value)) for tag, value in lists.items()}
    data = pixels.tobytes()
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries |= {273: (4, 1, struct.pack("<I", start)), 279: (4, 1, struct.pack("<I", len(data)))}
    table, beyond = b"", b""
    for tag, (kind, count, value) in sorted(entries.items()):
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place, beyond = struct.pack("<I", start + len(data) + len(beyond)), beyond + value
        table += struct.pack("<HHI", tag, kind, count) + place
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + bytes(4) + data + beyond


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk before its pixels."""
    return png[:33] + chunk(kind, body) + png[33:]


def png16(pixels: np.ndarray) -> bytes:
    """``uint16 (H, W)`` grey, ``(H, W, 3)`` or, with transparency, ``(H, W, 4)``."""
    height, width = pixels.shape[:2]
    kind = {(): 0, (3,): 2, (4,): 6}[pixels.shape[2:]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
