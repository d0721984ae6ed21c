"""Snapshots: a state as immutable segments, named by their hash, and a manifest that lists them.

A segment that did not change between two snapshots keeps its name, so it is stored once.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import UUID

from meterstream.schemas.journal import Link, pack_sections, unpack_sections

from .arrow import SESSION_SCHEMA, decode_cells, decode_rows, encode_cells
from .cells import CellValues
from .corrections import CORRECTED_BYTES, Corrected
from .dedup import Ids, Run
from .entries import decode_entries, encode_entries
from .ledger_rows import decode_ledger, encode_accounts, read_accounts
from .limits import with_stands
from .organisation_rows import UpTo
from .policy import Policy
from .sections import encode_sessions
from .sessions import Session
from .state import LastEvent, PartitionState
from .telling import Telling
from .total_rows import (
    decode_reached,
    decode_totals,
    encode_reached,
    encode_totals,
    totals_of,
)

LAYOUT: Final = 2
SEGMENT_IDS: Final = 200_000
SEGMENT_ROWS: Final = 20_000
SEGMENT_CORRECTED_BYTES: Final = 100_000 * CORRECTED_BYTES


class SnapshotDamaged(ValueError):
    """A snapshot of which a segment is missing, or is not what the manifest says."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state as bytes: the manifest, and the segments it names by their SHA-256."""

    manifest: bytes
    segments: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says, as far as one needs to choose among them."""

    journal_offset: int
    """The last valid record that the snapshot holds."""
    generation: int
    link: Link
    segments: Sequence[str]


def take_snapshot(state: PartitionState) -> Snapshot:
    """Return the state as a snapshot. The state must not change meanwhile."""
    segments: dict[str, bytes] = {}
    listed: list[tuple[str, str]] = []

    def keep(kind: str, data: bytes) -> None:
        name = hashlib.sha256(kind.encode() + data).hexdigest()
        segments[name] = data
        listed.append((kind, name))

    values = state.cells.values()
    for first in range(0, len(values), SEGMENT_ROWS):
        keep("cells", encode_cells(_rows(values, first, first + SEGMENT_ROWS)))
    for run in state.dedup.runs():
        for first in range(0, len(run), SEGMENT_IDS):
            keep("ids", _ids(run, first, first + SEGMENT_IDS).to_bytes())
    sessions = list(state.sessions.values())
    for first in range(0, len(sessions), SEGMENT_ROWS):
        keep("sessions", encode_sessions(sessions[first : first + SEGMENT_ROWS]))
    catalog = list(state.entries.catalog.values())
    for first in range(0, len(catalog), SEGMENT_ROWS):
        keep("catalog", encode_entries(catalog[first : first + SEGMENT_ROWS]))
    control = list(state.control.kept.values())
    for first in range(0, len(control), SEGMENT_ROWS):
        keep("control", encode_entries(control[first : first + SEGMENT_ROWS]))
    for window, subjects, amounts in totals_of(state.totals):
        for first in range(0, len(subjects), SEGMENT_ROWS):
            part = slice(first, first + SEGMENT_ROWS)
            keep("totals", encode_totals([(window, subjects[part], amounts[part])]))
    corrected = state.control.corrected.to_bytes()
    for first in range(0, len(corrected), SEGMENT_CORRECTED_BYTES):
        keep("corrected", corrected[first : first + SEGMENT_CORRECTED_BYTES])
    accounts = list(state.ledger)
    for first in range(0, len(accounts), SEGMENT_ROWS):
        some = encode_accounts(accounts[first : first + SEGMENT_ROWS])
        keep("accounts", pack_sections(some))
    if state.reached:
        keep("reached", encode_reached(state.reached))
    if state.telling is not None:
        keep("telling", state.telling.encode())
    manifest = {
        "layout": LAYOUT,
        "partition": state.partition,
        "partitions": state.policy.partitions,
        "generation": state.generation,
        "events_topic_id": str(state.events_topic_id),
        "journal_topic_id": str(state.journal_topic_id),
        "control_topic_id": str(state.control_topic_id),
        "catalog_topic_id": str(state.catalog_topic_id),
        "link": asdict(state.link),
        "control_position": state.control_position,
        "catalog_position": state.catalog_position,
        "closed_us": state.closed_us,
        "ids_since_us": state.ids_since_us,
        "told_us": state.told_us,
        "is_untold": state.is_untold,
        "ahead": state.ledger.ahead,
        "last_event": asdict(state.last_event),
        "counted": list(state.counted.values()),
        "segments": listed,
    }
    return Snapshot(json.dumps(manifest).encode(), segments)


def read_manifest(data: bytes) -> Manifest:
    """Return what a manifest says; SnapshotDamaged if it is none this code reads."""
    document = _document(data)
    try:
        link = Link(**document["link"])
        return Manifest(
            link.prev, document["generation"], link, [name for _, name in document["segments"]]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotDamaged(f"the manifest is incomplete: {error}") from None


def load_snapshot(policy: Policy, manifest: bytes, segments: Mapping[str, bytes]) -> PartitionState:
    """Return the state that a snapshot holds; SnapshotDamaged if it is not whole."""
    document = _document(manifest)
    try:
        state = _bare_state(policy, document)
        partitions = document["partitions"]
        listed = [(str(kind), str(name)) for kind, name in document["segments"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotDamaged(f"the manifest is incomplete: {error}") from None
    if partitions != policy.partitions:
        raise SnapshotDamaged(
            f"it is of a topic with {partitions} partitions, not {policy.partitions}"
        )
    for kind, name in listed:
        data = segments.get(name)
        if data is None:
            raise SnapshotDamaged(f"segment {name[:12]} ({kind}) is missing")
        if hashlib.sha256(kind.encode() + data).hexdigest() != name:
            raise SnapshotDamaged(f"segment {name[:12]} ({kind}) does not match its hash")
        try:
            _load_segment(state, kind, data)
        except (ValueError, TypeError, KeyError) as error:
            raise SnapshotDamaged(f"segment {name[:12]} ({kind}): {error}") from error
    return state


def _bare_state(policy: Policy, document: dict[str, Any]) -> PartitionState:
    state = PartitionState(
        policy,
        document["partition"],
        document["generation"],
        UUID(document["events_topic_id"]),
        UUID(document["journal_topic_id"]),
        UUID(document["control_topic_id"]),
        UUID(document["catalog_topic_id"]),
        Link(**document["link"]),
        document["control_position"],
        document["catalog_position"],
        LastEvent(**document["last_event"]),
    )
    state.closed_us = int(document["closed_us"])
    state.counted = {one.partition: one for one in (UpTo(*row) for row in document["counted"])}
    state.ids_since_us = max(state.ids_since_us, document["ids_since_us"])
    state.ledger.look_ahead(document["ahead"], state.clock_us)
    state.told_us, state.is_untold = int(document["told_us"]), bool(document["is_untold"])
    return state


def _load_segment(state: PartitionState, kind: str, data: bytes) -> None:
    match kind:
        case "cells":
            state.cells.apply(decode_cells(data))
        case "ids":
            state.dedup.add(Ids.from_bytes(data))
        case "sessions":
            for row in decode_rows(data, SESSION_SCHEMA):
                session = Session.from_row(row)
                state.sessions[session.key] = session
        case "catalog":
            state.entries = state.entries.with_taken(decode_entries(data))
        case "control":
            state.control = state.control.with_taken(decode_entries(data))
        case "corrected":
            state.control = state.control.knowing(Corrected.from_bytes(data))
        case "accounts":
            written = decode_ledger(unpack_sections(data))
            if written is not None:
                state.ledger.apply(read_accounts(state.ledger, written))
        case "totals":
            for known in decode_totals(data):
                state.totals.load(*known)
        case "reached":
            state.reached = with_stands(state.reached, decode_reached(data))
        case "telling":
            state.telling = Telling.decode(data)
        case _:
            raise ValueError("this kind of segment is unknown here")


def _document(data: bytes) -> dict[str, Any]:
    try:
        document: Any = json.loads(data)
    except ValueError:
        raise SnapshotDamaged("the manifest is not JSON") from None
    if not isinstance(document, dict):
        raise SnapshotDamaged("the manifest is not a JSON object")
    if document.get("layout") != LAYOUT:
        raise SnapshotDamaged(
            f"layout {document.get('layout')} is unknown, this code reads {LAYOUT}"
        )
    return document


def _rows(values: CellValues, first: int, last: int) -> CellValues:
    return CellValues(
        values.keys[first:last],
        values.sums[first:last],
        values.latency[first:last],
        values.first_token[first:last],
    )


def _ids(run: Run, first: int, last: int) -> Ids:
    ids = run.ids()
    return Ids(
        ids.hi[first:last], ids.lo[first:last], ids.content[first:last], ids.hour[first:last]
    )
