"""Traces of requests to models, read row by row as run events' fields.

The format is recognised by the header:

- Azure LLM inference: `TIMESTAMP,ContextTokens,GeneratedTokens`, UTC, up to 7 decimals;
- Mooncake: `timestamp_ms,input_length,output_length`, milliseconds from any start;
- own CSV: `time` and any columns that are named as the fields of a completed run.
"""

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from meterstream.cli.errors import BadInput
from meterstream.schemas.fields import MAX_TOKENS
from meterstream.schemas.run import RunCompletedData
from meterstream.schemas.times import parse_rfc3339, to_us

Value = str | int


class TraceRow(NamedTuple):
    """One row: its line in the file, its time, and the fields of a run that it names."""

    line: int
    time_us: int
    fields: dict[str, Value]


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """How the rows of one format are read, and which fields they name."""

    name: str
    columns: frozenset[str]
    read: Callable[[Sequence[str], int], TraceRow]


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace that has been read once, whole: every row is known to be well formed.

    `digest` is the SHA-256 of the file, so that the same content is the same trace wherever it
    lies. Times are in microseconds since 1970 as the file has them.
    """

    path: Path
    format: TraceFormat
    digest: str
    rows: int
    first_us: int
    last_us: int
    input_tokens: int
    output_tokens: int
    lacks: frozenset[str] = field(default_factory=frozenset)

    def __iter__(self) -> Iterator[TraceRow]:
        """Read the rows once more, in the file's order."""
        return _rows(self.path, self.format)


_INTEGERS: Final = frozenset(
    name
    for name, info in RunCompletedData.model_fields.items()
    if "int" in str(info.annotation) and "dict" not in str(info.annotation)
)
_TEXTS: Final = frozenset(
    name
    for name in RunCompletedData.model_fields
    if name not in _INTEGERS and name not in {"tags", "quantities", "started_at", "ended_at"}
)
OWN_COLUMNS: Final = frozenset({"id", "time"} | _INTEGERS | _TEXTS)
"""What an own CSV may name. Start and end follow from `time` and `latency_us`."""

MADE_UP: Final = (
    "id",
    "team_id",
    "user_id",
    "agent_id",
    "model",
    "latency_us",
    "time_to_first_token_us",
)
"""What is made from the seed where a trace does not name it."""


def load_trace(path: Path) -> Trace:
    """Read a trace whole and check every row, so that nothing is sent of one that is broken.

    Raises BadInput with the line where the file is not a trace.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        form = _recognise(path)
        rows = input_tokens = output_tokens = 0
        first_us = last_us = 0
        for row in _rows(path, form):
            if rows == 0:
                first_us = last_us = row.time_us
            rows += 1
            first_us = min(first_us, row.time_us)
            last_us = max(last_us, row.time_us)
            input_tokens += int(row.fields.get("input_tokens", 0))
            output_tokens += int(row.fields.get("output_tokens", 0))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not text in UTF-8 (byte {error.start})") from error
    if rows == 0:
        raise BadInput(f"{path} has a header and no rows: there is nothing to replay")
    return Trace(
        path=path,
        format=form,
        digest=digest,
        rows=rows,
        first_us=first_us,
        last_us=last_us,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        lacks=frozenset(MADE_UP) - form.columns,
    )


def _recognise(path: Path) -> TraceFormat:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = [name.strip() for name in next(csv.reader(file), [])]
    names = frozenset(header)
    if len(names) != len(header):
        raise BadInput(f"{path} names a column twice in its header")
    if {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} <= names:
        return _two_counts("Azure LLM inference", header, _AZURE, _azure_time_us)
    if {"timestamp_ms", "input_length", "output_length"} <= names:
        return _two_counts("Mooncake", header, _MOONCAKE, _mooncake_time_us)
    if "time" in names:
        unknown = sorted(names - OWN_COLUMNS)
        if unknown:
            raise BadInput(
                f"{path} has columns that no run event has: {', '.join(unknown)}. "
                f"Known ones: {', '.join(sorted(OWN_COLUMNS))}"
            )
        return _own(header)
    raise BadInput(
        f"{path} is no known trace: its header is {','.join(header)[:80]!r}. Known are "
        "TIMESTAMP,ContextTokens,GeneratedTokens (Azure), "
        "timestamp_ms,input_length,output_length (Mooncake), "
        "and `time` with columns named as the fields of a run event"
    )


def _rows(path: Path, form: TraceFormat) -> Iterator[TraceRow]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader)
        try:
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise ValueError(f"{len(cells)} cells where the header has {len(header)}")
                yield form.read(cells, reader.line_num)
        except (ValueError, csv.Error) as error:
            raise BadInput(f"{path}, line {reader.line_num}: {error}") from error


_AZURE: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MOONCAKE: Final = ("timestamp_ms", "input_length", "output_length")


def _two_counts(
    name: str, header: Sequence[str], wanted: tuple[str, str, str], time_us: Callable[[str], int]
) -> TraceFormat:
    at_time, at_input, at_output = (header.index(column) for column in wanted)

    def read(cells: Sequence[str], line: int) -> TraceRow:
        return TraceRow(
            line,
            time_us(cells[at_time].strip()),
            {"input_tokens": _tokens(cells[at_input]), "output_tokens": _tokens(cells[at_output])},
        )

    return TraceFormat(name, frozenset({"input_tokens", "output_tokens"}), read)


def _own(header: Sequence[str]) -> TraceFormat:
    def read(cells: Sequence[str], line: int) -> TraceRow:
        fields: dict[str, Value] = {}
        time_us = 0
        for name, cell in zip(header, cells, strict=True):
            if name == "time":
                time_us = to_us(parse_rfc3339(cell.strip()))
            elif cell == "" and name in {"id", "team_id"}:
                raise ValueError(f"{name} is empty")
            elif cell != "":
                fields[name] = _count(cell) if name in _INTEGERS else cell
        return TraceRow(line, time_us, fields)

    return TraceFormat("own CSV", frozenset(header), read)


def _azure_time_us(text: str) -> int:
    zoned = text if text[-1:] in {"Z", "z"} or text[-6:-5] in {"+", "-"} else text + "Z"
    return to_us(parse_rfc3339(zoned))


def _mooncake_time_us(text: str) -> int:
    return _count(text) * 1000


def _tokens(text: str) -> int:
    tokens = _count(text)
    if tokens > MAX_TOKENS:
        raise ValueError(f"{tokens} tokens are more than the {MAX_TOKENS} that one run may have")
    return tokens


def _count(text: str) -> int:
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdigit()):
        raise ValueError(f"{stripped[:40]!r} is not a whole number of 0 or more")
    return int(stripped)
