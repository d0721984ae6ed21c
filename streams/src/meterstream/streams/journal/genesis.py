"""Begins a generation: the first one, or a new one where the old state cannot be joined."""

import logging
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer

from meterstream.schemas.journal.header import NONE
from meterstream.streams.core import (
    PartitionState,
    Policy,
    Step,
    begin,
    genesis_step,
    stands_of,
    totals_of,
)
from meterstream.streams.kafka import Broker, log_bounds

from .errors import LedgerUnavailable, NotJoined
from .furthest import Furthest, furthest_state, reached_from
from .ledger import Counted, Ledger
from .recount import kept_ids, recount, trust_ids_since
from .restore import ADVICE, Topics, check_events, without_advice

log = logging.getLogger("meterstream.restore")


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """A genesis record, the state it begins, and the journal offset that it must get."""

    step: Step
    state: PartitionState
    """As it is once the record stands at `next_offset`, and only then."""
    next_offset: int
    positions_from: str
    """Where the start position comes from, in words."""
    lost: tuple[str, ...]
    """What the new generation does without, in words."""


@dataclass(slots=True)
class _Start:
    state: PartitionState
    """What is carried over, brought to the start position."""
    events_from: int
    source: str
    generation: int
    """The highest generation that is known to have been used."""
    is_followed: bool
    """Whether the state comes from snapshot or journal, and not from counting events again."""
    lost: list[str] = field(default_factory=list)


def first_generation(
    broker: Broker, topics: Topics, policy: Policy, ledger: Ledger | None, partition: int
) -> Step:
    """Return the genesis record of a journal that never held anything: from the logs' starts.

    Raises NotJoined if ClickHouse has counted events of this topic: then a journal was lost. Where
    ClickHouse cannot be asked that is logged, for a first start must not depend on it.
    """
    try:
        counted = ledger(topics.events_id, partition) if ledger is not None else None
    except LedgerUnavailable as unavailable:
        counted = None
        log.warning(
            "partition %d begins generation 1; whether events of this topic were counted before, by"
            " a journal that is lost, could not be checked: %s",
            partition,
            unavailable,
        )
    if counted is not None:
        raise NotJoined(
            f"{topics.journal}-{partition} and {topics.snapshots}-{partition} are empty, but"
            f" ClickHouse has counted {topics.events}-{partition} up to offset"
            f" {counted.events_position}: the journal was lost or made again, and a first"
            f" generation would count those events twice. {ADVICE}"
        )
    consumer = broker.consumer()
    try:
        return genesis_step(
            grace_seconds=policy.grace_seconds,
            generation=1,
            events_topic_id=topics.events_id,
            journal_topic_id=topics.journal_id,
            control_topic_id=topics.control_id,
            catalog_topic_id=topics.catalog_id,
            events_from=log_bounds(consumer, topics.events, partition)[0],
            control_from=log_bounds(consumer, topics.control, partition)[0],
            catalog_from=log_bounds(consumer, topics.catalog, 0)[0],
        )
    finally:
        consumer.close()


def new_generation(
    broker: Broker,
    topics: Topics,
    policy: Policy,
    partition: int,
    ledger: Ledger | None,
    max_bytes: int,
    *,
    with_snapshots: bool = True,
) -> NewGeneration:
    """Return the genesis record of the next generation.

    It starts where the last record stands that can be followed from a snapshot or the journal's
    beginning. Where the chain breaks off before the journal's end, ClickHouse may have more, and
    it starts behind that. Without snapshots it starts where sinks have come to, so that they get
    what they missed. Raises NotJoined if neither is known, for to start at the beginning would
    count events twice, and LedgerUnavailable if ClickHouse is needed and cannot tell.
    """
    consumer = broker.consumer()
    try:
        furthest = furthest_state(
            consumer, topics, policy, partition, with_snapshots=with_snapshots
        )
        start = _start(consumer, topics, policy, partition, furthest, ledger)
        state, lost = start.state, start.lost
        control_from, catalog_from = state.control_position, state.catalog_position
        control = tuple(state.control.kept.values())
        if not start.is_followed or state.control_topic_id != topics.control_id:
            control_from, _ = log_bounds(consumer, topics.control, partition)
            # What was granted stays granted: whoever sends it again must not grant it twice.
            kept = state.control.credited()
            if gone := len(control) - len(kept):
                lost.append(f"{gone} limits and imports of a control topic that was made again")
            control = kept
        if not start.is_followed or state.catalog_topic_id != topics.catalog_id:
            # What is read again replaces what is kept of it, by its key.
            catalog_from, _ = log_bounds(consumer, topics.catalog, 0)
        if not start.is_followed:
            lost.append("usage that limits count, of events that were not counted again")
        ids = kept_ids(state)
        carried: dict[str, Any] = {
            "positions_from": start.source,
            "ids": len(ids),
            "sessions": len(state.sessions),
            "corrections": len(state.control.corrected),
            "accounts": len(state.ledger),
            "open_cells_closed": state.live_cells,
            "lost": lost,
        }
        step = genesis_step(
            grace_seconds=policy.grace_seconds,
            generation=start.generation + 1,
            events_topic_id=topics.events_id,
            journal_topic_id=topics.journal_id,
            control_topic_id=topics.control_id,
            catalog_topic_id=topics.catalog_id,
            events_from=start.events_from,
            control_from=control_from,
            catalog_from=catalog_from,
            clock_us=state.clock_us,
            prev=furthest.end - 1 if furthest.end else NONE,
            ids=ids,
            ids_since_us=state.ids_since_us,
            sessions=tuple(state.sessions.values()),
            catalog=tuple(state.entries.catalog.values()),
            control=control,
            totals=totals_of(state.totals),
            reached=stands_of(state.reached),
            corrected=state.control.corrected,
            accounts=tuple(state.ledger),
            ahead=state.ledger.ahead,
            counted=tuple(state.counted.values()),
            carried=carried,
            max_bytes=max_bytes // 2,
        )
        begun = begin(policy, partition, furthest.end, 0, step)
        return NewGeneration(step, begun, furthest.end, start.source, tuple(lost))
    finally:
        consumer.close()


