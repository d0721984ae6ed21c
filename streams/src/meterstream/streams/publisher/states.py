"""Where limits stand, on the way to `limit-states`: of each limit the last state, encoded fast."""

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import repeat
from typing import Any, Final

import msgspec

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.control import LIMIT_REMOVED
from meterstream.schemas.journal import MalformedRecord, Section
from meterstream.schemas.rows import LIMIT_STATE
from meterstream.schemas.thresholds import Owners

from .encoding import UNREADABLE, columns_of, encode, time_text
from .place import Place

_SCHEMA: Final = arrow_schema(LIMIT_STATE)
_COLUMNS: Final = {name: i for i, name in enumerate(_SCHEMA.names)}
_NO_END: Final = "balance"
"""The window that does not end."""
_KIND: Final[dict[Owners, str]] = {"teams": "team", "organisations": "organisation"}
"""How keys name an owner."""
_OWNER_ID: Final[dict[Owners, str]] = {"teams": "team_id", "organisations": "organisation_id"}
"""How entries name one. The column team_id of LIMIT_STATE holds either."""

Row = tuple[Any, ...]
"""One row of LIMIT_STATES, in the order of its columns, and the `as_of` of its record."""


class _State(msgspec.Struct, gc=False):
    """`LimitState`, field by field: a property test holds the two together."""

    team_id: str | msgspec.UnsetType
    organisation_id: str | msgspec.UnsetType
    limit_id: str
    limit_version: int
    subject: str
    subject_id: str | msgspec.UnsetType
    measure: str
    window: str
    window_start: str
    window_end: str | msgspec.UnsetType
    amount: int
    as_of: msgspec.Raw
    enforcement: str
    state: str
    used: int
    reached_permille: int


class States:
    """The states of a partition's limits that are not published yet."""

    def __init__(self, owners: Owners = "teams") -> None:
        self._owners = owners
        self._rows: dict[tuple[str, str], Row | None] = {}
        """By owner and limit; None where the limit was removed."""

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, sections: dict[Section, memoryview], place: Place) -> None:
        """Take what a valid record tells of limits; `place` is up to where was counted with it.

        What removes a limit is an entry, and a row where it stood in a window: so the entries come
        first, and one that is set anew in the same record has a row. Raises MalformedRecord where
        the sections cannot be read.
        """
        clock_us = place.link.clock_us
        told: dict[tuple[str, str], Row | None] = {}
        try:
            if Section.CONTROL in sections:
                removed = _removed(sections[Section.CONTROL], self._owners)
                told.update((key, None) for key in removed)
            if Section.LIMIT_STATES in sections:
                rows = _rows(sections[Section.LIMIT_STATES], place.as_of())
                told.update(
                    ((row[0], row[1]), None if row[_REMOVED] else row)
                    for row in rows
                    if row[_REMOVED] or _holds(row, clock_us)
                )
        except UNREADABLE as error:
            raise MalformedRecord(
                f"what journal offset {place.link.prev} tells of limits cannot be read: {error}"
            ) from error
        self._rows.update(told)

    def records(self, clock_us: int) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield key and value of each state; without a value it is a tombstone.

        A window that ended while its state waited, by the clock, is left out: the state of the next
        one follows.
        """
        for key, row in self._rows.items():
            if row is None:
                yield _key(self._owners, *key), None
            elif _holds(row, clock_us):
                yield _key(self._owners, *key), encode(_state(row, self._owners))

    def clear(self) -> None:
        """Forget all of them: they are published."""
        self._rows.clear()


def _removed(control: memoryview, owners: Owners) -> Iterator[tuple[str, str]]:
    """Yield owner and limit of each limit of `owners` that the entries of a record remove."""
    owner = _OWNER_ID[owners]
    for _, _, text in msgspec.json.decode(control, type=list[tuple[int, int, str]]):
        if LIMIT_REMOVED not in text:
            continue
        event = json.loads(text)
        if event["type"] == LIMIT_REMOVED and event["data"].get(owner) is not None:
            yield event["data"][owner], event["data"]["limit_id"]


def _rows(section: memoryview, as_of: msgspec.Raw) -> Iterator[Row]:
    columns = columns_of(section, _SCHEMA)
    return zip(*columns, repeat(as_of, len(columns[0])), strict=True)


_WINDOW: Final = _COLUMNS["window"]
_START: Final = _COLUMNS["window_start"]
_END: Final = _COLUMNS["window_end"]
_REMOVED: Final = _COLUMNS["removed"]


def _holds(row: Row, clock_us: int) -> bool:
    """Tell whether the clock lies in the row's window."""
    return row[_WINDOW] == _NO_END or bool(row[_START] <= clock_us < row[_END])


def _state(row: Row, owners: Owners) -> _State:
    (
        owner_id, limit_id, version, subject, subject_id, measure, window, start_us, end_us, amount,
        enforcement, used, reached_permille, blocked, _, as_of,
    ) = row  # fmt: skip
    return _State(
        owner_id if owners == "teams" else msgspec.UNSET,
        owner_id if owners == "organisations" else msgspec.UNSET,
        limit_id,
        version,
        subject,
        subject_id or msgspec.UNSET,
        measure,
        window,
        time_text(start_us),
        msgspec.UNSET if window == _NO_END else time_text(end_us),
        amount,
        as_of,
        enforcement,
        "blocked" if blocked else "admitting",
        used,
        reached_permille,
    )


_compact: Final = json.JSONEncoder(separators=(",", ":")).encode


@lru_cache(maxsize=100_000)
def _key(owners: Owners, owner_id: str, limit_id: str) -> bytes:
    """Return what `schemas.thresholds.state_key` returns for a limit of `owners`."""
    return _compact([_KIND[owners], owner_id, limit_id]).encode()
