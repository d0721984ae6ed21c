"""Computing a step: from a micro-batch and a state to a journal record, without changing either.

The verdict on an offset depends on the offsets before it and never on where a batch begins or
ends, so that two meters that cut the same log differently come to the same usage.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import xxhash
from numpy.typing import NDArray

from meterstream.schemas.control import (
    ControlEvent,
)
from meterstream.schemas.fields import MAX_CREDITS_MICRO
from meterstream.schemas.journal import Section
from meterstream.schemas.journal.header import Kind
from meterstream.schemas.verdicts import Verdict, is_rejected, ledger_class, reason_name

from .balances import balance_states
from .batch import Entry, EventBatch
from .book import Note
from .checks import check_control
from .clock import run_clock
from .columns import run_columns
from .control import Control, corrections_of, events_of, judge_control
from .corrections import Correction
from .counting import Uncounted
from .deciding import Decided, Decision, Side, Spent
from .decode import (
    TYPE_NUMBER,
    Completed,
    Refused,
    SessionStarted,
    content_of,
    decode_slowly,
)
from .entries import Entries, EntryReject, KeptEntry, encode_entries, judge_catalog
from .identity import identity_digest, split_digests
from .judge import Candidates, judge_identities, judge_in_order
from .ledger_rows import encode_ledger
from .limit_rows import CauseOf, encode_limits
from .policy import Policy
from .posting import charges_of, post
from .pricing import Priced, price_runs
from .quarantine import compute_around_offenders
from .read import read_batch
from .room import CellFull
from .sections import encode_sessions, event_offsets, measures_of
from .sessions import Session
from .state import Changes, LastEvent, PartitionState
from .step import Step, build_step, encode_rejects
from .totals import Used
from .using import started, used_by_corrections, uses_of
from .valid import Valid
from .windows import Window

_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
"""Spreads neighbouring times over all bits (Knuth, multiplicative hashing)."""


def compute_step(
    state: PartitionState,
    batch: EventBatch | None,
    *,
    catalog: Sequence[Entry] = (),
    control: Sequence[Entry] = (),
    catalog_to: int | None = None,
    control_to: int | None = None,
    now_us: int,
) -> Step:
    """Decide a batch of events together with the entries that arrived before it.

    `now_us` is the worker's time, microseconds since 1970; it only guards the clock. Raises
    ValueError if the batch does not start at the state's position. An event on which the core
    itself fails is found and refused as INTERNAL; its neighbours are counted.
    """
    if batch is not None and batch.start != state.events_position:
        raise ValueError(
            f"the batch starts at offset {batch.start}, the state is at {state.events_position}"
        )
    catalog_to = _position_after("catalog", state.catalog_position, catalog, catalog_to)
    control_to = _position_after("control", state.control_position, control, control_to)
    taken_catalog, catalog_rejects = judge_catalog(state.entries, catalog)
    known = state.entries.with_taken(taken_catalog)
    taken_control, control_rejects = judge_control(
        state.control,
        control,
        state.partition,
        state.policy.partitions,
        partial(check_control, state, known),
    )
    events = events_of(taken_control)
    # Each partition reads the whole catalog; one of them reports what is wrong with it.
    rejects = [*(catalog_rejects if state.partition == 0 else ()), *control_rejects]
    context = _Context(
        state,
        known,
        state.control.with_taken(taken_control),
        tuple(taken_catalog),
        tuple(taken_control),
        tuple(events),
        tuple(corrections_of(events)),
        tuple(rejects),
        catalog_to,
        control_to,
        now_us,
    )
    if batch is None:
        position = state.events_position
        batch = EventBatch(position, position, (), (), ())
    return compute_around_offenders(partial(_compute, context), batch)


def _position_after(topic: str, position: int, entries: Sequence[Entry], to: int | None) -> int:
    """Return the position after entries. ValueError if some were taken before, or do not ascend."""
    if to is None:
        to = entries[-1].offset + 1 if entries else position
    offsets = [position - 1, *(entry.offset for entry in entries), to]
    if to < position or any(b <= a for a, b in pairwise(offsets[:-1])) or offsets[-2] >= to:
        raise ValueError(
            f"{topic} entries at offsets {offsets[1:-1]} do not lie between {position} and {to}"
        )
    return to


@dataclass(frozen=True, slots=True)
class _Context:
    state: PartitionState
    entries: Entries
    governed: Control
    catalog: tuple[KeptEntry, ...]
    control: tuple[KeptEntry, ...]
    events: tuple[tuple[int, ControlEvent], ...]
    """Of `control`, with their offsets."""
    corrections: tuple[Correction, ...]
    rejects: tuple[EntryReject, ...]
    catalog_to: int
    control_to: int
    now_us: int

    @property
    def policy(self) -> Policy:
        return self.state.policy


def _compute(context: _Context, batch: EventBatch, quarantined: Mapping[int, str]) -> Step:
    state, policy = context.state, context.policy
    log_times_us = np.array(batch.log_times_us, np.int64)
    clocks_us = run_clock(state.clock_us, log_times_us, context.now_us, policy.clock_skew_us)
    clock_us = int(clocks_us[-1]) if len(clocks_us) else state.clock_us
    by_record = np.zeros(len(batch.offsets), np.uint8)
    details: dict[int, str] = {}

    # 1. Read: each record is an event or refused.
    read = read_batch(batch.values, state.partition, state.partition_of_team, quarantined)
    for position, verdict, detail in read.refused:
        by_record[position], details[position] = verdict, detail

    # 2. Price the completed runs: an amount that is too large refuses its event.
    valid = Valid.of(read.events, np.array(read.at, np.int64), clocks_us)
    valid, runs = _price(context, batch, valid, by_record, details)

    # 3. Judge: when, and whether it was counted before.
    unless = np.full(len(valid.events), Verdict.COUNTED, np.uint8)
    unless[runs.at[runs.too_dear]] = Verdict.AMOUNT_TOO_LARGE
    oldest_us = np.maximum(valid.clocks_us - policy.horizon_us, state.ids_since_us)
    unless[valid.times_us < oldest_us] = Verdict.TOO_LATE
    unless[valid.times_us > valid.clocks_us + policy.ahead_us] = Verdict.TIME_AHEAD
    hi, lo = split_digests([identity_digest(e.data.team_id, e.source, e.id) for e in valid.events])
    candidates = Candidates(hi, lo, _fingerprints(valid), valid.times_us, valid.clocks_us, unless)
    judged = judge_identities(state.dedup, policy.horizon_us, candidates)

    # 4. Fold what was counted, and charge the time of sessions.
    uncounted = Uncounted(
        state,
        context.entries.book,
        valid,
        event_offsets(batch, valid.at),
        runs,
        context.corrections,
    )
    try:
        counted = judged.verdicts == Verdict.COUNTED
        counting = uncounted.count(counted)
    except CellFull:
        room = uncounted.room()
        judged = judge_in_order(state.dedup, policy.horizon_us, candidates, room.take)
        details |= {int(valid.at[i]): reason for i, reason in room.refused.items()}
        counted = judged.verdicts == Verdict.COUNTED
        counting = uncounted.count(counted)
    by_record[valid.at] = judged.verdicts
    usage, sessions = counting.usage, counting.sessions

    # 5. Where limits stand after it.
    decided, causes, used = _decide_limits(
        context, batch, valid, counting.charged, counted, sessions, clock_us
    )

    # 6. Who pays for it.
    charged = counting.charged.at[counting.charged.chosen(counted)]
    posted = post(
        state,
        charges_of(counting.charged, counting.charged.chosen(counted), valid.clocks_us[charged]),
        clock_us,
        entries=context.entries,
        governed=context.governed,
        taken=context.control,
        events=context.events,
    )
    notes = [_with_cause(note, batch, valid, charged) for note in posted.notes]

    # 7. One verdict for each offset, gaps included.
    verdicts = _by_offset(batch, by_record)
    balances = balance_states(
        state.ledger if state.is_untold else (), posted.accounts, context.governed.limits
    )
    sections = dict(usage.sections) | encode_limits(decided, causes, balances, notes)
    sections |= encode_ledger(state.ledger, posted)
    if len(verdicts):
        sections[Section.VERDICTS] = verdicts.tobytes()
    if len(judged.ids):
        sections[Section.IDS] = judged.ids.to_bytes()
    dead = [
        (batch.offsets[i], int(by_record[i]), details.get(i) or _explain(int(by_record[i])))
        for i in np.flatnonzero(np.isin(by_record, _DEAD_LETTERED)).tolist()
    ]
    if dead or context.rejects:
        sections[Section.REJECTS] = encode_rejects(dead, context.rejects)
    if sessions:
        sections[Section.SESSIONS] = encode_sessions(sessions)
    if context.catalog:
        sections[Section.CATALOG] = encode_entries(context.catalog)
    if context.control:
        sections[Section.CONTROL] = encode_entries(context.control)
    tally = Counter(verdicts.tolist())
    counts: Counter[str] = Counter()
    for number, count in tally.items():
        counts[ledger_class(number)] += count
    return build_step(
        state,
        Kind.STEP,
        sections,
        Changes(
            usage.cells,
            judged.ids,
            sessions,
            context.catalog,
            context.control,
            usage.late,
            decided.stands,
            used=None if context.corrections else used,
            accounts=posted.accounts,
        ),
        events_to=batch.end,
        control_to=context.control_to,
        catalog_to=context.catalog_to,
        clock_us=clock_us,
        clock_limit_us=clock_us,
        last_event=_last_event(state, batch),
        counts=counts,
        reasons={reason_name(v): n for v, n in tally.items() if is_rejected(v)},
        rows=usage.rows,
        skewed_log_times=int(np.count_nonzero(log_times_us > clocks_us)),
        unpriced=usage.unpriced,
    )


_DEAD_LETTERED = np.array(
    [Verdict.CONFLICT, Verdict.TOO_LATE, *(v for v in Verdict if is_rejected(v))], np.uint8
)


def _explain(verdict: int) -> str:
    return {
        Verdict.CONFLICT: "id: an event of this team, source and id with other content was counted",
        Verdict.TOO_LATE: "time: older than the deduplication horizon",
        Verdict.TIME_AHEAD: "time: too far ahead of the broker's clock",
        Verdict.AMOUNT_TOO_LARGE: f"the run would cost more than {MAX_CREDITS_MICRO} millionths",
    }[Verdict(verdict)]


def _price(
    context: _Context,
    batch: EventBatch,
    valid: Valid,
    by_record: NDArray[np.uint8],
    details: dict[int, str],
) -> tuple[Valid, Priced]:
    """Price the completed runs among the events.

    A run that breaks a rule between fields is shown to the models, which name the reason.
    """
    while True:
        at = [i for i, event in enumerate(valid.events) if type(event) is Completed]
        runs: list[Completed] = [valid.events[i] for i in at]  # type: ignore[misc]
        where = np.array(at, np.int64)
        columns = run_columns(runs, valid.times_us[where])
        refused: set[int] = set()
        for i in where[columns.inconsistent].tolist():
            position = int(valid.at[i])
            try:
                decode_slowly(batch.values[position])
            except Refused as error:
                by_record[position], details[position] = error.verdict, error.detail
                refused.add(i)
        if not refused:
            return valid, price_runs(context.entries.book, runs, where, columns, valid.times_us)
        valid = valid.without(refused)


def _fingerprints(valid: Valid) -> NDArray[np.uint32]:
    """Return 32 bits that differ when type, time or data of two events of one identity do."""
    hashed = xxhash.xxh3_64_intdigest
    mixed = np.array([hashed(content_of(e), TYPE_NUMBER[type(e)]) for e in valid.events], np.uint64)
    mixed ^= valid.times_us.astype(np.uint64) * _GOLDEN_RATIO
    return (mixed >> np.uint64(32)).astype(np.uint32)


def _decide_limits(
    context: _Context,
    batch: EventBatch,
    valid: Valid,
    runs: Priced,
    counted: NDArray[np.bool_],
    sessions: tuple[Session, ...],
    clock_us: int,
) -> tuple[Decided, CauseOf, Mapping[Window, Used] | None]:
    """Return where limits stand after this step, the causes of their crossings, and what was used.

    Limits that entries of this step set are in force for its events. `clock_us` is the clock after
    them.
    """
    state, limits, zone_of = context.state, context.governed.limits, context.entries.zone_of
    anew = context.governed.limits_named_by(context.control)
    if not len(limits) and not anew:
        return Decided(), {}, None
    starts = _starts(state, valid, counted, sessions)
    uses, at = uses_of(runs, measures_of(runs), runs.chosen(counted), starts)
    used = state.totals.by_window(uses.keys, uses.totals(), zone_of) if len(at) else {}
    decision = Decision(
        state.totals,
        state.reached,
        Side(state.control.limits, state.entries.zone_of, state.told_us),
        Side(limits, zone_of, clock_us),
        Spent(uses, used, _corrected(context, clock_us)),
        anew,
    )
    decided = decision.decide(state.clock_us, tell_all=state.is_untold)
    causes = {
        one.at: _cause_of(batch, valid, int(at[one.at]))
        for one in decided.crossings
        if one.at is not None
    }
    return decided, causes, used


def _corrected(context: _Context, clock_us: int) -> dict[Window, Used]:
    over_us = clock_us - context.policy.horizon_us
    zone_of = context.entries.zone_of
    return used_by_corrections(context.corrections, context.state.totals, zone_of, over_us)


def _with_cause(
    note: Note, batch: EventBatch, valid: Valid, charged: NDArray[np.int64]
) -> dict[str, object]:
    """Return what is told of an account; `charged` are the valid events of the charges."""
    if note.at is None:
        return note.told
    return {**note.told, **_cause_of(batch, valid, int(charged[note.at]))}


def _cause_of(batch: EventBatch, valid: Valid, i: int) -> dict[str, object]:
    """Return how a crossing names the valid event that caused it."""
    event, position = valid.events[i], int(valid.at[i])
    return {
        "cause": {"offset": batch.offsets[position], "source": event.source, "id": event.id},
        "cause_log_time_us": batch.log_times_us[position],
    }


def _starts(
    state: PartitionState,
    valid: Valid,
    counted: NDArray[np.bool_],
    sessions: tuple[Session, ...],
) -> list[tuple[int, Session]]:
    """Return which of the valid events started a session that had not started before."""
    new = {session.key: session for session in started(state.sessions.get, sessions)}
    found: list[tuple[int, Session]] = []
    for i, event in enumerate(valid.events if new else ()):
        if isinstance(event, SessionStarted) and counted[i]:
            session = new.pop((event.data.team_id, event.data.session_id), None)
            if session is not None:
                found.append((i, session))
    return found


def _by_offset(batch: EventBatch, by_record: NDArray[np.uint8]) -> NDArray[np.uint8]:
    verdicts = np.full(batch.end - batch.start, Verdict.GAP, np.uint8)
    verdicts[: max(0, batch.log_start - batch.start)] = Verdict.UNREAD
    verdicts[np.array(batch.offsets, np.int64) - batch.start] = by_record
    return verdicts


def _last_event(state: PartitionState, batch: EventBatch) -> LastEvent:
    if not batch.offsets:
        return state.last_event
    return LastEvent(
        batch.offsets[-1],
        batch.log_times_us[-1],
        xxhash.xxh3_64_intdigest(batch.values[-1] or b""),
        batch.leader_epoch,
    )


def idle_step(state: PartitionState, now_us: int) -> Step:
    """Return the record that lets a caught-up partition's clock go on while nothing arrives.

    The broker's own time of appending it becomes the clock, unless that lies too far ahead.
    """
    limit_us = max(state.clock_us, now_us) + state.policy.clock_skew_us
    return build_step(
        state,
        Kind.IDLE,
        {},
        Changes(),
        events_to=state.events_position,
        control_to=state.control_position,
        catalog_to=state.catalog_position,
        clock_us=state.clock_us,
        clock_limit_us=limit_us,
        last_event=state.last_event,
        counts={},
        reasons={},
    )
