"""The meter's rules once more, written for the eye: slow, obvious, one event at a time.

It shares nothing with the meter or the sinks but the contract in `meterstream.schemas`. What the
meter counts, in whatever batches and after whatever restarts, must equal what stands here.
All times are microseconds since 1970 (UTC), all amounts integers.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from math import floor

from meterstream.schemas.catalog import (
    AgentRegistered,
    FeatureRegistered,
    PriceLine,
    RateCardPublished,
    RateCardPublishedData,
    UnitPrices,
)
from meterstream.schemas.envelope import Envelope
from meterstream.schemas.fields import MAX_CREDITS_MICRO
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.rows import CHARGE_COMPONENTS
from meterstream.schemas.run import RunCompleted, RunCompletedData
from meterstream.schemas.session import SessionEnded, SessionHeartbeat, SessionStarted
from meterstream.schemas.sketch import bucket_of
from meterstream.schemas.times import to_us
from meterstream.schemas.topics import CATALOG
from meterstream.schemas.verdicts import LEDGER_CLASSES, Verdict, ledger_class

MINUTE_US = 60_000_000
MAX_CELL_SUM = 2**62
"""The most that a measure of one cell adds up to."""
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

Dimensions = tuple[str, ...]
"""team, user, project, agent, model, provider, feature, product, operation; "" where absent."""
CellKey = tuple[bool, int, Dimensions]
"""Whether the cell's minute had closed, its start in seconds since 1970, its dimensions."""


@dataclass(frozen=True)
class Rules:
    """What an operator may set."""

    partitions: int
    grace_us: int = 10 * MINUTE_US
    horizon_us: int = DAY_US
    ahead_us: int = 5 * MINUTE_US
    clock_skew_us: int = 10 * MINUTE_US


@dataclass(frozen=True)
class Record:
    """One record of the events partition."""

    offset: int
    log_time_us: int
    value: bytes | None


@dataclass
class Usage:
    """What one cell sums up."""

    runs: int = 0
    errors: int = 0
    unpriced_runs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    credits_micro: int = 0
    duration_us: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    latency_us: int = 0
    first_token_us: int = 0
    session_us: int = 0
    amount_micro: int = 0
    cost_micro: int = 0
    latency_sketch: Counter[int] = field(default_factory=Counter)
    first_token_sketch: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Usage") -> None:
        """Add the usage of another cell."""
        for name, amount in vars(other).items():
            setattr(self, name, getattr(self, name) + amount)


@dataclass(frozen=True)
class Charge:
    """What one counted run, or the session time before one sign, was charged."""

    card: str
    run_micro: int = 0
    input_micro: int = 0
    output_micro: int = 0
    cached_micro: int = 0
    reasoning_micro: int = 0
    bytes_micro: int = 0
    explicit_micro: int = 0
    session_micro: int = 0
    line: int = -1
    multiplier_ppm: int = 1_000_000
    session_us: int = 0
    amount_micro: int = 0
    cost_micro: int = 0

    @property
    def credits_micro(self) -> int:
        """The sum of the components."""
        return sum(getattr(self, column.name) for column in CHARGE_COMPONENTS)

    @property
    def is_too_dear(self) -> bool:
        """Whether it is more than one charge may be."""
        return max(self.credits_micro, self.amount_micro, self.cost_micro) > MAX_CREDITS_MICRO


@dataclass
class Counted:
    """The outcome: a verdict for each offset, and what was counted."""

    verdicts: dict[int, Verdict] = field(default_factory=dict)
    cells: dict[CellKey, Usage] = field(default_factory=dict)
    charges: dict[int, Charge] = field(default_factory=dict)
    clock_us: int = 0

    @property
    def ledger(self) -> dict[str, int]:
        """How many offsets are of each class."""
        counts = dict.fromkeys(LEDGER_CLASSES, 0)
        for verdict in self.verdicts.values():
            counts[ledger_class(verdict)] += 1
        return counts


@dataclass
class _Session:
    """What is known of a session that decides what its next sign charges."""

    charged_us: int
    last_seen_us: int
    machine_size: str = ""
    ended: bool = False
    named: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    event: Envelope
    forgotten_at_us: int


