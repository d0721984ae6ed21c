"""Accounts against a slow model: every draw, note and balance, whatever the borders of batches."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.budget import share
from tests.support.core_runner import read_table
from tests.support.craft import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Json,
    Partition,
    adjustment,
    entries,
    envelope,
    run,
    text_of,
    void,
)
from tests.support.ledger_model import FOREVER_US, SlowAccount, SlowGrant, SlowPlan

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.schemas.registry import parse_event
from meterstream.schemas.times import parse_rfc3339, to_us
from meterstream.schemas.topics import CONTROL
from meterstream.streams.core import Step
from meterstream.streams.core.corrections import refund_id

STARTS = tuple(
    us * SECOND
    for us in (
        1_767_225_600,  # 2026-01-01T00:00:00Z
        1_835_222_400,  # 2028-02-27T00:00:00Z, before a leap day
        1_774_656_000 + 13 * 3600,  # 2026-03-28T13:00:00Z, before clocks go forward in Europe
        1_793_404_800 + 7 * 3600,  # 2026-10-31T07:00:00Z
    )
)
PLANS = (
    {"allowance": 1000, "cap": 300, "days": 0, "overdraft": 0},
    {"allowance": 3000, "cap": 0, "days": 0, "overdraft": 500},
    {"allowance": 500, "cap": 10_000, "days": 10, "overdraft": 0},
    {"allowance": 0, "cap": 0, "days": 0, "overdraft": 100},
)
ZONES = (None, "UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia")

spans = st.sampled_from((0, 1, SECOND, HOUR, 11 * HOUR, DAY, 6 * DAY, 8 * DAY, 27 * DAY, 40 * DAY))
later = st.one_of(st.none(), spans.map(lambda span: span + SECOND))
amounts = st.one_of(st.integers(0, 400), st.integers(1, 5_000))
ahead = st.sampled_from((0, 0, 0, 1, SECOND, 4 * MINUTE, -1, -HOUR))
operations = st.one_of(
    st.tuples(st.just("run"), spans, amounts, ahead),
    st.tuples(st.just("run"), st.just(0), amounts, ahead),
    st.tuples(
        st.just("grant"), st.sampled_from(("funded", "reward", "top_up")), st.integers(1, 3_000),
        st.sampled_from((10, 100)), later, later,
    ),
    st.tuples(
        st.just("plan"), st.integers(0, len(PLANS) - 1), spans, later,
        st.sampled_from((None, 1, 15, 29, 30, 31)), st.sampled_from(ZONES),
    ),
    st.tuples(st.just("end"), st.integers(0, 5), st.one_of(st.none(), spans)),
    st.tuples(st.just("void"), st.integers(0, 30)),
    st.tuples(st.just("adjust"), st.integers(0, 30), st.integers(-300, 300)),
    st.tuples(st.just("idle"), spans),
)  # fmt: skip
stories = st.lists(operations, min_size=1, max_size=30)
cuts = st.sets(st.integers(0, 30))
thorough = settings(max_examples=share(100), deadline=None, suppress_health_check=list(HealthCheck))


def published() -> list[Json]:
    """Return the plans, as the catalog has them."""
    return [
        envelope(
            "plan.published",
            f"p{i}",
            0,
            {
                "plan_id": f"p{i}", "version": 1, "name": "P", "tier": "team",
                "allowance_credits_micro": plan["allowance"],
                "rollover_cap_micro": plan["cap"], "overdraft_micro": plan["overdraft"],
                **({"rollover_expiry_days": plan["days"]} if plan["days"] else {}),
            },
        )
        for i, plan in enumerate(PLANS)
    ]  # fmt: skip


LIMIT = envelope(
    "limit.set",
    "l",
    0,
    {
        "team_id": "team", "limit_id": "low", "version": 1, "subject": "team",
        "measure": "credits", "window": "balance", "amount": 1000,
        "alert_levels_permille": [333, 900, 1000],
    },
)  # fmt: skip


@dataclass
class Story:
    """What happens to one team, told to the model at once and to the meter in batches."""

    start_us: int
    model: SlowAccount = field(default_factory=SlowAccount)
    steps: list[tuple[str, Any, int]] = field(default_factory=list)
    """Kind (run, control or idle), the event or time, and the clock after it."""
    runs: list[Json] = field(default_factory=list)
    voided: set[int] = field(default_factory=set)
    planned: list[tuple[Any, ...]] = field(default_factory=list)
    """The start, plan, anchor and zone of each subscription."""

    def tell(self, operations: Sequence[tuple[Any, ...]]) -> None:
        """Let the model do it all, and keep what the meter is to be told."""
        clock_us = self.start_us
        for number, (kind, *about) in enumerate(operations):
            if kind == "run":
                clock_us += about[0]
                run_us = clock_us + about[2]
                event = run(f"e-{number}", run_us, credits_micro=about[1])
                self.runs.append(event)
                self.steps.append(("run", event, clock_us))
                self.model.charge(event["id"], about[1], run_us, clock_us)
            elif kind == "idle":
                clock_us += about[0]
                self.steps.append(("idle", clock_us, clock_us))
                self.model.tick(clock_us)
            else:
                event = getattr(self, f"_{kind}")(number, clock_us, *about)
                if event is not None:
                    self.steps.append(("control", event, clock_us))
            self.model.check()

    def _grant(
        self, number: int, clock_us: int, kind: str, amount: int, priority: int,
        start: int | None, end: int | None,
    ) -> Json:  # fmt: skip
        starts_us = 0 if start is None else clock_us + start
        expires_us = FOREVER_US if end is None else max(starts_us, clock_us) + end
        grant = SlowGrant(f"g-{number}", kind, amount, priority, starts_us, expires_us)
        self.model.grant(grant, clock_us)
        data = {
            "team_id": "team", "grant_id": f"g-{number}", "kind": kind, "amount_micro": amount,
            "priority": priority,
        }  # fmt: skip
        if start is not None:
            data["starts_at"] = text_of(starts_us)
        if end is not None:
            data["expires_at"] = text_of(expires_us)
        return envelope("credits.granted", f"c-{number}", 0, data)

    def _plan(
        self, number: int, clock_us: int, which: int, start: int, end: int | None,
        anchor: int | None, zone: str | None,
    ) -> Json | None:  # fmt: skip
        starts_us = clock_us + start - HOUR
        ends_us = FOREVER_US if end is None else starts_us + end
        if ends_us <= clock_us:
            return None  # one that is over is refused
        self.planned.append((starts_us, which, anchor, zone))
        return self._subscribe(number, clock_us, starts_us, ends_us, which, anchor, zone)

    def _end(self, number: int, clock_us: int, which: int, end: int | None) -> Json | None:
        """End a subscription about now or later, or cancel it."""
        if which >= len(self.planned):
            return None
        starts_us, *about = self.planned[which]
        ends_us = starts_us if end is None else max(starts_us, clock_us + end - HOUR)
        return self._subscribe(number, clock_us, starts_us, ends_us, *about)

    def _subscribe(
        self, number: int, clock_us: int, starts_us: int, ends_us: int, which: int,
        anchor: int | None, zone: str | None,
    ) -> Json:  # fmt: skip
        data: Json = {
            "team_id": "team", "plan_id": f"p{which}", "plan_version": 1,
            "starts_at": text_of(starts_us),
        }  # fmt: skip
        if ends_us != FOREVER_US:
            data["ends_at"] = text_of(ends_us)
        if anchor is not None:
            data["anchor_day"] = anchor
        if zone is not None:
            data["zone"] = zone
        where = zone or "UTC"
        plan = PLANS[which]
        self.model.subscribe(
            SlowPlan(
                f"p{which}", starts_us, ends_us, anchor, where, plan["allowance"], plan["cap"],
                plan["days"], plan["overdraft"],
            ),
            clock_us,
        )  # fmt: skip
        return envelope("subscription.changed", f"c-{number}", 0, data)

    def _void(self, number: int, clock_us: int, which: int) -> Json | None:
        if which >= len(self.runs) or which in self.voided:
            return None
        self.voided.add(which)
        credits_micro = -self.runs[which]["data"]["credits_micro"]
        return self._correct(number, clock_us, which, void(self.runs[which]), credits_micro)

    def _adjust(self, number: int, clock_us: int, which: int, more: int) -> Json | None:
        if which >= len(self.runs) or which in self.voided:
            return None
        event = adjustment(self.runs[which], number + 1, credits_micro=more)
        return self._correct(number, clock_us, which, event, more)

    def _correct(
        self, number: int, clock_us: int, which: int, event: Json, credits_micro: int
    ) -> Json:
        event["id"] = f"c-{number}"
        parsed: Any = parse_event(json.dumps(event).encode(), CONTROL)
        run_us = _time_of(self.runs[which])
        model = self.model
        since_us = FOREVER_US if model.since_us is None else model.since_us
        is_refused = run_us >= since_us and model.drawn + credits_micro < 0
        if credits_micro and not is_refused:
            name = refund_id(parsed)
            self.model.correct(f"c-{number}", credits_micro, run_us, name, clock_us)
        return event


def _time_of(event: Json) -> int:
    return to_us(parse_rfc3339(event["time"]))


@dataclass
class Told:
    """What the records of the meter say."""

    draws: dict[str, list[tuple[int, str, int]]] = field(default_factory=dict)
    """By charge: number of the grant (-1: none), kind, amount."""
    notes: list[tuple[object, ...]] = field(default_factory=list)
    grants: dict[int, Json] = field(default_factory=dict)
    """The last row of each grant, by its number."""
    states: dict[str, Json] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    controls: dict[int, str] = field(default_factory=dict)
    """Names of control events by their offsets."""

    def read(self, step: Step, runs: Sequence[Json]) -> None:
        """Read a record whose events are `runs`."""
        sections = unpack_sections(step.value)

        def rows(section: Section) -> list[Json]:
            return read_table(sections[section]) if section in sections else []

        first = step.header.events_from
        charges = [runs[row["event_offset"] - first]["id"] for row in rows(Section.CHARGES)]
        charges += [self.controls[row["control_offset"]] for row in rows(Section.CORRECTIONS)]
        for row in rows(Section.GRANTS):
            self.grants[row["number"]] = row
            self.names[row["grant_id"]] = row["number"]
        for row in rows(Section.DRAWS):
            name = charges[row["charge"]] if row["charge"] >= 0 else ""
            number = self.names.get(row["grant_id"], -1)
            self.draws.setdefault(name, []).append((number, row["kind"], row["amount_micro"]))
        for row in rows(Section.LIMIT_STATES):
            self.states[row["limit_id"]] = row
        for one in json.loads(bytes(sections.get(Section.CROSSINGS, b"[]"))):
            self.notes.append(self._note(one))

    def _note(self, one: Json) -> tuple[object, ...]:
        cause = one.get("cause", {}).get("id")
        match one["kind"]:
            case "exhausted":
                return "exhausted", one["balance_micro"], cause
            case "reset":
                return "reset", -one["used"], one["reason"]
            case "low":
                return "low", one["level_permille"], one["balance_micro"], cause
            case "expiring":
                name = self.names[one["grant_id"]]
                return "expiring", name, one["left_micro"], one["expires_at_us"]
        raise AssertionError(one)


def records(story: Story, cut_at: set[int]) -> Iterator[tuple[list[Json], list[Json], list[int]]]:
    """Yield entries, runs and log times of records; an idle one has a time and no runs."""
    control: list[Json] = []
    runs: list[Json] = []
    times: list[int] = []
    for i, (kind, event, clock_us) in enumerate(story.steps):
        if (kind != "run" and runs) or (i in cut_at and (runs or control)) or kind == "idle":
            yield control, runs, times
            control, runs, times = [], [], []
        if kind == "control":
            control.append(event)
        elif kind == "run":
            runs.append(event)
            times.append(clock_us)
        else:
            yield [], [], [clock_us]
    yield control, runs, times


def meter(
    story: Story, cut_at: set[int], restarts: set[int], with_limit: bool
) -> tuple[Told, Partition]:
    """Return what a meter says of a story, and where it ends.

    At every other restart the control topic has been made again, and what was granted and
    subscribed to is sent once more.
    """
    partition = Partition(clock_us=story.start_us)
    partition.take(catalog=entries(*published()), control=entries(*([LIMIT] if with_limit else [])))
    told, offset = Told(), 10
    sent = {"": LIMIT} if with_limit else {}
    for number, (control, runs, times) in enumerate(records(story, cut_at)):
        if times and not runs:
            partition.idle(times[0])
            while partition.state.is_due:
                told.read(partition.take_batch(None), [])
            continue
        sent |= {_name_of(event): event for event in control if "original_id" not in event["data"]}
        for i, event in enumerate(control, offset):
            told.controls[i] = event["id"]
        taken = entries(*control, first=offset)
        offset += len(control)
        told.read(partition.take(*runs, at_us=times, control=taken), runs)
        for account in partition.state.ledger:
            assert account.difference == 0, "nothing is lost or made"
        if number in restarts and number % 2:
            partition = partition.restarted(partition.policy)
        elif number in restarts:
            partition, offset = partition.with_control_made_again(), len(sent)
            told.read(partition.take(control=entries(*sent.values())), [])
    return told, partition


def _name_of(event: Json) -> str:
    """Return what an entry is replaced by: the next of the same name."""
    return str(event["data"].get("grant_id") or event["data"]["starts_at"])


@given(
    st.sampled_from(STARTS), stories, cuts, st.sets(st.integers(0, 30), max_size=3), st.booleans()
)
@thorough
def test_accounts_are_what_the_slow_model_says(
    start_us: int, story: list[tuple[Any, ...]], cut_at: set[int], restarts: set[int], low: bool
) -> None:
    """Draws in their order, notes with their causes, grants and balances are the model's."""
    one = Story(start_us)
    if low:
        one.model.low = 1000, [333, 900, 1000]
    one.tell(story)
    told, partition = meter(one, cut_at, restarts, low)
    model = one.model
    number_of = {grant.grant_id: grant.number for grant in model.grants} | {"": -1}
    assert told.draws == {
        name: [(number_of[grant_id], kind, amount) for grant_id, kind, amount in draws]
        for name, draws in model.draws.items()
    }
    assert told.notes == [
        ("expiring", number_of[str(note[1])], *note[2:]) if note[0] == "expiring" else note
        for note in model.notes
    ]
    begun = [grant for grant in model.grants if grant.state != "waiting"]
    assert {
        number: (row["left_micro"], row["expired_micro"], row["rolled_over_micro"])
        for number, row in told.grants.items()
        if row["status"] != "waiting"
    } == {grant.number: (grant.left, grant.expired, grant.rolled_over) for grant in begun}
    for grant in begun:
        name = told.grants[grant.number]["grant_id"]
        assert name == grant.grant_id or grant.grant_id.startswith(("more/", "again/"))
    names = [row["grant_id"] for row in told.grants.values()]
    assert len(set(names)) == len(names), "a grant is known by its id"
    account = partition.state.ledger.get("team")
    if account is None:
        assert model.since_us is None
        return
    assert (account.balance, account.overdrawn, account.drawn, account.granted) == (
        model.balance(), model.overdrawn, model.drawn, model.granted,
    )  # fmt: skip
    if account.has_begun:
        state = told.states["credits"]
        assert (state["used"], state["amount"]) == (-model.balance(), model.overdraft())
        assert state["blocked"] == int(model.is_exhausted)
