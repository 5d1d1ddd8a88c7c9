"""Replies and source rows in less room: zstd, told from plain ones by the checksum of what was written."""

import struct
import zlib

import pyarrow as pa

MOST = 1 << 30
"""Bytes that a packed text may have: more is damage."""

_SIZE = struct.Struct("<I")
_CODEC = pa.Codec("zstd", compression_level=3)


def pack(content: bytes) -> bytes:
    """`content` compressed, behind its size; or as it is, where that is no longer."""
    if len(content) > MOST:
        return content
    packed = _SIZE.pack(len(content)) + _CODEC.compress(content, asbytes=True)
    return packed if len(packed) < len(content) else content


def unpack(stored: bytes, checksum: int) -> bytes | None:
    """The content whose CRC-32 is `checksum`, which is `stored` as it is or packed; None where it is neither, being damaged."""
    if zlib.crc32(stored) == checksum:
        return stored
    if len(stored) < _SIZE.size:
        return None
    (size,) = _SIZE.unpack_from(stored)
    try:
        content: bytes = _CODEC.decompress(stored[_SIZE.size :], size, asbytes=True) if size <= MOST else b""
    except (pa.ArrowException, OSError, MemoryError):
        return None
    return content if zlib.crc32(content) == checksum else None
