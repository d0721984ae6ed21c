"""Events made by hand for tests of the core, and a partition that reads its records back.

Everything starts at `NOW`, the midnight that begins 2026, so that windows are easy to name.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from meterstream.schemas.journal import Header, Section, unpack_sections
from meterstream.schemas.rows import CELL_SUMS
from meterstream.schemas.times import format_rfc3339, from_us, parse_rfc3339, to_us
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import (
    Entry,
    EventBatch,
    PartitionState,
    Policy,
    Step,
    apply_record,
    apply_step,
    begin,
    compute_step,
    genesis_step,
    idle_step,
    load_snapshot,
    stands_of,
    take_snapshot,
    totals_of,
)
from meterstream.streams.core.arrow import CHARGE_SCHEMA, decode_cells, decode_rows
from meterstream.streams.journal.recount import kept_ids

from .core_runner import contents_of

NOW = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z in microseconds."""
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

EVENTS_TOPIC = UUID(int=1)
JOURNAL_TOPIC = UUID(int=2)
CONTROL_TOPIC = UUID(int=3)
CATALOG_TOPIC = UUID(int=4)
FIELDS = [column.name for column in CELL_SUMS]

Json = dict[str, Any]


def text_of(time_us: int) -> str:
    """Return a time as RFC 3339 text."""
    return format_rfc3339(from_us(time_us))


def envelope(kind: str, event_id: str, at_us: int, data: Json, **attributes: Any) -> Json:
    """Return an event of the type `meterstream.KIND.v1`."""
    return {
        "specversion": "1.0",
        "type": f"meterstream.{kind}.v1",
        "source": "/tests",
        "id": event_id,
        "time": text_of(at_us),
        "data": data,
        **attributes,
    }


def run(
    event_id: str = "e-1", at_us: int = NOW, *, started_us: int | None = None, **data: Any
) -> Json:
    """Return a completed run that lasted a second unless `started_us` says otherwise."""
    started = text_of(at_us - SECOND if started_us is None else started_us)
    plain = {"team_id": "team", "run_id": "run", "operation": "agent_run", "status": "completed"}
    return envelope("run.completed", event_id, at_us, {**plain, "started_at": started, **data})


def session(kind: str, event_id: str = "s-1", at_us: int = NOW, **data: Any) -> Json:
    """Return a session event: `started`, `heartbeat` or `ended`."""
    return envelope(
        f"session.{kind}", event_id, at_us, {"team_id": "team", "session_id": "s", **data}
    )


def void(original: Json, **data: Any) -> Json:
    """Return the void of a completed run as it was counted, `data` where that is not told here."""
    run, time = original["data"], original["time"]
    dimensions = ("user_id", "project_id", "agent_id", "model", "provider", "feature_id", "product")
    taken = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    sizes = ("request_bytes", "response_bytes")
    amounts = {name: -run.get(name, 0) for name in (*taken, *sizes, "credits_micro")}
    duration_us = to_us(parse_rfc3339(time)) - to_us(parse_rfc3339(run["started_at"]))
    return envelope(
        "usage.voided",
        f"void-{original['id']}",
        NOW,
        {
            "team_id": run["team_id"],
            "original_source": original["source"],
            "original_id": original["id"],
            "original_time": time,
            "run_id": run["run_id"],
            "operation": run["operation"],
            "card": "explicit" if "credits_micro" in run else "unpriced",
            "errors": -int(run["status"] == "failed"),
            "unpriced_runs": -int("credits_micro" not in run),
            "duration_us": -duration_us,
            "latency_us": -run.get("latency_us", duration_us),
            **{name: run[name] for name in (*dimensions, "session_id") if name in run},
            **amounts,
            **data,
        },
    )


def adjustment(original: Json, number: int = 1, **data: Any) -> Json:
    """Return an adjustment of a completed run."""
    about = void(original)["data"]
    kept = {name: about[name] for name in about if not name.endswith(_AMOUNTS)}
    return envelope(
        "usage.adjusted", f"{number}-{original['id']}", NOW, {**kept, "number": number, **data}
    )


