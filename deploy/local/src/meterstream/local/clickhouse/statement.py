"""Reads the shape of one SQL statement, as far as an HTTP server must know it.

The engine parses SQL; this file only finds where a statement ends, which format
it names, and where the data of an INSERT begins. It works on bytes, since the
data of an INSERT may be binary.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from meterstream.local.clickhouse.errors import ErrorCode, ServerError

_TOKEN = re.compile(
    rb"""
      (?P<skip>\s+ | --[^\n]* | //[^\n]* | \#[ !][^\n]* | /\*.*?(?:\*/|\Z))
    | (?P<text>'(?:[^'\\]|\\.|'')*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<quoted>`(?:[^`\\]|\\.|``)*` | "(?:[^"\\]|\\.|"")*")
    | (?P<word>[A-Za-z_\x80-\xff][\w\x80-\xff]*)
    | (?P<number>\d\w*)
    | (?P<sign>.)
    """,
    re.DOTALL | re.VERBOSE,
)
_AFTER_FORMAT = re.compile(rb"[ \t\f]*(?:\r?\n)?")
_OPENING, _CLOSING = b"([{", b")]}"

_READ_KEYWORDS = frozenset(
    {b"SELECT", b"WITH", b"SHOW", b"DESCRIBE", b"DESC", b"EXPLAIN", b"EXISTS"}
)
_DATA_FROM_QUERY = frozenset({b"SELECT", b"WITH", b"WATCH", b"EXPLAIN"})


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["text", "quoted", "word", "number", "sign"]
    value: bytes
    start: int
    end: int
    depth: int

    @property
    def keyword(self) -> bytes:
        return self.value.upper() if self.kind == "word" else b""


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT that brings its data: what stands before FORMAT, the format, where data starts."""

    header: str
    format: str
    data_start: int


@dataclass(frozen=True, slots=True)
class Query:
    """Any other statement; `format` is the one that its FORMAT clause names."""

    text: str
    format: str | None
    reads_only: bool


def parse(sql: bytes) -> Insert | Query:
    """Read one statement, followed by the data if it is an INSERT with data.

    Raises ServerError for several statements, for files on the server's side
    (INTO OUTFILE, FROM INFILE) and for text that is not UTF-8.
    """
    insert = _parse_insert(sql)
    return insert if insert is not None else _parse_query(sql)


def used_names(sql: bytes) -> tuple[frozenset[str], frozenset[str]]:
    """Return all identifiers of a statement, and those that `(` follows, in lower case."""
    names, called = set(), set()
    previous = _NOTHING
    for token in _tokens(sql):
        if token.kind in ("word", "quoted"):
            names.add(_plain_name(token))
        elif token.value == b"(" and previous.kind in ("word", "quoted"):
            called.add(_plain_name(previous))
        previous = token
    return frozenset(names), frozenset(called)


def _plain_name(token: _Token) -> str:
    value = token.value[1:-1] if token.kind == "quoted" else token.value
    return value.decode(errors="replace").lower()


def _tokens(sql: bytes) -> Iterator[_Token]:
    depth = 0
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup
        if kind == "tag":
            kind = "text"
        if kind is None or kind == "skip":
            continue
        value = match[0]
        if kind == "sign" and value in _CLOSING:
            depth -= 1
        yield _Token(kind, value, match.start(), match.end(), depth)  # type: ignore[arg-type]
        if kind == "sign" and value in _OPENING:
            depth += 1


def _parse_insert(sql: bytes) -> Insert | None:
    """Return None when it is no INSERT, or one whose data comes from a query."""
    tokens = _tokens(sql)
    if next(tokens, _NOTHING).keyword != b"INSERT" or next(tokens, _NOTHING).keyword != b"INTO":
        return None
    # The table may bear the name of a keyword, so its first word is not looked at.
    target = next(tokens, _NOTHING)
    if target.keyword in (b"TABLE", b"FUNCTION"):
        next(tokens, None)
    for token in tokens:
        if token.depth != 0:
            continue
        if token.keyword in _DATA_FROM_QUERY:
            return None
        if token.keyword == b"VALUES":
            return Insert(_decode(sql[: token.start]), "Values", token.end)
        if token.keyword == b"FROM":
            raise ServerError(
                ErrorCode.NOT_IMPLEMENTED, "FROM INFILE reads the client's files: send the data"
            )
        if token.keyword == b"FORMAT":
            name = next(tokens, _NOTHING)
            if name.kind != "word":
                break
            after = _AFTER_FORMAT.match(sql, name.end)
            assert after is not None, "the pattern matches the empty string"
            return Insert(_decode(sql[: token.start]), _decode(name.value), after.end())
        if token.value == b";":
            break
    return None


def split_settings(header: str) -> tuple[str, str]:
    """Split what stands before FORMAT into the target of an INSERT and its SETTINGS clause."""
    sql = header.encode()
    for token in _tokens(sql):
        if token.depth == 0 and token.keyword == b"SETTINGS":
            return _decode(sql[: token.start]).rstrip(), _decode(sql[token.start :]).strip()
    return header.rstrip(), ""


def _parse_query(sql: bytes) -> Query:
    format_name: str | None = None
    first = previous = _NOTHING
    end = len(sql)
    for token in _tokens(sql):
        if end != len(sql):
            _refuse_second(sql, end)
        if first is _NOTHING and token.value != b"(":
            first = token
        if previous.keyword == b"INTO" and token.keyword == b"OUTFILE":
            raise ServerError(ErrorCode.NOT_IMPLEMENTED, "INTO OUTFILE is not allowed over HTTP")
        if previous.keyword == b"PYTHON" and token.value == b"(":
            raise ServerError(ErrorCode.ACCESS_DENIED, "the table function Python is not allowed")
        if previous.keyword == b"FORMAT" and previous.depth == 0 and token.kind == "word":
            format_name = _decode(token.value)
        if token.value == b";":
            end = token.start
        previous = token
    return Query(_decode(sql[:end]), format_name, first.keyword in _READ_KEYWORDS)


def _refuse_second(sql: bytes, at: int) -> None:
    shown = _decode(sql[at : at + 40])
    raise ServerError(
        ErrorCode.SYNTAX_ERROR,
        f"Syntax error (Multi-statements are not allowed): failed at position {at + 1}: {shown}",
    )


def _decode(sql: bytes) -> str:
    try:
        return sql.decode()
    except UnicodeDecodeError as error:
        raise ServerError(
            ErrorCode.SYNTAX_ERROR, f"the statement is not UTF-8: {error.reason} at {error.start}"
        ) from error


_NOTHING = _Token("sign", b"", 0, 0, 0)
