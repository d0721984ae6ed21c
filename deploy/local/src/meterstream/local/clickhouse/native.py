"""Rewrites results in Native format for clients that ask for a newer protocol revision.

The engine writes Native as revision 0 of the protocol. clickhouse-go, and so
Grafana's ClickHouse data source, asks for a newer one by the URL parameter
`client_protocol_version` and then expects two things more: block information
before each block, and from revision 54454 on a flag before each column's data
that says whether a custom serialization follows. To place the flags one must
know where each column ends, which only its type tells.

Layouts: ClickHouse's documentation of the Native format and of its data types.
"""

import re
from typing import Final

from meterstream.local.clickhouse.errors import ErrorCode, ServerError

CUSTOM_SERIALIZATION_REVISION: Final = 54454
# Field 1, is_overflows: no. Field 2, bucket_num: -1. Field 0: the end.
_BLOCK_INFO: Final = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_DEFAULT_SERIALIZATION: Final = b"\x00"

_WIDTHS: Final = {
    "UInt8": 1, "UInt16": 2, "UInt32": 4, "UInt64": 8, "UInt128": 16, "UInt256": 32,
    "Int8": 1, "Int16": 2, "Int32": 4, "Int64": 8, "Int128": 16, "Int256": 32,
    "BFloat16": 2, "Float32": 4, "Float64": 8, "Bool": 1, "UUID": 16, "IPv4": 4, "IPv6": 16,
    "Date": 2, "Date32": 4, "DateTime": 4, "DateTime64": 8, "Time": 4, "Time64": 8,
    "Enum8": 1, "Enum16": 2, "Nothing": 1,
    "Decimal32": 4, "Decimal64": 8, "Decimal128": 16, "Decimal256": 32,
}  # fmt: skip
_DECIMAL_WIDTHS: Final = ((9, 4), (18, 8), (38, 16), (76, 32))
_INDEX_WIDTHS: Final = (1, 2, 4, 8)
_HAS_KEYS: Final = 1 << 9
_TYPE: Final = re.compile(r"(\w+)(?:\((.*)\))?\Z", re.DOTALL)
_ELEMENT_NAME: Final = re.compile(r"(?:\w+|`(?:[^`\\]|\\.)*`) (?=\w)")


def with_block_info(data: bytes) -> bytes:
    """Return the blocks as revision 54454 and later have them.

    Raises ServerError for a type whose layout is not known here.
    """
    written = bytearray()
    reader = _Reader(data)
    while reader.at < len(data):
        start = reader.at
        columns, rows = reader.varint(), reader.varint()
        written += _BLOCK_INFO + data[start : reader.at]
        for _ in range(columns):
            start = reader.at
            reader.string()
            type_name = reader.string().decode()
            written += data[start : reader.at] + _DEFAULT_SERIALIZATION
            start = reader.at
            if rows:
                reader.prefix(type_name)
                reader.values(type_name, rows)
            written += data[start : reader.at]
    return bytes(written)


class _Reader:
    """Walks over the data of one result."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def string(self) -> bytes:
        length = self.varint()
        self.at += length
        return self._data[self.at - length : self.at]

    def uint64(self) -> int:
        self.at += 8
        return int.from_bytes(self._data[self.at - 8 : self.at], "little")

    def prefix(self, type_name: str) -> None:
        """Pass over what stands before all values of a column: versions of dictionaries."""
        name, arguments = _parts(type_name)
        if name == "LowCardinality":
            self.at += 8
        elif name in ("Array", "Map", "Tuple", "Nullable"):
            for argument in arguments:
                self.prefix(_element_type(argument))
        elif name == "SimpleAggregateFunction":
            self.prefix(arguments[1])

    def values(self, type_name: str, count: int) -> None:
        """Pass over `count` values."""
        name, arguments = _parts(type_name)
        width = _width(name, arguments)
        if width is not None:
            self.at += width * count
        elif name == "String":
            for _ in range(count):
                length = self.varint()
                self.at += length
        elif name == "Nullable":
            self.at += count
            self.values(arguments[0], count)
        elif name in ("Array", "Map"):
            self.at += 8 * (count - 1)
            total = self.uint64()
            if total:
                for argument in arguments:
                    self.values(argument, total)
        elif name == "Tuple" and arguments:
            for argument in arguments:
                self.values(_element_type(argument), count)
        elif name == "SimpleAggregateFunction":
            self.values(arguments[1], count)
        elif name == "LowCardinality":
            self._low_cardinality(arguments[0])
        else:
            raise ServerError(
                ErrorCode.NOT_IMPLEMENTED,
                f"a column of type {type_name} cannot be sent to this client: cast it to a String",
            )

    def _low_cardinality(self, type_name: str) -> None:
        flags = self.uint64()
        if flags & _HAS_KEYS:
            name, arguments = _parts(type_name)
            self.values(arguments[0] if name == "Nullable" else type_name, self.uint64())
        indexes = self.uint64()
        self.at += indexes * _INDEX_WIDTHS[flags & 0xFF]


def _width(name: str, arguments: list[str]) -> int | None:
    """Return the bytes of one value of a type of fixed width, None for the others."""
    if name == "FixedString":
        return int(arguments[0])
    if name == "Decimal":
        return next(width for digits, width in _DECIMAL_WIDTHS if int(arguments[0]) <= digits)
    if name.startswith("Interval"):
        return 8
    return _WIDTHS.get(name)


def _parts(type_name: str) -> tuple[str, list[str]]:
    match = _TYPE.match(type_name.strip())
    if match is None:
        return type_name, []
    return match[1], _split(match[2]) if match[2] else []


def _split(arguments: str) -> list[str]:
    """Split at the commas that stand in no parentheses and no quotes."""
    found, depth, start, quote = [], 0, 0, ""
    at = 0
    while at < len(arguments):
        sign = arguments[at]
        if quote:
            if sign == "\\":
                at += 1
            elif sign == quote:
                quote = ""
        elif sign in "'`":
            quote = sign
        elif sign == "(":
            depth += 1
        elif sign == ")":
            depth -= 1
        elif sign == "," and depth == 0:
            found.append(arguments[start:at].strip())
            start = at + 1
        at += 1
    return [*found, arguments[start:].strip()]


def _element_type(argument: str) -> str:
    """Return the type of a tuple's element, which may have a name before it."""
    return _ELEMENT_NAME.sub("", argument, count=1) if " " in argument else argument
