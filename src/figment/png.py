"""PNG with one filter for the whole image: any viewer opens it, and it is read back several times faster than others.

PNG lets every row choose among five filters, two of which can only be undone pixel after pixel. The filter "up" alone is
undone by a running sum over the rows, which numpy does for the whole image at once. Files grow by about a tenth.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
UP = 2
RGB8 = bytes([8, 2, 0, 0, 0])  # bit depth, colour type, compression, filter method, no interlace
LEVEL = 4  # more is slow and saves little
HEADER = 33  # bytes before the first chunk that is not the header
SMALL = 48  # pixels of width: up to there, what has to be done once an image takes as long as its pixels


def encode(image: np.ndarray) -> bytes:
    """``uint8 (H, W, 3)`` to a PNG file. Lossless, and the same bytes for the same pixels."""
    height, width, _ = image.shape
    pixels = np.ascontiguousarray(image).reshape(height, 3 * width)
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = UP
    rows[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])  # modulo 256, as PNG has it
    header = struct.pack(">II", width, height) + RGB8
    return b"".join(
        [SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", _deflate(rows.data, width)), _chunk(b"IEND", b"")]
    )


def with_xmp(data: bytes, packet: str) -> bytes:
    """A file that :func:`encode` made, with a packet of XMP before its pixels; :func:`decode` reads it as fast."""
    text = b"XML:com.adobe.xmp" + bytes(5) + packet.encode()  # uncompressed, no language, no translated keyword
    return data[:HEADER] + _chunk(b"iTXt", text) + data[HEADER:]


def _deflate(rows: memoryview, width: int) -> bytes:
    """zlib's. For small images with the code that is known beforehand: to read one of its own takes longer than the image."""
    strategy = zlib.Z_FIXED if width <= SMALL else zlib.Z_DEFAULT_STRATEGY
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    return packer.compress(rows) + packer.flush()


def decode(data: bytes) -> np.ndarray | None:
    """The pixels of a file that :func:`encode` made, ``uint8 (H, W, 3)``; None for any other file and for damaged ones."""
    return decode_many([data])[0]


def decode_many(files: Sequence[bytes]) -> list[np.ndarray | None]:
    """:func:`decode` of each. Small images of one size share the work, and the array they lie in."""
    found = [_inflate(data) for data in files]
    shapes = {None if rows is None else rows[1:] for rows in found}
    if len(shapes) == 1 and (shape := shapes.pop()) is not None and shape[1] <= SMALL:
        return list(_running_sum(b"".join([rows[0] for rows in found if rows is not None]), *shape))
    return [None if rows is None else _running_sum(*rows)[0] for rows in found]


def _inflate(data: bytes) -> tuple[bytes, int, int] | None:
    """The filtered rows of a file that :func:`encode` made, each after its filter's number; the height and the width."""
    at = HEADER
    if data[at + 4 : at + 8] == b"iTXt":
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    if data[:8] != SIGNATURE or data[24:29] != RGB8 or data[at + 4 : at + 8] != b"IDAT" or data[-8:-4] != b"IEND":
        return None
    width, height, size = *struct.unpack_from(">II", data, 16), int.from_bytes(data[at : at + 4], "big")
    whole = height * (1 + 3 * width)
    # Behind the chunk of pixels, 12 bytes longer than they are, IEND takes 12. Deflate packs 1:1032 at best.
    if len(data) != at + 24 + size or not 0 < whole <= 1032 * size:
        return None
    try:
        raw = zlib.decompress(memoryview(data)[at + 8 : at + 8 + size], bufsize=whole)
    except zlib.error:
        return None
    if len(raw) != whole:
        return None
    if raw[:: 1 + 3 * width].count(UP) != height:
        return None
    return raw, height, width


def _running_sum(raw: bytes, height: int, width: int) -> np.ndarray:
    """Undo the filter of images of one size: rows are added up, modulo 256. ``uint8 (N, H, W, 3)``."""
    total = np.frombuffer(raw, np.uint8).reshape(-1, height, 1 + 3 * width)[:, :, 1:].copy()
    step = 1  # np.add.accumulate goes down one column after another, which is slow
    while step < height:
        total[:, step:] += total[:, :-step]  # each row is now the sum of the last 2 * step
        step *= 2
    return total.reshape(-1, height, width, 3)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
