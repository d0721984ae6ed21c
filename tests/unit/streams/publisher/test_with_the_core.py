"""What the core decides of limits and balances is what the publisher makes public."""

import json
from collections.abc import Sequence
from typing import Any

from tests.support.craft import DAY, HOUR, MINUTE, NOW, Partition, entries, envelope, run
from tests.support.limits import Entry

from meterstream.schemas.journal import ChainReader
from meterstream.schemas.registry import parse_event
from meterstream.schemas.thresholds import LimitHeartbeat, LimitState
from meterstream.schemas.times import format_rfc3339, from_us
from meterstream.schemas.topics import THRESHOLDS
from meterstream.streams.core import compute_step
from meterstream.streams.publisher.pending import Pending
from meterstream.streams.publisher.reading import Reading


class Public:
    """What is public of a partition's limits, record by record."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._reading = Reading(
            "journal", 0, chain=ChainReader(), start=0, pending=Pending(0, "/t", 100)
        )
        self.states: dict[str, LimitState | None] = {}

    def told(self) -> list[tuple[str, str, Any]]:
        """Publish what is new; return kind, limit and level or reason of the thresholds."""
        for offset, at_us, header, value in self._partition.journal[self._reading.next_offset :]:
            self._reading.take(Entry(offset, at_us, header.pack(), value))  # type: ignore[arg-type]
        pending, place = self._reading.pending, self._reading.place()
        assert place is not None
        for key, told in pending.states.records(place.link.clock_us):
            state = None if told is None else LimitState.model_validate_json(told)
            self.states[json.loads(key)[2]] = state
        found = []
        for one in pending.thresholds:
            parse_event(one.value, THRESHOLDS)
            data = json.loads(one.value)["data"]
            what = data.get("level_permille", data.get("reason", data.get("grant_id")))
            found.append((one.kind, data.get("limit_id", ""), what))
        pending.clear()
        return found

    def all_told(self) -> bool:
        """Return whether heartbeats say that all limits are told."""
        self.told()
        place = self._reading.place()
        assert place is not None
        return LimitHeartbeat.model_validate_json(place.heartbeat()[1]).all_told

    def stands(self) -> dict[str, tuple[str, int] | None]:
        """Return state and use of each limit that was told; None where it was removed."""
        return {
            name: None if state is None else (state.state, state.used)
            for name, state in self.states.items()
        }


def limit(limit_id: str, version: int = 1, **data: Any) -> dict[str, Any]:
    """Return a hard limit of 3 runs a day of the team."""
    plain: dict[str, Any] = {"team_id": "team", "limit_id": limit_id, "version": version}
    plain["subject"] = "team"
    plain |= {"measure": "runs", "window": "day", "amount": 3, "enforcement": "hard"}
    plain["alert_levels_permille"] = [500]
    return envelope("limit.set", f"{limit_id}-{version}", NOW, plain | data)


def runs(first: int, count: int, at_us: int, **data: Any) -> Sequence[dict[str, Any]]:
    """Return runs that end at one time."""
    return [run(f"e-{first + i}", at_us, **data) for i in range(count)]


def test_a_limit_of_a_day() -> None:
    """A level, the block, the reset by the next day and a removal are told, with each state."""
    partition = Partition()
    public = Public(partition)
    partition.take(control=entries(limit("runs")))
    assert public.told() == []
    assert public.stands() == {"runs": ("admitting", 0)}
    partition.take(*runs(0, 3, NOW))
    assert public.told() == [("reached", "runs", 500), ("blocked", "runs", None)]
    assert public.stands() == {"runs": ("blocked", 3)}
    partition.take(*runs(3, 1, NOW), at_us=NOW + DAY)
    assert public.told() == [("reset", "runs", "window")]
    state = public.states["runs"]
    assert state is not None
    assert (state.used, state.window_start) == (0, from_us(NOW + DAY))
    gone = {"team_id": "team", "limit_id": "runs", "version": 2}
    partition.take(control=entries(envelope("limit.removed", "r", NOW, gone), first=1))
    assert public.told() == []
    assert public.stands() == {"runs": None}


def test_a_balance() -> None:
    """A balance is low, used up, and admits again after a grant; its limit goes as others do."""
    partition = Partition()
    public = Public(partition)

    def grant(number: int, amount: int, **data: Any) -> dict[str, Any]:
        plain = {"team_id": "team", "grant_id": f"g-{number}", "kind": "funded", **data}
        plain |= {"amount_micro": amount}
        return envelope("credits.granted", f"g-{number}", NOW, plain)

    levels: dict[str, Any] = {
        "measure": "credits",
        "window": "balance",
        "amount": 100,
        "enforcement": "soft",
    }
    soon = format_rfc3339(from_us(NOW + HOUR))
    partition.take(
        control=entries(
            limit("low", **levels, alert_levels_permille=[800]),
            grant(1, 100),
            grant(2, 5, expires_at=soon),
        )
    )
    told = public.told()
    assert ("expiring", "", "g-2") in told
    assert public.stands()["credits"] == ("admitting", -105)
    partition.take(*runs(0, 2, NOW, credits_micro=50), at_us=NOW + MINUTE)
    assert public.told() == [("low", "low", 800)]
    partition.take(*runs(2, 1, NOW, credits_micro=50), at_us=NOW + MINUTE)
    assert public.told() == [("exhausted", "", None)]
    assert public.stands()["credits"] == ("blocked", 45)
    partition.take(control=entries(grant(3, 50), first=3))
    assert ("reset", "credits", "credited") in public.told()
    assert public.stands()["credits"] == ("admitting", -5)
    gone = {"team_id": "team", "limit_id": "low", "version": 2}
    partition.take(control=entries(envelope("limit.removed", "r", NOW, gone), first=4))
    public.told()
    assert public.stands()["low"] is None


def test_heartbeats_say_whether_all_limits_are_told() -> None:
    """Not before the first of a generation, nor while some are left for the next records."""
    partition = Partition()
    public = Public(partition)
    assert not public.all_told()
    partition.take(control=entries(limit("a"), limit("b"), limit("c")))
    assert public.all_told()
    partition.idle(NOW + DAY)
    while partition.state.is_due:
        partition.commit(compute_step(partition.state, None, now_us=NOW, portion=2), NOW + DAY)
        assert public.all_told() == (not partition.state.is_due)
    partition.idle(NOW + DAY + HOUR)
    assert public.all_told()