def _start(
    consumer: Consumer,
    topics: Topics,
    policy: Policy,
    partition: int,
    furthest: Furthest,
    ledger: Ledger | None,
) -> _Start:
    """Decide where the new generation reads on, and bring what it carries over to there."""
    name = f"{topics.events}-{partition}"
    first, end = log_bounds(consumer, topics.events, partition)
    state, reached = furthest.state, furthest.reached
    is_same_topic = state is not None and state.events_topic_id == topics.events_id
    lost: list[str] = []
    # By generation first: a new one may have started further back, on a log that was cut.
    known: list[tuple[int, int, str]] = []
    if is_same_topic and reached is not None:
        known.append((reached.generation, reached.events_position, "the journal"))
    counted: Counted | None = None
    if not is_same_topic or furthest.broke_off is not None:
        counted = ledger(topics.events_id, partition) if ledger is not None else None
        if counted is not None:
            link = reached_from(consumer, topics, partition, counted, furthest.end)
            known.append((link.generation, link.events_position, "the ledger in ClickHouse"))
    if furthest.broke_off is not None and state is not None:
        lost.append(f"records after journal offset {state.link.prev}: {furthest.broke_off}")
        if ledger is None:
            lost.append("what those records counted may be counted twice: ClickHouse was not asked")
    if state is not None and not is_same_topic:
        known = known or [(0, first, "the start of an events topic that was made again")]
    if not known:
        raise NotJoined(
            f"{name}: neither a snapshot nor a ledger says up to where events were counted, and a"
            " new generation could count them twice. Bring back the topic"
            f" {topics.snapshots}, or let the meter reach ClickHouse, which has the ledger"
        )
    _, position, source = max(known)
    if state is not None and is_same_topic:
        try:
            check_events(consumer, topics, state)
        except NotJoined as apart:
            lost.append(f"events in the place of counted ones: {without_advice(apart)}")
    if position > end:
        position, source = end, f"the end of {name}, which was cut"
    if state is None:
        lost += ["sessions", "balances", "limit states"]
    generations = [furthest.generation, counted.generation if counted is not None else 0]
    if state is None or not is_same_topic:
        scratch = _scratch(topics, policy, partition, first, state)
    else:
        scratch = state
    unread = recount(consumer, topics.events, scratch, position)
    if state is None and first > 0:
        # Only now: while they are decided once more, events are not too late for that.
        trust_ids_since(consumer, topics.events, scratch, first)
    if unread:
        lost.append(
            f"identities and sessions of {unread} events that were counted and that {name} no"
            " longer holds: events from their time are too late"
        )
    return _Start(scratch, position, source, max(generations), state is not None, lost)


def _scratch(
    topics: Topics, policy: Policy, partition: int, first: int, like: PartitionState | None
) -> PartitionState:
    """Return a state at the start of the events topic that knows what `like` does."""
    step = genesis_step(
        grace_seconds=policy.grace_seconds,
        generation=1,
        events_topic_id=topics.events_id,
        journal_topic_id=topics.journal_id,
        control_topic_id=topics.control_id if like is None else like.control_topic_id,
        catalog_topic_id=topics.catalog_id if like is None else like.catalog_topic_id,
        events_from=first,
        control_from=0 if like is None else like.control_position,
        catalog_from=0 if like is None else like.catalog_position,
        clock_us=0 if like is None else like.clock_us,
        ids=None if like is None else kept_ids(like),
        ids_since_us=None if like is None else like.ids_since_us,
        sessions=() if like is None else tuple(like.sessions.values()),
        catalog=() if like is None else tuple(like.entries.catalog.values()),
        control=() if like is None else tuple(like.control.kept.values()),
        totals=() if like is None else totals_of(like.totals),
        reached=() if like is None else stands_of(like.reached),
        corrected=None if like is None else like.control.corrected,
        accounts=() if like is None else tuple(like.ledger),
        ahead=None if like is None else like.ledger.ahead,
        counted=() if like is None else tuple(like.counted.values()),
    )
    return begin(policy, partition, 0, 0, step)
