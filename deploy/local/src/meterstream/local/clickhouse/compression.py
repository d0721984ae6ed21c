"""Compressed bodies of HTTP requests and responses."""

import gzip
import zlib
from collections.abc import Callable

import lz4.frame  # type: ignore[import-untyped]
import zstandard

from meterstream.local.clickhouse.errors import ErrorCode, ServerError

_ZSTD_LEVEL = 1
_GZIP_LEVEL = 3

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
    if name in ("gzip", "deflate"):
        # 47: zlib finds out by itself whether it is gzip or zlib.
        return zlib.decompressobj(47).decompress(data, limit_bytes + 1)
    if name == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return reader.read(limit_bytes + 1)
    if name == "lz4":
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=limit_bytes + 1))
    raise ServerError(ErrorCode.NOT_IMPLEMENTED, f"Unknown Content-Encoding {name}")


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
