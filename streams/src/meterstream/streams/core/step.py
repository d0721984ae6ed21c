"""A step: what the meter decides about one micro-batch, computed without touching the state."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meterstream.schemas.journal import Section, pack_sections
from meterstream.schemas.journal.header import Header, Kind

from .entries import EntryReject
from .state import Changes, LastEvent, PartitionState


@dataclass(frozen=True, slots=True)
class Step:
    """One journal record, ready to be written, and what it changes once it is acknowledged."""

    header: Header
    value: bytes
    changes: Changes
    counts: Mapping[str, int]
    """Offsets by ledger class."""
    reasons: Mapping[str, int]
    """Rejected events by reason."""
    rows: int = 0
    """Cell rows, late ones included."""
    skewed_log_times: int = 0
    """Log times too far ahead to move the clock."""
    unpriced: int = 0
    """Runs, and spans of session time, that no rate card priced."""

    @property
    def kind(self) -> Kind:
        """What the record is for."""
        return self.header.kind

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be lost by not writing it: an idle record apart."""
        return not self.value and self.header.events_from == self.header.events_to


def build_step(  # noqa: PLR0913 - one argument for each part of a record, by keyword
    state: PartitionState,
    kind: Kind,
    sections: Mapping[Section, bytes],
    changes: Changes,
    *,
    events_to: int,
    control_to: int,
    catalog_to: int,
    clock_us: int,
    clock_limit_us: int,
    last_event: LastEvent,
    counts: Mapping[str, int],
    reasons: Mapping[str, int],
    rows: int = 0,
    skewed_log_times: int = 0,
    unpriced: int = 0,
) -> Step:
    """Return the step whose record continues the state's chain."""
    value = pack_sections(sections)
    header = Header(
        kind,
        state.policy.grace_seconds,
        state.generation,
        state.events_topic_id,
        state.journal_topic_id,
        state.link.prev,
        state.events_position,
        events_to,
        control_to,
        catalog_to,
        clock_us,
        clock_limit_us,
        last_event.offset,
        last_event.time_us,
        last_event.hash,
        last_event.epoch,
        zlib.crc32(value),
    )
    return Step(header, value, changes, counts, reasons, rows, skewed_log_times, unpriced)


def encode_rejects(events: Sequence[tuple[int, int, str]], entries: Sequence[EntryReject]) -> bytes:
    """Return the REJECTS section: events as (offset, verdict, detail), then entries."""
    rows: list[list[object]] = [["events", *reject] for reject in events]
    rows += [[e.topic, e.offset, int(e.verdict), e.detail] for e in entries]
    return json.dumps(rows).encode()
