"""Threshold events: what the CROSSINGS of a journal record tell, as the public contract has it."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from meterstream.schemas import thresholds as contract
from meterstream.schemas.envelope import Envelope
from meterstream.schemas.journal import MalformedRecord
from meterstream.schemas.times import format_rfc3339, from_us
from meterstream.streams.journal.reader import JournalRecord

Row = Mapping[str, Any]


class KindUnknown(Exception):
    """A crossing, or a reason for refusing, of a kind that this release does not know."""


LEVELS_PERMILLE: Final = (1000, 900, 800, 500)
"""What metrics tell apart: a limit may have any level, and a label must not."""


def level_class(level_permille: int | None) -> str:
    """Return the highest of LEVELS_PERMILLE that a level has; `0`, `above` or `none` beside them.

    Raises TypeError for what is no number.
    """
    if level_permille is None:
        return "none"
    if level_permille > LEVELS_PERMILLE[0]:
        return "above"
    return str(next((level for level in LEVELS_PERMILLE if level_permille >= level), 0))


class ThresholdRecord(NamedTuple):
    """One record for the `thresholds` topic."""

    kind: str
    """As the journal names it: reached, blocked, reset, low, exhausted or expiring."""
    level: str
    """The class of its level, as metrics have it."""
    key: bytes
    value: bytes
    caused_us: int
    """Log time of the event that caused it; of the journal record where none did."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one kind of crossing is made public."""

    model: type[Envelope]
    type: str
    identity: Callable[[Row, JournalRecord], tuple[str | int, ...]]
    """What a threshold's id is made from, after its type."""
    data: Callable[[Row], dict[str, Any]]


def _owner(row: Row) -> str:
    return str(row.get("team_id") or row["organisation_id"])


def _level(row: Row, _: JournalRecord) -> tuple[str | int, ...]:
    return (*_window(row), row["level_permille"])


def _change(row: Row, record: JournalRecord) -> tuple[str | int, ...]:
    return (*_window(row), record.header.generation, record.offset)


def _window(row: Row) -> tuple[str | int, ...]:
    start = format_rfc3339(from_us(row["window_start_us"]))
    kind = () if row.get("team_id") else ("organisation",)
    return *kind, _owner(row), row["limit_id"], row["limit_version"], start


_OF_LIMIT: Final = (
    "team_id", "organisation_id", "limit_id", "limit_version", "subject", "subject_id", "measure",
    "window", "amount", "used", "level_permille", "balance_micro", "reason", "cause",
)  # fmt: skip
_OF_BALANCE: Final = ("team_id", "balance_micro", "overdraft_micro", "cause")
_OF_GRANT: Final = ("team_id", "grant_id", "left_micro")


def _chosen(row: Row, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: row[name] for name in names if row.get(name) is not None}


def _limit_data(row: Row) -> dict[str, Any]:
    end_us = row.get("window_end_us")
    return _chosen(row, _OF_LIMIT) | {
        "window_start": from_us(row["window_start_us"]),
        "window_end": None if end_us is None else from_us(end_us),
    }


_KINDS: Final = {
    "reached": _Kind(contract.ThresholdReached, contract.THRESHOLD_REACHED, _level, _limit_data),
    "blocked": _Kind(contract.LimitBlocked, contract.LIMIT_BLOCKED, _change, _limit_data),
    "reset": _Kind(contract.LimitReset, contract.LIMIT_RESET, _change, _limit_data),
    "low": _Kind(contract.CreditsLow, contract.CREDITS_LOW, _level, _limit_data),
    "exhausted": _Kind(
        contract.CreditsExhausted,
        contract.CREDITS_EXHAUSTED,
        lambda row, record: (row["team_id"], record.header.generation, record.offset),
        lambda row: _chosen(row, _OF_BALANCE),
    ),
    "expiring": _Kind(
        contract.CreditsExpiring,
        contract.CREDITS_EXPIRING,
        lambda row, _: (row["team_id"], row["grant_id"]),
        lambda row: _chosen(row, _OF_GRANT) | {"expires_at": from_us(row["expires_at_us"])},
    ),
}


def threshold_records(
    section: bytes | memoryview, record: JournalRecord, partition: int, source: str
) -> list[ThresholdRecord]:
    """Return what a CROSSINGS section tells, in its order.

    `source` names this pipeline. The ids follow from the record alone, so whoever publishes it
    again uses the same. Raises KindUnknown, or MalformedRecord if it is no such section.
    """
    as_of = contract.AsOf(
        events_topic_id=record.header.events_topic_id,
        generation=record.header.generation,
        partition=partition,
        journal_offset=record.offset,
        events_position=record.header.events_to,
    )
    time = from_us(record.timestamp_us)
    seen: Counter[tuple[str | int, ...]] = Counter()
    found: list[ThresholdRecord] = []
    try:
        for row in json.loads(bytes(section)):
            kind = _KINDS.get(row["kind"])
            if kind is None:
                raise KindUnknown(
                    f"journal offset {record.offset} tells a crossing of the kind"
                    f" {str(row['kind'])[:40]!r}, which this release does not know"
                )
            identity = (kind.type, *kind.identity(row, record))
            # The same change twice within a record, with another one between: they are counted.
            repeats = (seen[identity],) if seen[identity] else ()
            seen[identity] += 1
            event = kind.model.model_validate(
                {
                    "id": contract.threshold_id(*identity, *repeats),  # type: ignore[arg-type]
                    "source": source,
                    "time": time,
                    "data": kind.data(row) | {"as_of": as_of},
                }
            )
            value = event.model_dump_json(exclude_none=True).encode()
            key = _owner(row).encode()
            caused_us = int(row.get("cause_log_time_us", record.timestamp_us))
            level = level_class(row.get("level_permille"))
            found.append(ThresholdRecord(row["kind"], level, key, value, caused_us))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        said = f"{error.error_count()} fields" if isinstance(error, ValidationError) else error
        raise MalformedRecord(
            f"the CROSSINGS of journal offset {record.offset} cannot be read: {said}"
        ) from error
    return found
