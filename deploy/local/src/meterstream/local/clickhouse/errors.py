"""ClickHouse's errors as its HTTP interface tells them."""

import re
from enum import IntEnum


class ErrorCode(IntEnum):
    """The codes that this server raises by itself; all others come from the engine."""

    BAD_ARGUMENTS = 36
    NOT_IMPLEMENTED = 48
    SYNTAX_ERROR = 62
    UNKNOWN_FORMAT = 73
    READONLY = 164
    TOO_LARGE_STRING_SIZE = 131
    CANNOT_DECOMPRESS = 271
    ACCESS_DENIED = 497
    AUTHENTICATION_FAILED = 516
    UNKNOWN_EXCEPTION = 1002


# HTTP status by code, as ClickHouse's own server chooses it; all others are 500.
_STATUS: dict[int, int] = {
    **dict.fromkeys((516,), 401),
    **dict.fromkeys(
        (6, 15, 25, 26, 27, 36, 38, 41, 44, 53, 62, 72, 117, 271, 321, 376, 427, 457), 400
    ),
    **dict.fromkeys((192, 193, 497), 403),
    **dict.fromkeys((16, 46, 47, 50, 56, 60, 63, 73, 78, 81, 115), 404),
    159: 408,
    131: 413,
    48: 501,
    **dict.fromkeys((209, 439), 503),
}

_CODE = re.compile(r"Code: (\d+)\. (?:DB::)?\w*Exception: ")
_REPEATED = re.compile(r"(Code: (\d+)\. DB::Exception: )(?:Code: \2\. DB::Exception: )+")
_REPEATED_END = re.compile(r"( \((?:\w+)\))(?: \(version [^)]*\)\.?(?: \(\w+\))?\.?)+\s*$")
_STREAM_PREFIX = re.compile(r"^Streaming insert \w+ failed: ")


class ServerError(Exception):
    """A failed request: ClickHouse's error code and its text without the code."""

    def __init__(self, code: int, message: str, *, text: str | None = None) -> None:
        super().__init__(message)
        self.code = int(code)
        self._text = (
            text or f"Code: {self.code}. DB::Exception: {message}. ({ErrorCode(code).name})"
        )

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return _STATUS.get(self.code, 500)

    def body(self, version: str) -> str:
        """The body of the response, with the server's version at its end."""
        return f"{self._text} (version {version})\n"

    @classmethod
    def from_engine(cls, raw: str) -> "ServerError":
        """Read the engine's message; codes and versions that nesting repeats are told once."""
        text = _STREAM_PREFIX.sub("", raw.strip())
        text = _REPEATED.sub(r"\1", text)
        text = _REPEATED_END.sub(r"\1", text)
        match = _CODE.search(text)
        if match is None:
            return cls(ErrorCode.UNKNOWN_EXCEPTION, text)
        return cls(int(match[1]), text, text=text)
