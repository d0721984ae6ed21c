"""Compressed bodies of HTTP requests and responses."""

import gzip
import zlib
from collections.abc import Callable
from typing import Protocol

import lz4.frame  # type: ignore[import-untyped]
import zstandard

from meterstream.local.clickhouse.errors import ErrorCode, ServerError

_ZSTD_LEVEL = 1
_GZIP_LEVEL = 3

# Little enough that what comes out of one step fits into memory, whatever the client packed:
# zstd packs up to 40,000 times, the others at most 1,000 times.
_STEP_BYTES = 64 * 1024
_ZSTD_STEP_BYTES = 4 * 1024


class _Stream(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, /) -> bytes: ...


_DECOMPRESS: dict[str, Callable[[], _Stream]] = {
    # 47: zlib finds out by itself whether it is gzip or zlib.
    "gzip": lambda: zlib.decompressobj(47),
    "deflate": lambda: zlib.decompressobj(47),
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
    "lz4": lz4.frame.LZ4FrameDecompressor,
}
_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda data: zstandard.compress(data, _ZSTD_LEVEL),
    "lz4": lz4.frame.compress,
    "gzip": lambda data: gzip.compress(data, _GZIP_LEVEL),
    "deflate": zlib.compress,
}


def decompress(data: bytes, encoding: str, *, limit_bytes: int) -> bytes:
    """Undo a content encoding (gzip, deflate, zstd, lz4; empty or identity: none).

    Raises ServerError for another encoding, broken data, or a result over the limit.
    """
    name = encoding.strip().lower()
    try:
        plain = _decompress(data, name, limit_bytes)
    except (zlib.error, zstandard.ZstdError, RuntimeError, EOFError, OSError) as error:
        raise ServerError(
            ErrorCode.CANNOT_DECOMPRESS, f"Cannot decompress the request as {name}: {error}"
        ) from error
    if len(plain) > limit_bytes:
        raise ServerError(
            ErrorCode.TOO_LARGE_STRING_SIZE,
            f"the request's body is larger than {limit_bytes} bytes: send it in parts",
        )
    return plain


def _decompress(data: bytes, name: str, limit_bytes: int) -> bytes:
    if name in ("", "identity") or not data:
        return data
    start = _DECOMPRESS.get(name)
    if start is None:
        raise ServerError(ErrorCode.NOT_IMPLEMENTED, f"Unknown Content-Encoding {name}")
    plain = bytearray()
    step_bytes = _ZSTD_STEP_BYTES if name == "zstd" else _STEP_BYTES
    # Several compressed streams in a row are one, as with gzip's and zstd's own tools.
    while data and len(plain) <= limit_bytes:
        stream = start()
        for at in range(0, len(data), step_bytes):
            plain += stream.decompress(data[at : at + step_bytes])
            if stream.eof or len(plain) > limit_bytes:
                break
        else:
            raise EOFError("it ends too early")
        data = (stream.unused_data or b"") + data[at + step_bytes :]
    return bytes(plain)


def choose_encoding(accepted: str) -> str | None:
    """Return the first encoding of an Accept-Encoding header that can be made, None if none can."""
    for part in accepted.split(","):
        name, _, quality = part.strip().partition(";")
        if name.lower() in _COMPRESS and quality.replace(" ", "") not in ("q=0", "q=0.0"):
            return name.lower()
    return None


def compress(data: bytes, encoding: str) -> bytes:
    """Apply one of the encodings that `choose_encoding` returns."""
    return _COMPRESS[encoding](data)
