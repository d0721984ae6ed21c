"""Users, encodings and errors of the embedded ClickHouse server."""

import base64

import pytest

from meterstream.local.clickhouse.auth import User, authenticate
from meterstream.local.clickhouse.compression import choose_encoding, compress, decompress
from meterstream.local.clickhouse.errors import ErrorCode, ServerError

_USERS = (User("default", "secret"), User("reader", "", read_only=True))


def _basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "url", "name"),
    [
        ({"x-clickhouse-user": "default", "x-clickhouse-key": "secret"}, {}, "default"),
        ({"x-clickhouse-key": "secret"}, {}, "default"),
        (_basic("default:secret"), {}, "default"),
        (_basic("reader:"), {}, "reader"),
        ({}, {"user": "default", "password": "secret"}, "default"),
        ({}, {"password": "secret"}, "default"),
    ],
)
def test_credentials_are_taken_from_where_clickhouse_takes_them(
    headers: dict[str, str], url: dict[str, str], name: str
) -> None:
    """Headers, basic auth and URL parameters all work."""
    assert authenticate(_USERS, headers, url).name == name


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({}, {}),
        (_basic("default:wrong"), {}),
        (_basic("reader:secret"), {}),
        ({"authorization": "Basic ???"}, {}),
        ({}, {"user": "nobody", "password": "secret"}),
        ({"x-clickhouse-user": "reader", "x-clickhouse-key": "wrong"}, {}),
    ],
)
def test_wrong_credentials_are_refused(headers: dict[str, str], url: dict[str, str]) -> None:
    """Whatever is wrong, the answer is the same code and status."""
    with pytest.raises(ServerError) as caught:
        authenticate(_USERS, headers, url)
    assert (caught.value.code, caught.value.status) == (ErrorCode.AUTHENTICATION_FAILED, 401)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4"])
@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 1000])
def test_each_encoding_comes_back_as_it_was(encoding: str, data: bytes) -> None:
    """What is compressed for a client is what was there."""
    assert decompress(compress(data, encoding), encoding, limit_bytes=1 << 20) == data


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "lz4"])
def test_a_body_that_grows_too_large_is_refused(encoding: str) -> None:
    """A small body cannot fill the memory."""
    with pytest.raises(ServerError, match="larger than 1000 bytes"):
        decompress(compress(bytes(1001), encoding), encoding, limit_bytes=1000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4"])
def test_broken_data_is_refused(encoding: str) -> None:
    """Data that is not what its header says is the client's fault."""
    with pytest.raises(ServerError) as caught:
        decompress(b"not compressed at all", encoding, limit_bytes=1000)
    assert caught.value.status == 400


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "lz4"])
def test_truncated_data_is_refused(encoding: str) -> None:
    """A body that was cut off is never taken for a shorter one."""
    whole = compress(bytes(range(256)) * 100, encoding)
    with pytest.raises(ServerError):
        decompress(whole[:-5], encoding, limit_bytes=1 << 20)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "lz4"])
def test_streams_in_a_row_are_one_body(encoding: str) -> None:
    """What tools append to a compressed file is read too."""
    joined = compress(b"one " * 5000, encoding) + compress(b"two", encoding)
    assert decompress(joined, encoding, limit_bytes=1 << 20) == b"one " * 5000 + b"two"


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("gzip, deflate, br, zstd", "gzip"),
        ("br;q=1.0, zstd;q=0.5", "zstd"),
        ("gzip;q=0, lz4", "lz4"),
        ("br", None),
        ("", None),
    ],
)
def test_the_first_encoding_that_can_be_made_is_chosen(accepted: str, chosen: str | None) -> None:
    """An encoding that the client refuses, or that is unknown here, is passed over."""
    assert choose_encoding(accepted) == chosen


@pytest.mark.parametrize(
    ("raw", "code", "status", "body"),
    [
        (
            "Code: 60. DB::Exception: Table d.t does not exist. (UNKNOWN_TABLE)",
            60,
            404,
            "Code: 60. DB::Exception: Table d.t does not exist. (UNKNOWN_TABLE) (version 1.2)\n",
        ),
        (
            (
                "Code: 73. DB::Exception: Code: 73. DB::Exception: Unknown format x. "
                "(UNKNOWN_FORMAT) (version 1.2). (UNKNOWN_FORMAT)"
            ),
            73,
            404,
            "Code: 73. DB::Exception: Unknown format x. (UNKNOWN_FORMAT) (version 1.2)\n",
        ),
        (
            (
                "Streaming insert finish failed: Code: 27. DB::Exception: Cannot parse input. "
                "(CANNOT_PARSE_INPUT_ASSERTION_FAILED) (version 1.2)"
            ),
            27,
            400,
            (
                "Code: 27. DB::Exception: Cannot parse input. "
                "(CANNOT_PARSE_INPUT_ASSERTION_FAILED) (version 1.2)\n"
            ),
        ),
        (
            "something else",
            1002,
            500,
            "Code: 1002. DB::Exception: something else. (UNKNOWN_EXCEPTION) (version 1.2)\n",
        ),
    ],
)
def test_the_engines_errors_are_told_as_clickhouse_tells_them(
    raw: str, code: int, status: int, body: str
) -> None:
    """Code, status and text are those of ClickHouse's own server."""
    error = ServerError.from_engine(raw)
    assert (error.code, error.status, error.body("1.2")) == (code, status, body)