class Model:
    """The meter of one partition of the events topic."""

    def __init__(self, rules: Rules, partition: int, clock_us: int = 0) -> None:
        self._rules = rules
        self._partition = partition
        self._seen: dict[tuple[str, str, str], _Seen] = {}
        self._cards: list[RateCardPublished] = []
        self._agent_types: dict[str, str] = {}
        self._premium: dict[str, bool] = {}
        self._sessions: dict[tuple[str, str], _Session] = {}
        self.counted = Counted(clock_us=clock_us)

    def publish(self, entry: bytes) -> None:
        """Let a card, agent or feature that was accepted price the events from here on."""
        event = parse_event(entry, CATALOG)
        if isinstance(event, AgentRegistered):
            self._agent_types[event.data.agent_id] = event.data.agent_type
        elif isinstance(event, FeatureRegistered):
            self._premium[event.data.feature_id] = event.data.premium
        else:
            assert isinstance(event, RateCardPublished)
            self._cards.append(event)

    def take_gap(self, offset: int, log_start: int = 0) -> None:
        """Take an offset at which there is no record."""
        self.counted.verdicts[offset] = Verdict.UNREAD if offset < log_start else Verdict.GAP

    def take(self, record: Record, now_us: int) -> Verdict:
        """Take one record; `now_us` is the time on the worker's own clock."""
        self._move_clock(record.log_time_us, now_us)
        verdict = self._judge(record)
        self.counted.verdicts[record.offset] = verdict
        return verdict

    def _move_clock(self, log_time_us: int, now_us: int) -> None:
        clock_us = self.counted.clock_us
        if log_time_us <= max(clock_us, now_us) + self._rules.clock_skew_us:
            self.counted.clock_us = max(clock_us, log_time_us)

    def _judge(self, record: Record) -> Verdict:
        try:
            event = parse_event(record.value)
        except InvalidEvent as error:
            return error.verdict
        rules, clock_us = self._rules, self.counted.clock_us
        team_id: str = event.data.team_id  # type: ignore[attr-defined]
        if partition_of(team_id, rules.partitions) != self._partition:
            return Verdict.WRONG_PARTITION

        identity = (team_id, event.source, event.id)
        seen = self._seen.get(identity)
        if seen is not None and clock_us < seen.forgotten_at_us:
            return Verdict.DUPLICATE if _same(seen.event, event) else Verdict.CONFLICT

        time_us = to_us(event.time)
        if time_us > clock_us + rules.ahead_us:
            return Verdict.TIME_AHEAD
        if time_us < clock_us - rules.horizon_us:
            return Verdict.TOO_LATE
        if not self._fits(record.offset, event):
            return Verdict.AMOUNT_TOO_LARGE

        end_of_hour_us = (time_us // HOUR_US + 1) * HOUR_US
        self._seen[identity] = _Seen(event, end_of_hour_us + rules.horizon_us + HOUR_US)
        return Verdict.COUNTED

    def _fits(self, offset: int, event: Envelope) -> bool:
        """Charge a run, or session time; False if that is too much."""
        if isinstance(event, RunCompleted):
            charge = self._charge(event)
            usage = _usage(event, charge)
            return self._count(offset, event.time, dimensions_of(event.data), usage, charge)
        if isinstance(event, SessionStarted | SessionHeartbeat | SessionEnded):
            return self._follow_session(offset, event)
        return True

    def _follow_session(
        self, offset: int, event: SessionStarted | SessionHeartbeat | SessionEnded
    ) -> bool:
        """Charge the time since a session's last sign; False if it cannot be charged."""
        data, clock_us, time_us = event.data, self.counted.clock_us, to_us(event.time)
        key = (data.team_id, data.session_id)
        session = self._sessions.get(key)
        if session is not None:
            kept_us = self._rules.horizon_us if session.ended else 35 * DAY_US
            if session.last_seen_us + kept_us <= clock_us:
                session = None
        begun = session is not None
        if session is None:
            session = _Session(clock_us, time_us)
        size = session.machine_size or data.machine_size or ""
        named = session.named | {
            name: value
            for name in ("user_id", "project_id", "agent_id", "product")
            if (value := getattr(data, name))
        }
        is_charged = begun and not session.ended and not isinstance(event, SessionStarted)
        elapsed_us = clock_us - session.charged_us
        if is_charged and elapsed_us > 0:
            charge = self._session_charge(event.time, size, named.get("agent_id"), elapsed_us)
            if charge is not None:
                dimensions = (
                    data.team_id, named.get("user_id", ""), named.get("project_id", ""),
                    named.get("agent_id", ""), "", "", "", named.get("product", ""), "session",
                )  # fmt: skip
                usage = Usage(
                    unpriced_runs=int(charge.card == "unpriced"),
                    credits_micro=charge.credits_micro,
                    session_us=elapsed_us,
                    amount_micro=charge.amount_micro,
                    cost_micro=charge.cost_micro,
                )
                if not self._count(offset, event.time, dimensions, usage, charge):
                    return False
        if is_charged:
            session.charged_us = clock_us
        session.last_seen_us = max(session.last_seen_us, time_us)
        session.machine_size = data.machine_size or session.machine_size
        session.ended = session.ended or isinstance(event, SessionEnded)
        session.named = named
        self._sessions[key] = session
        return True

    def _session_charge(
        self, moment: datetime, size: str, agent_id: str | None, elapsed_us: int
    ) -> Charge | None:
        card = self._card_at(moment)
        if card is not None and not card.session_micro_per_second:
            return None
        if card is None or size not in card.session_micro_per_second:
            return Charge("unpriced", session_us=elapsed_us)
        by_type = _by_type(card, self._agent_types.get(agent_id or ""))

        def micro(prices: Mapping[str, int], multiplier: Fraction) -> int:
            exact = Fraction(elapsed_us * prices.get(size, 0), 1_000_000) * multiplier
            return floor(exact + Fraction(1, 2))

        return Charge(
            f"{card.name}@{card.version}",
            session_micro=micro(card.session_micro_per_second, by_type),
            multiplier_ppm=int(by_type * 1_000_000),
            session_us=elapsed_us,
            amount_micro=micro(card.session_amount_micro_per_second, by_type),
            cost_micro=micro(card.session_cost_micro_per_second, Fraction(1)),
        )

    def _count(
        self, offset: int, moment: datetime, dimensions: Dimensions, usage: Usage, charge: Charge
    ) -> bool:
        """Add what is charged to its cell; False if it is too much, or the cell's sum would be."""
        if charge.is_too_dear:
            return False
        start_us = to_us(moment) // MINUTE_US * MINUTE_US
        late = self.counted.clock_us >= start_us + MINUTE_US + self._rules.grace_us
        key = (late, start_us // 1_000_000, dimensions)
        cell = self.counted.cells.get(key, Usage())
        if not late and any(
            isinstance(amount, int) and amount + getattr(usage, name) > MAX_CELL_SUM
            for name, amount in vars(cell).items()
        ):
            return False
        cell.add(usage)
        self.counted.cells[key] = cell
        self.counted.charges[offset] = charge
        return True

    def _charge(self, event: RunCompleted) -> Charge:
        data = event.data
        if data.credits_micro is not None:
            return Charge("explicit", explicit_micro=data.credits_micro)
        card = self._card_at(event.time)
        if card is None:
            return Charge("unpriced")
        agent_type = self._agent_types.get(data.agent_id or "")
        line = _line_for(card.prices, data, agent_type)
        if line is None:
            return Charge("unpriced")
        multiplier = _by_type(card, agent_type)
        if self._premium.get(data.feature_id or ""):
            multiplier *= Fraction(card.premium_multiplier_permille, 1000)
        return _priced(card, line, data, multiplier)

    def _card_at(self, moment: datetime) -> RateCardPublishedData | None:
        in_force = [
            card.data
            for card in self._cards
            if card.data.name == "default" and card.data.effective_from <= moment
        ]
        return max(in_force, key=lambda card: (card.effective_from, card.version), default=None)


def run_model(
    records: Iterable[Record],
    rules: Rules,
    partition: int,
    *,
    now_us: int,
    start: int = 0,
    end: int | None = None,
    log_start: int = 0,
    clock_us: int = 0,
    cards: Mapping[int, Sequence[bytes]] | None = None,
) -> Counted:
    """Return what must be counted of one partition's records, in the order of their offsets.

    Offsets from `start` up to `end` (by default one past the last record) at which there is no
    record are gaps, or unread below `log_start`. `cards` holds rate cards, agents and features by
    the offset of the first event that they may price.
    """
    by_offset = {record.offset: record for record in records}
    if end is None:
        end = max(by_offset, default=start - 1) + 1
    published = dict(cards or {})
    model = Model(rules, partition, clock_us)
    for offset in range(start, end):
        for card in published.get(offset, ()):
            model.publish(card)
        if offset in by_offset:
            model.take(by_offset[offset], now_us)
        else:
            model.take_gap(offset, log_start)
    return model.counted


def dimensions_of(data: RunCompletedData) -> Dimensions:
    """Return the dimensions of a run."""
    return (
        data.team_id,
        data.user_id or "",
        data.project_id or "",
        data.agent_id or "",
        data.model or "",
        data.provider or "",
        data.feature_id or "",
        data.product or "",
        data.operation,
    )


def fold(cells: Mapping[CellKey, Usage], grain_seconds: int) -> dict[CellKey, Usage]:
    """Return the cells summed into longer windows."""
    folded: dict[CellKey, Usage] = {}
    for (late, start, dimensions), usage in cells.items():
        key = (late, start // grain_seconds * grain_seconds, dimensions)
        folded.setdefault(key, Usage()).add(usage)
    return folded


def _same(first: Envelope, second: Envelope) -> bool:
    """Tell whether two events say the same; extension attributes and the like do not matter."""
    return (first.type, first.time, first.data) == (second.type, second.time, second.data)  # type: ignore[attr-defined]


def _usage(event: RunCompleted, charge: Charge) -> Usage:
    data = event.data
    duration_us = to_us(data.ended_at or event.time) - to_us(data.started_at)
    latency_us = duration_us if data.latency_us is None else data.latency_us
    first_token_us = data.time_to_first_token_us
    return Usage(
        runs=1,
        errors=int(data.status == "failed"),
        unpriced_runs=int(charge.card == "unpriced"),
        input_tokens=data.input_tokens,
        output_tokens=data.output_tokens,
        cached_tokens=data.cached_tokens,
        reasoning_tokens=data.reasoning_tokens,
        credits_micro=charge.credits_micro,
        duration_us=duration_us,
        request_bytes=data.request_bytes,
        response_bytes=data.response_bytes,
        latency_us=latency_us,
        first_token_us=first_token_us or 0,
        amount_micro=charge.amount_micro,
        cost_micro=charge.cost_micro,
        latency_sketch=Counter([bucket_of(latency_us)]),
        first_token_sketch=Counter([] if first_token_us is None else [bucket_of(first_token_us)]),
    )


def _line_for(
    lines: Sequence[PriceLine], data: RunCompletedData, agent_type: str | None
) -> PriceLine | None:
    """Return the line with the most criteria of those that match, the first of equals."""
    best: PriceLine | None = None
    best_criteria = -1
    for line in lines:
        criteria = {
            name: wanted
            for name in ("operation", "provider", "model", "feature_id", "agent_type")
            if (wanted := getattr(line, name)) is not None
        }
        matches = all(
            (agent_type if name == "agent_type" else getattr(data, name)) == wanted
            for name, wanted in criteria.items()
        )
        if matches and len(criteria) > best_criteria:
            best, best_criteria = line, len(criteria)
    return best


def _by_type(card: RateCardPublishedData, agent_type: str | None) -> Fraction:
    return Fraction(card.agent_type_multiplier_permille.get(agent_type or "", 1000), 1000)


def _priced(
    card: RateCardPublishedData, line: PriceLine, data: RunCompletedData, multiplier: Fraction
) -> Charge:
    in_amount = _components(line.amount or UnitPrices(), data, multiplier)
    in_cost = _components(line.cost or UnitPrices(), data, Fraction(1))
    return Charge(
        f"{card.name}@{card.version}",
        **_components(line, data, multiplier),
        line=next(i for i, one in enumerate(card.prices) if one is line),
        multiplier_ppm=int(multiplier * 1_000_000),
        amount_micro=sum(in_amount.values()),
        cost_micro=sum(in_cost.values()),
    )


def _components(prices: UnitPrices, data: RunCompletedData, multiplier: Fraction) -> dict[str, int]:
    def micro(quantity: int, price_micro: int, per: int = 1_000) -> int:
        return floor(Fraction(quantity * price_micro, per) * multiplier + Fraction(1, 2))

    cached_price = prices.cached_micro_per_1k
    reasoning_price = prices.reasoning_micro_per_1k
    if cached_price is None:
        cached_price = prices.input_micro_per_1k
    if reasoning_price is None:
        reasoning_price = prices.output_micro_per_1k
    output_tokens = data.output_tokens - data.reasoning_tokens
    return {
        "run_micro": micro(1, prices.run_micro, 1),
        "input_micro": micro(data.input_tokens - data.cached_tokens, prices.input_micro_per_1k),
        "output_micro": micro(output_tokens, prices.output_micro_per_1k),
        "cached_micro": micro(data.cached_tokens, cached_price),
        "reasoning_micro": micro(data.reasoning_tokens, reasoning_price),
        "bytes_micro": micro(data.request_bytes, prices.request_micro_per_mb, 1_000_000)
        + micro(data.response_bytes, prices.response_micro_per_mb, 1_000_000),
    }
