"""The value of a journal record: named sections, one after the other, each with its length.

Arrow sections are Arrow IPC streams; their columns stand in `meterstream.schemas.rows`. A section
that a record does not need is left out. A reader skips sections that it does not know.
"""

import struct
from collections.abc import Mapping
from contextlib import suppress
from enum import IntEnum
from typing import Final

from .header import MalformedRecord

_SECTION: Final = struct.Struct(">BxxxI")


class Section(IntEnum):
    """What a section holds."""

    VERDICTS = 1
    """One byte for each offset from `events_from` to `events_to`, a `Verdict` each."""
    CELLS = 2
    """Arrow, CELL columns: the changed on-time cells, as absolute values."""
    LATE_MINUTES = 3
    """Arrow, CELL columns: what this record counted for minutes that had closed."""
    LATE_QUARTERS = 4
    """The same events folded by quarter of an hour, for the coarse table."""
    LATE_DAYS = 5
    """The same events folded by day (UTC)."""
    CHARGES = 6
    """Arrow, CHARGE columns: one row for each counted completed run, in offset order."""
    IDS = 7
    """The new deduplication ids, 24 bytes each: see `meterstream.streams.core.dedup`."""
    REJECTS = 8
    """JSON: [[topic, offset, verdict, detail], ...] for what goes to the dead-letter queue.

    `topic` is "events", "control" or "catalog"."""
    SESSIONS = 9
    """Arrow, SESSION columns: the changed sessions, as absolute values."""
    CATALOG = 10
    """JSON: [[offset, log_time_us, event], ...] the catalog entries taken with this record."""
    CONTROL = 11
    """JSON: the control entries taken with this record, in the same form."""
    GENESIS = 12
    """JSON: which control and catalog topics a generation reads (their ids), what it carries over
    and what is lost. With `needs_snapshot` its ids, sessions and entries stand only in its
    snapshot, which was stored before it."""
    LIMIT_STATES = 13
    """Arrow, LIMIT_STATE columns: where limits stand that changed, as absolute values; of one limit
    and window the last row holds. A limit stands in the window that holds the clock after the
    record; rows of other windows are only what is known of them."""
    CROSSINGS = 14
    """JSON: [{kind, team_id, limit_id, limit_version, subject, subject_id, measure, window,
    window_start_us, window_end_us, amount, used, level_permille, reason, cause,
    cause_log_time_us}, ...] in the order of their events, first those that no event caused.
    `kind` is `reached` (a level, once in a window and version), `blocked` or `reset` (a hard limit
    began or ceased to block). `reason` of a reset is window, changed, removed or corrected. `cause`
    is the event that made the difference (offset, source, id), with its log time, and left out
    where none did. Then, of balances, `low` (a level, with balance_micro), `reset` (its reason is
    credited, changed or corrected), `exhausted` {team_id, balance_micro, overdraft_micro, cause}
    and `expiring` {team_id, grant_id, left_micro, expires_at_us}."""
    TOTALS = 15
    """Arrow, only in a genesis: what each subject had used in the windows that it carries over."""
    REACHED = 16
    """JSON, only in a genesis: [[window, start_us, end_us, team_id, limit_id, level_permille], ...]
    the highest levels that limits had reached in them."""

    CORRECTIONS = 17
    """Arrow, CORRECTION columns: one row for each correction that was taken, in their order. They
    count as late rows, before the events of their record."""
    CORRECTED = 18
    """Only in a genesis: the corrections that are known, 28 bytes each: see
    `meterstream.streams.core.corrections`."""
    ACCOUNTS = 19
    """Arrow, ACCOUNT columns: the changed accounts, as absolute values."""
    GRANTS = 20
    """Arrow, GRANT columns: the changed grants of these accounts, as absolute values."""
    TERMS = 21
    """JSON: {team: {term, begun, terms, month_end_us, next_number, levels}} of the accounts of
    which these changed: the plan in force, the subscriptions that run and those that start later,
    the next anchor, and the levels that limits on the balance have reached."""
    DRAWS = 22
    """Arrow, DRAW columns: which grants paid for the record's charges and corrections."""
    TEAM_USAGE = 23
    """Arrow, TEAM_USAGE columns: what teams that belong to organisations used with this record, for
    the meter of organisations."""
    ORGANISATION_USAGE = 24
    """Arrow, ORGANISATION_USAGE columns, in the journal of organisations: what each has used with
    this record. What corrections took back is part of it."""
    COUNTED = 25
    """JSON, in the journal of organisations: [[events_topic_id, generation, partition,
    journal_offset, events_position], ...] up to where usage of teams is counted, of the partitions
    from which this record counted some; a genesis tells all."""
    AHEAD = 26
    """JSON: {team: event_time_us} of teams without an account, where it changed: the latest event
    time that was counted and that the clock has not passed. An account begins behind it."""
    LIMITS_TOLD = 27
    """JSON: {behind_us, upto, is_all, also}: not all limits are told yet whose window, or whose
    generation, has begun; the records that follow tell the others. Told are those whose key [owner,
    limit] comes no later than `upto`, and those in `also`, here and in the records before; the
    others were told last for the clock `behind_us`. `is_all` says whether all limits are told or
    only those whose window has begun. A step without this section has told all that were left."""


def pack_sections(sections: Mapping[Section, bytes]) -> bytes:
    """Return the value that holds `sections`, in the order of their numbers."""
    parts: list[bytes] = []
    for section in sorted(sections):
        data = sections[section]
        parts.append(_SECTION.pack(section, len(data)))
        parts.append(data)
    return b"".join(parts)


def unpack_sections(value: bytes) -> dict[Section, memoryview]:
    """Return the sections of a value without copying; MalformedRecord if it is cut or garbled."""
    view = memoryview(value)
    found: dict[Section, memoryview] = {}
    at = 0
    while at < len(view):
        if at + _SECTION.size > len(view):
            raise MalformedRecord(f"the section at byte {at} is cut off")
        number, length = _SECTION.unpack_from(view, at)
        at += _SECTION.size
        if at + length > len(view):
            raise MalformedRecord(f"section {number} has {length} bytes, and the value ends before")
        # A number that is not known here was written by a newer version, which promises that
        # older readers may skip it.
        with suppress(ValueError):
            found[Section(number)] = view[at : at + length]
        at += length
    return found