_AMOUNTS = ("_tokens", "_bytes", "_us", "_micro", "errors", "_runs")


def card(
    version: int = 1,
    effective_us: int = NOW - DAY,
    *,
    name: str = "default",
    prices: Sequence[Json] = ({"input_micro_per_1k": 1000},),
    **attributes: Any,
) -> Json:
    """Return a rate card."""
    data = {
        "name": name,
        "version": version,
        "effective_from": text_of(effective_us),
        "prices": list(prices),
    }
    return envelope("rate-card.published", f"{name}-{version}", NOW, data, **attributes)


def encode(event: Json | bytes | None) -> bytes | None:
    """Return an event as a record's value; bytes and None stay what they are."""
    return event if event is None or isinstance(event, bytes) else json.dumps(event).encode()


def entries(*events: Json | bytes | None, first: int = 0, at_us: int = NOW) -> list[Entry]:
    """Return catalog or control records at consecutive offsets from `first` on."""
    return [Entry(first + i, at_us, None, encode(event)) for i, event in enumerate(events)]


def batch_of(
    start: int, events: Sequence[Json | bytes | None], log_times_us: Sequence[int]
) -> EventBatch:
    """Return events at consecutive offsets from `start` on."""
    offsets = range(start, start + len(events))
    return EventBatch(start, offsets.stop, offsets, log_times_us, [encode(e) for e in events])


def verdicts(step: Step) -> list[Verdict]:
    """Return the verdict on each offset that a step decides."""
    return [Verdict(v) for v in unpack_sections(step.value).get(Section.VERDICTS, b"")]


def rejects(step: Step) -> list[tuple[str, int, Verdict, str]]:
    """Return (topic, offset, verdict, detail) of all that goes to the dead-letter queue."""
    rows = json.loads(bytes(unpack_sections(step.value).get(Section.REJECTS, b"[]")))
    return [(topic, offset, Verdict(verdict), detail) for topic, offset, verdict, detail in rows]


