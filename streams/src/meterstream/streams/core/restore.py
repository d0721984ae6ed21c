"""The beginning of a state, and its way back from journal records alone."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from meterstream.schemas.journal import Chain, Section, pack_sections, unpack_sections
from meterstream.schemas.journal.header import NONE, Header, Kind, MalformedRecord

from .accounts import Account
from .arrow import SESSION_SCHEMA, decode_cells, decode_rows
from .beginnings import decode_ahead, encode_ahead
from .cells import NO_CELLS
from .corrections import Corrected
from .dedup import Ids
from .entries import KeptEntry, decode_entries, encode_entries
from .ledger_rows import decode_ledger, encode_accounts, read_accounts
from .limit_rows import decode_stands
from .limits import Stand, with_stands
from .organisation_rows import (
    UpTo,
    decode_counted,
    decode_organisation_usage,
    encode_counted,
)
from .policy import Policy
from .sections import encode_sessions
from .sessions import Session
from .state import Beginning, Changes, LastEvent, NotNext, PartitionState, header_closed_us
from .step import Step
from .telling import Telling
from .total_rows import (
    KnownTotals,
    decode_reached,
    decode_totals,
    encode_reached,
    encode_totals,
)


class SnapshotNeeded(ValueError):
    """A genesis whose generation cannot be read from the journal alone: its snapshot is gone."""


def genesis_step(  # noqa: PLR0913 - a genesis names every position, each by its keyword
    *,
    grace_seconds: int,
    generation: int,
    events_topic_id: UUID,
    journal_topic_id: UUID,
    control_topic_id: UUID,
    catalog_topic_id: UUID,
    events_from: int,
    control_from: int = 0,
    catalog_from: int = 0,
    clock_us: int = 0,
    prev: int = NONE,
    ids: Ids | None = None,
    ids_since_us: int | None = None,
    sessions: tuple[Session, ...] = (),
    catalog: tuple[KeptEntry, ...] = (),
    control: tuple[KeptEntry, ...] = (),
    totals: Sequence[KnownTotals] = (),
    reached: Sequence[Stand] = (),
    corrected: Corrected | None = None,
    accounts: Sequence[Account] = (),
    ahead: Mapping[str, int] | None = None,
    counted: Sequence[UpTo] = (),
    carried: dict[str, Any] | None = None,
    max_bytes: int | None = None,
) -> Step:
    """Return the record that begins a generation at the given positions.

    `ids` are the identities that the new generation must recognise, complete for events from
    `ids_since_us` on (None: for all that the horizon allows); older events are too late in it.
    `sessions`, `catalog`, `control`, `totals`, `reached`, `corrected`, `accounts`, `ahead` and
    `counted` are what it carries over; `carried` says in words what it carries and what is lost.
    Where all this takes more than `max_bytes` the record leaves it to the generation's snapshot,
    without which it cannot be read back: that must be stored first.
    """
    beginning = Beginning(control_topic_id, catalog_topic_id, ids_since_us)
    sections: dict[Section, bytes] = {}
    if ids is not None and len(ids):
        sections[Section.IDS] = ids.to_bytes()
    if sessions:
        sections[Section.SESSIONS] = encode_sessions(sessions)
    if catalog:
        sections[Section.CATALOG] = encode_entries(catalog)
    if control:
        sections[Section.CONTROL] = encode_entries(control)
    if totals:
        sections[Section.TOTALS] = encode_totals(totals)
    if reached:
        sections[Section.REACHED] = encode_reached(with_stands({}, reached))
    if corrected:
        sections[Section.CORRECTED] = corrected.to_bytes()
    if accounts:
        sections |= encode_accounts(accounts)
    if ahead:
        sections[Section.AHEAD] = encode_ahead(ahead)
    if max_bytes is not None and sum(map(len, sections.values())) > max_bytes:
        beginning = replace(beginning, needs_snapshot=True)
        sections = {}
    if counted:  # for readers who never see a snapshot
        sections[Section.COUNTED] = encode_counted(counted)
    sections[Section.GENESIS] = _encode_beginning(beginning, carried or {})
    value = pack_sections(sections)
    header = Header(
        Kind.GENESIS,
        grace_seconds,
        generation,
        events_topic_id,
        journal_topic_id,
        prev,
        events_from,
        events_from,
        control_from,
        catalog_from,
        clock_us,
        clock_us,
        NONE,
        0,
        0,
        NONE,
        zlib.crc32(value),
    )
    changes = Changes(
        ids=ids,
        sessions=sessions,
        catalog=catalog,
        control=control,
        stands=tuple(reached),
        beginning=beginning,
        totals=totals,
        corrected=corrected,
        accounts=accounts,
        ahead=ahead or {},
        counted=tuple(counted),
    )
    return Step(header, value, changes, {}, {})


def _encode_beginning(beginning: Beginning, carried: dict[str, Any]) -> bytes:
    document = carried | {
        "control_topic_id": str(beginning.control_topic_id),
        "catalog_topic_id": str(beginning.catalog_topic_id),
    }
    if beginning.ids_since_us is not None:
        document["ids_since_us"] = beginning.ids_since_us
    if beginning.needs_snapshot:
        document["needs_snapshot"] = True
    return json.dumps(document).encode()


def _decode_beginning(data: bytes) -> Beginning:
    document = json.loads(data)
    return Beginning(
        UUID(document["control_topic_id"]),
        UUID(document["catalog_topic_id"]),
        document.get("ids_since_us"),
        document.get("needs_snapshot", False),
    )


def begin(
    policy: Policy, partition: int, journal_offset: int, timestamp_us: int, step: Step
) -> PartitionState:
    """Return the state after an acknowledged genesis record."""
    return _begin(policy, partition, journal_offset, timestamp_us, step.header, step.changes)


def apply_step(state: PartitionState, step: Step, journal_offset: int, timestamp_us: int) -> None:
    """Take an acknowledged step into the state. `timestamp_us` is the record's log time."""
    state.apply_changes(step.header, step.changes, journal_offset, timestamp_us)


