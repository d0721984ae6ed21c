"""Computing a step: from a micro-batch and a state to a journal record, without changing either.

The verdict on an offset depends on the offsets before it and never on where a batch begins or
ends, so that two meters that cut the same log differently come to the same usage.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.journal import Section
from meterstream.schemas.journal.header import Kind
from meterstream.schemas.verdicts import Verdict

from .balances import balance_states, gone_from_balances
from .batch import Entry, EventBatch
from .beginnings import encode_ahead
from .book import Note
from .checks import Checks
from .clock import run_clock
from .columns import run_columns
from .context import Context, Verdicts, candidates_of, cause_of, decided_step
from .control import corrections_of, events_of, judge_control
from .counting import Uncounted
from .deciding_teams import decide_limits, told_to_organisations, uses_asked_for
from .decode import (
    AnyEvent,
    Completed,
    Refused,
    decode_slowly,
)
from .entries import judge_catalog
from .judge import judge_identities, judge_in_order
from .ledger_rows import encode_ledger
from .limit_rows import encode_limits
from .organisation_events import until_corrections
from .organisations import compute_organisations
from .posting import charges_of, post
from .pricing import Priced, price_runs
from .quarantine import compute_around_offenders
from .read import read_batch
from .room import CellFull
from .sections import encode_sessions, event_offsets
from .state import Changes, PartitionState
from .step import Step, build_step
from .telling import PORTION
from .valid import Valid


def compute_step(
    state: PartitionState,
    batch: EventBatch | None,
    *,
    catalog: Sequence[Entry] = (),
    control: Sequence[Entry] = (),
    catalog_to: int | None = None,
    control_to: int | None = None,
    now_us: int,
    portion: int = PORTION,
) -> Step:
    """Decide a batch of events together with the entries that arrived before it.

    `now_us` is the worker's time, microseconds since 1970; it only guards the clock. Of limits
    that are told since their window, or their generation, begins, the step tells `portion` at most.
    Raises ValueError if the batch does not start at the state's position, or is more than
    `next_batch` gives. An event on which the core itself fails is found and refused as INTERNAL;
    its neighbours are counted.
    """
    if batch is not None and batch.start != state.events_position:
        raise ValueError(
            f"the batch starts at offset {batch.start}, the state is at {state.events_position}"
        )
    if batch is not None and state.telling and next_batch(state, batch)[0].end != batch.end:
        raise ValueError("a window begins with the batch, and not all limits are told of the last")
    catalog_to = _position_after("catalog", state.catalog_position, catalog, catalog_to)
    control_to = _position_after("control", state.control_position, control, control_to)
    taken_catalog, catalog_rejects = judge_catalog(state.entries, catalog)
    known = state.entries.with_taken(taken_catalog)
    taken_control, control_rejects = judge_control(
        state.control,
        control,
        state.partition,
        state.policy.partitions,
        Checks(state, known),
        state.policy.owners,
    )
    events = events_of(taken_control)
    # Each partition reads the whole catalog; one of them reports what is wrong with it.
    of_teams = state.policy.owners == "teams"
    rejects = [*(catalog_rejects if of_teams and state.partition == 0 else ()), *control_rejects]
    context = Context(
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
        portion,
    )
    if batch is None:
        position = state.events_position
        batch = EventBatch(position, position, (), (), ())
    compute = _compute if of_teams else compute_organisations
    return compute_around_offenders(partial(compute, context), batch)


def next_batch(state: PartitionState, batch: EventBatch) -> tuple[EventBatch, EventBatch | None]:
    """Return as much of a batch as one step decides, and the rest if there is any."""
    if state.telling is not None and state.begins_window(max(batch.log_times_us, default=0)):
        # The limits that are left are told first, in the windows that hold the clock: of nothing.
        return EventBatch(batch.start, batch.start, (), (), ()), batch
    return (batch, None) if state.policy.owners == "teams" else until_corrections(batch)


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


def _compute(context: Context, batch: EventBatch, quarantined: Mapping[int, str]) -> Step:
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
    candidates = candidates_of(
        context, valid, [event.data.team_id for event in valid.events], unless
    )
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

    # 5. What was used, and where limits stand after it.
    using = uses_asked_for(context, valid, counting, counted)
    decided, causes, used = decide_limits(context, batch, valid, using, clock_us)

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

    # 7. What the record says.
    told = (account for team in decided.accounts if (account := state.ledger.get(team)) is not None)
    balances = balance_states(told, posted.accounts, context.governed.limits)
    gone = gone_from_balances(posted.accounts, state.control.limits, context.governed.limits)
    sections = dict(usage.sections) | encode_limits(decided, causes, balances, notes, gone)
    sections |= encode_ledger(state.ledger, posted)
    if posted.ahead:
        sections[Section.AHEAD] = encode_ahead(posted.ahead)
    sections |= told_to_organisations(context, using)
    if sessions:
        sections[Section.SESSIONS] = encode_sessions(sessions)
    return decided_step(
        context,
        batch,
        Verdicts(by_record, details),
        judged.ids.to_bytes(),
        sections,
        Changes(
            usage.cells,
            judged.ids,
            sessions,
            context.catalog,
            context.control,
            usage.late,
            decided.stands,
            governed=context.governed,
            telling=decided.telling,
            used=None if context.corrections else used,
            accounts=posted.accounts,
            ahead=posted.ahead,
        ),
        clock_us=clock_us,
        rows=usage.rows,
        skewed_log_times=int(np.count_nonzero(log_times_us > clocks_us)),
        unpriced=usage.unpriced,
    )


def _price(
    context: Context,
    batch: EventBatch,
    valid: Valid[AnyEvent],
    by_record: NDArray[np.uint8],
    details: dict[int, str],
) -> tuple[Valid[AnyEvent], Priced]:
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


def _with_cause(
    note: Note, batch: EventBatch, valid: Valid[AnyEvent], charged: NDArray[np.int64]
) -> dict[str, object]:
    """Return what is told of an account; `charged` are the valid events of the charges."""
    if note.at is None:
        return note.told
    return {**note.told, **cause_of(batch, valid, int(charged[note.at]))}


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
