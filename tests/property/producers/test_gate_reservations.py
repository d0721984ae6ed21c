"""What processes admit stays within a hard limit, however late they learn what was counted."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from tests.support.limit_states import (
    PARTITIONS,
    heartbeat,
    heartbeats,
    limit,
    loaded_gate,
    organisation_heartbeats,
    organisation_limit,
    team_entry,
)

from meterstream.producers import Amounts, Reservation
from meterstream.producers.gate.share import SECOND_STAGE_S, Recent, share_of
from meterstream.producers.gate.states import State, read_state
from meterstream.schemas.partitions import partition_of

AMOUNT = 12
PARTITION = limit().partition


@dataclass
class _Events:
    """The events topic and the meter, obvious and slow: what was used by each event."""

    used: list[int] = field(default_factory=list)
    counted: int = 0

    def total(self, upto: int) -> int:
        return sum(self.used[:upto])


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(1, 3)),
        st.tuples(st.just("settle"), st.integers(0, 5)),
        st.tuples(st.just("release"), st.integers(0, 5)),
        st.tuples(st.just("count"), st.integers(0, 3)),
        st.tuples(st.just("tell"), st.just(0)),
        st.tuples(st.just("beat"), st.just(0)),
    ),
    max_size=80,
)


@given(steps=_STEPS)
def test_one_process_never_passes_a_limit(steps: list[tuple[str, int]]) -> None:
    """Used and reserved together stay within the amount, and room that was counted is not lost."""
    gate = loaded_gate(limit(amount=AMOUNT))
    events, open_ones, order = _Events(), list[tuple[Reservation, int]](), 1
    for what, number in steps:
        order += 1
        if what == "reserve":
            reservation = gate.reserve(Amounts(runs=number), "team-1")
            if reservation:
                open_ones.append((reservation, number))
        elif what in ("settle", "release") and open_ones:
            reservation, amount = open_ones.pop(number % len(open_ones))
            if what == "release":
                reservation.release()
            else:
                events.used.append(amount)
                reservation.settle(Amounts(runs=amount), len(events.used) + 99)
        elif what == "count":
            events.counted = min(len(events.used), events.counted + number)
        elif what == "tell":
            used = events.total(events.counted)
            gate.take(limit(amount=AMOUNT, used=used, offset=order, position=events.counted + 100))
        elif what == "beat":
            used = events.total(events.counted)
            position = events.counted + 100
            gate.take(limit(amount=AMOUNT, used=used, offset=order, position=position))
            gate.take(heartbeat(PARTITION, order, position=position))
        assert events.total(len(events.used)) + sum(held for _, held in open_ones) <= AMOUNT
    for reservation, _ in open_ones:
        reservation.release()
    used = events.total(len(events.used))
    position = len(events.used) + 100
    gate.take(limit(amount=AMOUNT, used=used, offset=order + 1, position=position))
    gate.take(heartbeat(PARTITION, order + 1, position=position))
    (told,) = gate.check("team-1").limits
    assert (told.held, told.used) == (0, used)


TEAMS = ("team-1", "team-2", "team-3")
PLACES = tuple(partition_of(team, PARTITIONS) for team in TEAMS)


class _TwoStages:
    """The events of teams, the meter of teams and that of organisations, obvious and slow."""

    def __init__(self) -> None:
        self.used: dict[int, list[int]] = {place: [] for place in PLACES}
        """What each event used, by partition."""
        self.decided = dict.fromkeys(PLACES, 0)
        """How many events the meter of teams has counted."""
        self.counted = dict.fromkeys(PLACES, 0)
        """Of how many the use is part of what the meter of organisations has counted."""

    def total(self) -> int:
        return sum(sum(used) for used in self.used.values())

    def told(self) -> int:
        return sum(sum(self.used[place][: self.counted[place]]) for place in PLACES)


_ORGANISATION_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("reserve", "settle", "release", "decide", "count", "tell", "beat", "beat_of_teams")
        ),
        st.integers(0, 5),
        st.sampled_from(range(len(TEAMS))),
    ),
    max_size=80,
)


@given(steps=_ORGANISATION_STEPS)
def test_one_process_never_passes_a_limit_of_an_organisation(
    steps: list[tuple[str, int, int]],
) -> None:
    """Whatever the teams, and however late each partition is told, used and reserved stay below."""
    gate = loaded_gate(
        organisation_limit(amount=AMOUNT),
        organisation_heartbeats(1),
        [team_entry(team, "acme") for team in TEAMS],
        gate_clock_margin_s=300,
    )
    stages, open_ones, order = _TwoStages(), list[tuple[Reservation, int, int]](), 1

    def tell() -> None:
        gate.take(organisation_limit(amount=AMOUNT, used=stages.told(), offset=order))

    for what, number, which in steps:
        order += 1
        place = PLACES[which]
        if what == "reserve":
            amount = 1 + number % 3
            if reservation := gate.reserve(Amounts(runs=amount), TEAMS[which]):
                open_ones.append((reservation, amount, place))
        elif what in ("settle", "release") and open_ones:
            reservation, amount, its = open_ones.pop(number % len(open_ones))
            if what == "release":
                reservation.release()
            else:
                stages.used[its].append(amount)
                reservation.settle(Amounts(runs=amount), len(stages.used[its]) - 1)
        elif what == "decide":
            stages.decided[place] = min(len(stages.used[place]), stages.decided[place] + number)
        elif what == "count":
            stages.counted[place] = min(stages.decided[place], stages.counted[place] + number)
        elif what == "tell":
            tell()
        elif what == "beat":
            tell()
            gate.take(organisation_heartbeats(order, stages.counted))
        elif what == "beat_of_teams":
            gate.take(heartbeat(place, order, position=stages.decided[place]))
        assert stages.total() + sum(held for _, held, _ in open_ones) <= AMOUNT
    for reservation, _, _ in open_ones:
        reservation.release()
    order += 1
    stages.counted = {place: len(used) for place, used in stages.used.items()}
    tell()
    gate.take(heartbeats(order), organisation_heartbeats(order, stages.counted))
    (told,) = gate.check("team-1").limits
    assert (told.held, told.used) == (0, stages.total())


SETTLING_S = 10.0
PROCESSES = 4


def _known(used: int, amount: int) -> State:
    record = limit(used=used, amount=amount)
    assert record.value is not None
    return read_state(record.value, record.partition)


class _Process:
    """One of several gates: what it admitted itself, and what it was told late."""

    def __init__(self, amount: int, delay_s: float, settling_s: float = SETTLING_S) -> None:
        self.amount = amount
        self.delay_s = delay_s
        self.settling_s = settling_s
        self.known_s: list[float] = []
        """For each run of its own, when it learns that it was counted."""
        self.state = _known(0, amount)
        self.recent = Recent(self.state, -settling_s)

    def learn(self, used: int, now_s: float) -> None:
        if used != self.state.used:
            self.state = _known(used, self.amount)
            self.recent = self.recent.then(self.state, now_s, self.settling_s)

    def admits(self, now_s: float) -> bool:
        held = sum(known_s > now_s for known_s in self.known_s)
        if held + 1 > self.state.room:
            return False
        share = share_of(self.state, self.recent, now_s, self.settling_s, PROCESSES)
        return held == 0 or held + 1 <= share


@given(
    amount=st.integers(1, 60),
    delays=st.lists(st.floats(0, 2), min_size=PROCESSES, max_size=PROCESSES),
    steps=st.lists(
        st.tuples(
            st.floats(0, 3), st.integers(0, PROCESSES - 1), st.integers(1, 40), st.floats(0.1, 7.9)
        ),
        max_size=40,
    ),
)
def test_several_processes_pass_a_limit_by_one_run_each_at_most(
    amount: int, delays: list[float], steps: list[tuple[float, int, int, float]]
) -> None:
    """Bursts of any process at any time, each learning of the others later, keep to the bound."""
    processes = [_Process(amount, delay_s) for delay_s in delays]
    counted_s: list[float] = []
    now_s = 0.0
    for pause_s, which, runs, takes_s in steps:
        now_s += pause_s
        process = processes[which]
        process.learn(sum(at_s + process.delay_s <= now_s for at_s in counted_s), now_s)
        for _ in range(runs):
            if process.admits(now_s):
                counted_s.append(now_s + takes_s)
                process.known_s.append(now_s + takes_s + process.delay_s)
    assert len(counted_s) <= amount + PROCESSES - 1


@given(
    amount=st.integers(1, 60),
    delays=st.lists(st.floats(0, 2), min_size=PROCESSES, max_size=PROCESSES),
    lags=st.lists(st.floats(0, SECOND_STAGE_S), min_size=len(TEAMS), max_size=len(TEAMS)),
    steps=st.lists(
        st.tuples(
            st.floats(0, 3),
            st.integers(0, PROCESSES - 1),
            st.sampled_from(range(len(TEAMS))),
            st.integers(1, 40),
            st.floats(0.1, 7.9),
        ),
        max_size=40,
    ),
)
def test_several_processes_of_several_teams_keep_to_their_organisations_limit(
    amount: int,
    delays: list[float],
    lags: list[float],
    steps: list[tuple[float, int, int, int, float]],
) -> None:
    """Bursts of any team by any process, each partition counted later than others, keep to it."""
    settling_s = SETTLING_S + SECOND_STAGE_S
    processes = [_Process(amount, delay_s, settling_s) for delay_s in delays]
    counted_s: list[float] = []
    now_s = 0.0
    for pause_s, which, team, runs, takes_s in steps:
        now_s += pause_s
        process = processes[which]
        process.learn(sum(at_s + process.delay_s <= now_s for at_s in counted_s), now_s)
        for _ in range(runs):
            if process.admits(now_s):
                at_s = now_s + takes_s + lags[team]
                counted_s.append(at_s)
                process.known_s.append(at_s + process.delay_s)
    assert len(counted_s) <= amount + PROCESSES - 1


@given(amount=st.integers(1, 10**12), used=st.integers(0, 10**12))
def test_one_process_has_all_that_is_left(amount: int, used: int) -> None:
    """Alone it may use what is left; one of several that were quiet, its part, rounded down."""
    state = _known(used, amount)
    recent = Recent(state, 0.0)
    assert share_of(state, recent, 100.0, SETTLING_S, 1) == amount - used
    assert share_of(state, recent, 100.0, SETTLING_S, 4) == (amount - used) // 4


@given(
    used=st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(0, 50)), min_size=1, max_size=200),
    asked_s=st.floats(0, 20),
)
def test_what_was_known_then_is_never_overestimated(
    used: list[tuple[float, int]], asked_s: float
) -> None:
    """Whatever steps are left out, what was used some time ago is told exactly or too low."""
    now_s, total = 0.0, 0
    recent = Recent(_known(0, 10**6), now_s)
    history = [(now_s, total)]
    for pause_s, more in used:
        now_s, total = now_s + pause_s, total + more
        recent = recent.then(_known(total, 10**6), now_s, SETTLING_S)
        history.append((now_s, total))
    moment_s = now_s + asked_s - SETTLING_S
    true = max((known for at_s, known in history if at_s <= moment_s), default=0)
    told = recent.used_before(moment_s)
    assert told <= max(true, 0) or moment_s < history[0][0]
    if asked_s >= SETTLING_S:
        assert told == total
