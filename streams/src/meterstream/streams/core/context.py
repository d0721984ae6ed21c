"""What a step is computed from, and what computing one has in common whatever is counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from meterstream.schemas.control import ControlEvent
from meterstream.schemas.fields import MAX_CREDITS_MICRO
from meterstream.schemas.journal import Section
from meterstream.schemas.journal.header import Kind
from meterstream.schemas.verdicts import Verdict, is_rejected, ledger_class, reason_name

from .batch import EventBatch
from .control import Control
from .corrections import Correction
from .decode import TYPE_NUMBER, content_of
from .entries import Entries, EntryReject, KeptEntry, encode_entries
from .identity import identity_digest, split_digests
from .judge import Candidates
from .policy import Policy
from .state import Changes, LastEvent, PartitionState
from .step import Step, build_step, encode_rejects
from .valid import E, Valid

_GOLDEN_RATIO: Final = np.uint64(0x9E3779B97F4A7C15)
"""Spreads neighbouring times over all bits (Knuth, multiplicative hashing)."""

_DEAD_LETTERED: Final = np.array(
    [Verdict.CONFLICT, Verdict.TOO_LATE, *(v for v in Verdict if is_rejected(v))], np.uint8
)


@dataclass(frozen=True, slots=True)
class Context:
    """A state, and the entries that arrived before a batch."""

    state: PartitionState
    entries: Entries
    """With those that are taken."""
    governed: Control
    """Likewise."""
    catalog: tuple[KeptEntry, ...]
    control: tuple[KeptEntry, ...]
    events: tuple[tuple[int, ControlEvent], ...]
    """Of `control`, with their offsets."""
    corrections: tuple[Correction, ...]
    rejects: tuple[EntryReject, ...]
    catalog_to: int
    control_to: int
    now_us: int
    portion: int
    """The most limits that are told since their window, or their generation, begins."""

    @property
    def policy(self) -> Policy:
        """The rules of the state."""
        return self.state.policy


@dataclass(slots=True)
class Verdicts:
    """What becomes of each record of a batch."""

    of_records: NDArray[np.uint8]
    details: dict[int, str]
    """Why, by position, where there is more to say than the verdict."""

    def by_offset(self, batch: EventBatch) -> NDArray[np.uint8]:
        """Return one verdict for each offset, gaps included."""
        verdicts = np.full(batch.end - batch.start, Verdict.GAP, np.uint8)
        verdicts[: max(0, batch.log_start - batch.start)] = Verdict.UNREAD
        verdicts[np.array(batch.offsets, np.int64) - batch.start] = self.of_records
        return verdicts

    def dead(self, batch: EventBatch) -> list[tuple[int, int, str]]:
        """Return offset, verdict and detail of what goes to the dead letters."""
        found = np.flatnonzero(np.isin(self.of_records, _DEAD_LETTERED)).tolist()
        return [
            (
                batch.offsets[i],
                int(self.of_records[i]),
                self.details.get(i) or _explain(int(self.of_records[i])),
            )
            for i in found
        ]


def _explain(verdict: int) -> str:
    return {
        Verdict.CONFLICT: "id: an event of this team, source and id with other content was counted",
        Verdict.TOO_LATE: "time: older than the deduplication horizon",
        Verdict.TIME_AHEAD: "time: too far ahead of the broker's clock",
        Verdict.AMOUNT_TOO_LARGE: f"the run would cost more than {MAX_CREDITS_MICRO} millionths",
    }[Verdict(verdict)]


def candidates_of(
    context: Context, valid: Valid[E], owners: Sequence[str], unless: NDArray[np.uint8]
) -> Candidates:
    """Return the events as they are judged; `unless` says which cannot be counted anyway.

    `owners` are the team, or the organisation, within which each event has its identity.
    """
    state, policy = context.state, context.policy
    oldest_us = np.maximum(valid.clocks_us - policy.horizon_us, state.ids_since_us)
    unless[valid.times_us < oldest_us] = Verdict.TOO_LATE
    unless[valid.times_us > valid.clocks_us + policy.ahead_us] = Verdict.TIME_AHEAD
    hi, lo = split_digests(
        [
            identity_digest(owner, event.source, event.id)
            for owner, event in zip(owners, valid.events, strict=True)
        ]
    )
    return Candidates(hi, lo, _fingerprints(valid), valid.times_us, valid.clocks_us, unless)


def _fingerprints(valid: Valid[E]) -> NDArray[np.uint32]:
    """Return 32 bits that differ when type, time or data of two events of one identity do."""
    hashed = xxhash.xxh3_64_intdigest
    mixed = np.array(
        [hashed(content_of(e), TYPE_NUMBER.get(type(e), 0)) for e in valid.events], np.uint64
    )
    mixed ^= valid.times_us.astype(np.uint64) * _GOLDEN_RATIO
    return (mixed >> np.uint64(32)).astype(np.uint32)


def cause_of(batch: EventBatch, valid: Valid[E], i: int) -> dict[str, Any]:
    """Return how a crossing names the valid event that caused it."""
    event, position = valid.events[i], int(valid.at[i])
    return {
        "cause": {"offset": batch.offsets[position], "source": event.source, "id": event.id},
        "cause_log_time_us": batch.log_times_us[position],
    }


def last_event(state: PartitionState, batch: EventBatch) -> LastEvent:
    """Return the last event that was read with a batch."""
    if not batch.offsets:
        return state.last_event
    return LastEvent(
        batch.offsets[-1],
        batch.log_times_us[-1],
        xxhash.xxh3_64_intdigest(batch.values[-1] or b""),
        batch.leader_epoch,
    )


def decided_step(  # noqa: PLR0913 - one argument for each thing that was decided, by keyword
    context: Context,
    batch: EventBatch,
    verdicts: Verdicts,
    ids: bytes,
    sections: dict[Section, bytes],
    changes: Changes,
    *,
    clock_us: int,
    rows: int = 0,
    skewed_log_times: int = 0,
    unpriced: int = 0,
) -> Step:
    """Return the step of a batch that was decided: `sections` with those that any step has."""
    by_offset = verdicts.by_offset(batch)
    if len(by_offset):
        sections[Section.VERDICTS] = by_offset.tobytes()
    if ids:
        sections[Section.IDS] = ids
    dead = verdicts.dead(batch)
    if dead or context.rejects:
        sections[Section.REJECTS] = encode_rejects(dead, context.rejects)
    if context.catalog:
        sections[Section.CATALOG] = encode_entries(context.catalog)
    if context.control:
        sections[Section.CONTROL] = encode_entries(context.control)
    tally = Counter(by_offset.tolist())
    counts: Counter[str] = Counter()
    for number, count in tally.items():
        counts[ledger_class(number)] += count
    reasons: Mapping[str, int] = {reason_name(v): n for v, n in tally.items() if is_rejected(v)}
    return build_step(
        context.state,
        Kind.STEP,
        sections,
        changes,
        events_to=batch.end,
        control_to=context.control_to,
        catalog_to=context.catalog_to,
        clock_us=clock_us,
        clock_limit_us=clock_us,
        last_event=last_event(context.state, batch),
        counts=counts,
        reasons=reasons,
        rows=rows,
        skewed_log_times=skewed_log_times,
        unpriced=unpriced,
    )