def cells(step: Step, section: Section = Section.CELLS) -> list[tuple[int, Json]]:
    """Return the cells of a section: start in seconds after NOW, and the sums that are not 0."""
    sections = unpack_sections(step.value)
    if section not in sections:
        return []
    values = decode_cells(sections[section])
    return [
        (key[0] - NOW // SECOND, {n: v for n, v in zip(FIELDS, sums, strict=True) if v})
        for key, sums in zip(values.keys, values.sums.tolist(), strict=True)
    ]


def charges(step: Step) -> list[Json]:
    """Return the charges of a step, without what is 0 or empty."""
    sections = unpack_sections(step.value)
    if Section.CHARGES not in sections:
        return []
    rows = decode_rows(sections[Section.CHARGES], CHARGE_SCHEMA)
    return [{n: v for n, v in row.items() if v or n in ("cell", "event_offset")} for row in rows]


@dataclass
class Partition:
    """A partition whose every record is also read back into a twin, which must stay equal."""

    policy: Policy = field(default_factory=lambda: Policy(1))
    partition: int = 0
    clock_us: int = NOW
    state: PartitionState = field(init=False)
    journal: list[tuple[int, int, Header, bytes]] = field(default_factory=list)
    """Offset, log time, header and value of each record."""

    def __post_init__(self) -> None:
        """Begin the first generation."""
        genesis = genesis_step(
            grace_seconds=self.policy.grace_seconds,
            generation=1,
            events_topic_id=EVENTS_TOPIC,
            journal_topic_id=JOURNAL_TOPIC,
            control_topic_id=CONTROL_TOPIC,
            catalog_topic_id=CATALOG_TOPIC,
            events_from=0,
            clock_us=self.clock_us,
        )
        self.journal.append((0, self.clock_us, genesis.header, genesis.value))
        self.state = begin(self.policy, self.partition, 0, self.clock_us, genesis)
        self._twin = apply_record(
            self.policy, self.partition, None, 0, self.clock_us, genesis.header, genesis.value
        )

    def take(
        self,
        *events: Json | bytes | None,
        at_us: int | Sequence[int] | None = None,
        now_us: int | None = None,
        catalog: Sequence[Entry] = (),
        control: Sequence[Entry] = (),
    ) -> Step:
        """Decide events that were all appended at `at_us`, or each at its own time."""
        at_us = self.state.clock_us if at_us is None else at_us
        times = [at_us] * len(events) if isinstance(at_us, int) else at_us
        return self.take_batch(
            batch_of(self.state.events_position, events, times),
            now_us=now_us,
            catalog=catalog,
            control=control,
        )

    def take_batch(
        self,
        batch: EventBatch | None,
        *,
        now_us: int | None = None,
        catalog: Sequence[Entry] = (),
        control: Sequence[Entry] = (),
    ) -> Step:
        """Decide a batch, write its record and take it in."""
        if now_us is None:
            now_us = max([self.state.clock_us, *(batch.log_times_us if batch else ())])
        step = compute_step(self.state, batch, catalog=catalog, control=control, now_us=now_us)
        self.commit(step, now_us)
        return step

    def restarted(self, policy: Policy) -> "Partition":
        """Return the partition after a restart from its snapshot, with other settings."""
        other = Partition(policy, self.partition)
        snapshot = take_snapshot(self.state)
        other.state = load_snapshot(policy, snapshot.manifest, snapshot.segments)
        other._twin = load_snapshot(policy, snapshot.manifest, snapshot.segments)
        return other

    def with_control_made_again(self) -> "Partition":
        """Return the partition in a new generation, whose control topic begins anew."""
        other, state = Partition(self.policy, self.partition), self.state
        genesis = genesis_step(
            grace_seconds=self.policy.grace_seconds,
            generation=state.generation + 1,
            events_topic_id=EVENTS_TOPIC,
            journal_topic_id=JOURNAL_TOPIC,
            control_topic_id=UUID(int=5),
            catalog_topic_id=CATALOG_TOPIC,
            events_from=state.events_position,
            catalog_from=state.catalog_position,
            clock_us=state.clock_us,
            prev=state.link.prev,
            ids=kept_ids(state),
            ids_since_us=state.ids_since_us,
            sessions=tuple(state.sessions.values()),
            catalog=tuple(state.entries.catalog.values()),
            control=state.control.credited(),
            totals=totals_of(state.totals),
            reached=stands_of(state.reached),
            corrected=state.control.corrected,
            accounts=tuple(state.ledger),
            ahead=state.ledger.ahead,
        )
        offset, at_us = state.link.next_offset, state.clock_us
        other.state = begin(self.policy, self.partition, offset, at_us, genesis)
        other._twin = apply_record(
            self.policy, self.partition, None, offset, at_us, genesis.header, genesis.value
        )
        return other

    def idle(self, at_us: int) -> Step:
        """Write an idle record that the broker appends at `at_us`, which is the worker's time."""
        step = idle_step(self.state, at_us)
        self.commit(step, at_us)
        return step

    def commit(self, step: Step, timestamp_us: int) -> None:
        """Write a step's record and take it in, twice: as written, and as read back."""
        offset = self.state.link.next_offset
        header = Header.unpack(step.header.pack())
        self.journal.append((offset, timestamp_us, header, step.value))
        apply_step(self.state, step, offset, timestamp_us)
        apply_record(
            self.policy, self.partition, self._twin, offset, timestamp_us, header, step.value
        )
        assert contents_of(self._twin) == contents_of(self.state), "what is read back is the same"
        assert self._twin.closed_us == self.state.closed_us
        assert self._twin.ids_since_us == self.state.ids_since_us
        assert self._twin.told_us == self.state.told_us
        assert self._twin.is_due == self.state.is_due