def apply_record(
    policy: Policy,
    partition: int,
    state: PartitionState | None,
    journal_offset: int,
    timestamp_us: int,
    header: Header,
    value: bytes,
) -> PartitionState:
    """Take a valid record that was read from the journal into the state.

    A genesis record makes a new state. Raises MalformedRecord if the record cannot be decoded:
    a reader must stop then; SnapshotNeeded at a genesis that is not whole by itself.
    """
    header.check_value(value)
    changes = decode_changes(value)
    if header.kind is Kind.GENESIS:
        if changes.beginning is not None and changes.beginning.needs_snapshot:
            raise SnapshotNeeded(
                f"generation {header.generation} begins here, and its snapshot is missing:"
                " identities, sessions and entries stand only there"
            )
        return _begin(policy, partition, journal_offset, timestamp_us, header, changes)
    if state is None:
        raise NotNext(f"journal offset {journal_offset} comes before any genesis record")
    state.apply_changes(header, changes, journal_offset, timestamp_us)
    return state


def decode_changes(value: bytes) -> Changes:
    """Return what a record's value changes; MalformedRecord if it cannot be decoded."""
    sections = unpack_sections(value)
    try:
        return Changes(
            decode_cells(sections[Section.CELLS]) if Section.CELLS in sections else NO_CELLS,
            Ids.from_bytes(sections[Section.IDS]) if Section.IDS in sections else None,
            tuple(
                Session.from_row(row)
                for row in decode_rows(sections[Section.SESSIONS], SESSION_SCHEMA)
            )
            if Section.SESSIONS in sections
            else (),
            tuple(decode_entries(sections[Section.CATALOG])) if Section.CATALOG in sections else (),
            tuple(decode_entries(sections[Section.CONTROL])) if Section.CONTROL in sections else (),
            decode_cells(sections[Section.LATE_MINUTES])
            if Section.LATE_MINUTES in sections
            else NO_CELLS,
            _decode_stands(sections),
            _decode_beginning(bytes(sections[Section.GENESIS]))
            if Section.GENESIS in sections
            else None,
            decode_totals(sections[Section.TOTALS]) if Section.TOTALS in sections else (),
            Corrected.from_bytes(bytes(sections[Section.CORRECTED]))
            if Section.CORRECTED in sections
            else None,
            written=decode_ledger(sections),
            ahead=decode_ahead(sections[Section.AHEAD]) if Section.AHEAD in sections else {},
            telling=Telling.decode(sections[Section.LIMITS_TOLD])
            if Section.LIMITS_TOLD in sections
            else None,
            organisation_usage=decode_organisation_usage(sections[Section.ORGANISATION_USAGE])
            if Section.ORGANISATION_USAGE in sections
            else None,
            counted=decode_counted(sections.get(Section.COUNTED, memoryview(b"[]"))),
        )
    except MalformedRecord:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MalformedRecord(str(error)) from error


def _decode_stands(sections: Mapping[Section, memoryview]) -> tuple[Stand, ...]:
    if Section.LIMIT_STATES in sections:
        return decode_stands(sections[Section.LIMIT_STATES])
    return tuple(decode_reached(sections.get(Section.REACHED, memoryview(b"[]"))))


def _begin(
    policy: Policy,
    partition: int,
    journal_offset: int,
    timestamp_us: int,
    header: Header,
    changes: Changes,
) -> PartitionState:
    chain = Chain()
    chain.take(journal_offset, timestamp_us, header)
    assert chain.link is not None, "a genesis record is valid without a link"
    beginning = changes.beginning
    if beginning is None:
        raise MalformedRecord("a genesis record says nothing of its generation")
    state = PartitionState(
        policy,
        partition,
        header.generation,
        header.events_topic_id,
        header.journal_topic_id,
        beginning.control_topic_id,
        beginning.catalog_topic_id,
        chain.link,
        header.control_to,
        header.catalog_to,
        LastEvent(),
    )
    state.closed_us = header_closed_us(header, state.clock_us)
    if changes.ids is not None:
        state.dedup.add(changes.ids)
    if beginning.ids_since_us is not None:
        state.ids_since_us = max(state.ids_since_us, beginning.ids_since_us)
    state.sessions = {session.key: session for session in changes.sessions}
    state.entries = state.entries.with_taken(changes.catalog)
    state.control = state.control.with_taken(changes.control)
    if changes.corrected is not None:
        state.control = state.control.knowing(changes.corrected)
    state.ledger.look_ahead(changes.ahead, state.clock_us)
    state.ledger.apply(changes.accounts)
    if changes.written is not None:
        state.ledger.apply(read_accounts(state.ledger, changes.written))
    for known in changes.totals:
        state.totals.load(*known)
    state.reached = with_stands({}, changes.stands)
    state.counted = {one.partition: one for one in changes.counted}
    return state
