"""The wire form of a batch: a version byte, a compression byte, then MessagePack (zstd when that pays).

Version 1. Unchanged values are MessagePack extension type 1 with an empty body. An unknown version or extension is
an error, never a guess.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import zstandard

from worker_sync.core.change import Batch
from worker_sync.core.errors import UndecodableBatch
from worker_sync.core.values import UNCHANGED, Unchanged

VERSION: Final = 1
#: Bodies of at least this many bytes are compressed.
COMPRESS_FROM: Final = 64 * 1024
#: A body that claims to be larger than this is refused instead of being unpacked.
MAX_BODY: Final = 1 << 30

_PLAIN: Final = 0
_ZSTD: Final = 1
_EXT_UNCHANGED: Final = 1


def _enc_hook(value: Any) -> Any:
    if isinstance(value, Unchanged):
        return msgspec.msgpack.Ext(_EXT_UNCHANGED, b"")
    raise TypeError(f"{type(value).__name__} is not a canonical value")


def _ext_hook(code: int, body: memoryview) -> Any:
    if code == _EXT_UNCHANGED and not body:
        return UNCHANGED
    raise ValueError(f"unknown extension type {code}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_enc_hook)
_decoder = msgspec.msgpack.Decoder(Batch, ext_hook=_ext_hook)


def encode(batch: Batch) -> bytes:
    """The batch as bytes. Raises TypeError for a value that is not canonical."""
    body = _encoder.encode(batch)
    if len(body) < COMPRESS_FROM:
        return bytes((VERSION, _PLAIN)) + body
    return bytes((VERSION, _ZSTD)) + zstandard.ZstdCompressor(level=1).compress(body)


def decode(data: bytes) -> Batch:
    """Read back what `encode` wrote. Raises UndecodableBatch for anything else."""
    if len(data) < 2:
        raise UndecodableBatch(f"{len(data)} bytes are too few for a batch")
    version, compression = data[0], data[1]
    if version != VERSION:
        raise UndecodableBatch(f"wire version {version} is not known here (this is version {VERSION})")
    try:
        return _decoder.decode(_unpack(compression, data[2:]))
    except (msgspec.MsgspecError, zstandard.ZstdError, ValueError) as error:
        raise UndecodableBatch(f"damaged: {error}") from error


def _unpack(compression: int, body: bytes) -> bytes:
    if compression == _PLAIN:
        return body
    if compression != _ZSTD:
        raise ValueError(f"unknown compression {compression}")
    if zstandard.frame_content_size(body) > MAX_BODY:
        raise ValueError(f"claims to be larger than {MAX_BODY} bytes")
    return zstandard.ZstdDecompressor().decompress(body, max_output_size=MAX_BODY)
