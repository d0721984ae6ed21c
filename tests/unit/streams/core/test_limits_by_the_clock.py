"""What is told of limits when the clock goes on, and when they are set anew or removed."""

import json
from typing import Any

from tests.support.core_runner import read_table
from tests.support.craft import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    Json,
    Partition,
    entries,
    envelope,
    run,
    void,
)

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.streams.core import (
    Step,
    begin,
    genesis_step,
    load_snapshot,
    stands_of,
    take_snapshot,
    totals_of,
)


def limit(version: int = 1, amount: int = 2, **data: Any) -> Json:
    """Return a hard limit of the runs of a team by day."""
    return envelope(
        "limit.set",
        f"l-{version}",
        NOW,
        {
            "team_id": "team", "limit_id": "l", "version": version, "subject": "team",
            "measure": "runs", "window": "day", "amount": amount, "enforcement": "hard",
            "alert_levels_permille": [500], **data,
        },
    )  # fmt: skip


def told(step: Step) -> list[tuple[str, int, int]]:
    """Return kind, start of the window in days from NOW, and total of each crossing."""
    section = unpack_sections(step.value).get(Section.CROSSINGS, b"[]")
    return [
        (one["kind"], (one["window_start_us"] - NOW) // DAY, one["used"])
        for one in json.loads(bytes(section))
    ]


def crossing(step: Step) -> Json:
    """Return the only crossing of a step."""
    (one,) = json.loads(bytes(unpack_sections(step.value)[Section.CROSSINGS]))
    assert isinstance(one, dict)
    return one


def states(step: Step) -> list[tuple[int, int, int, int]]:
    """Return start of the window in days from NOW, total, highest level and whether it blocks."""
    section = unpack_sections(step.value).get(Section.LIMIT_STATES)
    rows = [] if section is None else read_table(section)
    return [
        ((row["window_start"] - NOW) // DAY, row["used"], row["reached_permille"], row["blocked"])
        for row in rows
    ]


def limited(*control: Json, **kwargs: Any) -> Partition:
    """Return a partition with limits."""
    partition = Partition(**kwargs)
    partition.take(control=entries(*control))
    return partition


def is_due(partition: Partition) -> bool:
    """Tell whether a step without events has something to tell."""
    return partition.state.is_due


def test_a_limit_that_is_reached_blocks_until_its_window_ends() -> None:
    """A window that begins by the clock is told, with what is used in it, and admits again."""
    partition = limited(limit())
    step = partition.take(run("r-1", NOW), run("r-2", NOW + 1))
    assert told(step) == [("reached", 0, 1), ("blocked", 0, 2)]
    assert states(step) == [(0, 2, 500, 1)]
    blocked = json.loads(bytes(unpack_sections(step.value)[Section.CROSSINGS]))[1]
    assert blocked["cause"] == {"offset": 1, "source": "/tests", "id": "r-2"}
    assert not is_due(partition)
    partition.idle(NOW + DAY - MINUTE)
    assert not is_due(partition)
    partition.idle(NOW + DAY)
    assert is_due(partition)
    step = partition.take_batch(None)
    assert (told(step), states(step)) == ([("reset", 1, 0)], [(1, 0, 0, 0)])
    assert crossing(step)["reason"] == "window"
    assert not is_due(partition)


def test_a_window_that_begins_knows_what_came_early() -> None:
    """A level of tomorrow is told at its event; that it blocks is told when tomorrow begins."""
    partition = limited(limit(amount=1), clock_us=NOW + DAY - MINUTE)
    early = run("r-1", NOW + DAY + MINUTE)
    step = partition.take(early)
    assert (told(step), states(step)) == ([("reached", 1, 1)], [(1, 1, 500, 1)])
    partition.idle(NOW + DAY)
    step = partition.take_batch(None)
    assert (told(step), states(step)) == ([("blocked", 1, 1)], [(1, 1, 500, 1)])
    assert "cause" not in crossing(step)


def test_a_batch_that_passes_midnight_tells_the_new_day() -> None:
    """Its events count in their own days, and the limit stands in the day of the clock."""
    partition = limited(limit(amount=1))
    step = partition.take(run("r-1", NOW), run("r-2", NOW + DAY), at_us=[NOW + 1, NOW + DAY + 1])
    assert told(step) == [("reached", 0, 1), ("reached", 1, 1), ("blocked", 1, 1)]
    assert states(step)[-1] == (1, 1, 500, 1)
    assert not is_due(partition)


def test_a_limit_that_is_set_before_the_clock_came_is_told_when_it_comes() -> None:
    """In a partition whose clock is behind the day of a limit, that day is told as it begins."""
    partition = limited(limit(), clock_us=0)
    assert is_due(partition) is False
    partition.idle(NOW)
    assert is_due(partition)
    step = partition.take_batch(None)
    assert (told(step), states(step)) == ([], [(0, 0, 0, 0)])
    assert not is_due(partition)


def test_raising_a_limit_admits_and_arms_it_again() -> None:
    """The next version begins without a level, and is reached anew."""
    partition = limited(limit())
    partition.take(run("r-1", NOW), run("r-2", NOW))
    step = partition.take(control=entries(limit(2, 4), first=1))
    assert told(step) == [("reset", 0, 2), ("reached", 0, 2)]
    step = partition.take(run("r-3", NOW), run("r-4", NOW))
    assert told(step) == [("blocked", 0, 4)]
    step = partition.take(control=entries(limit(3, 4, enforcement="soft"), first=2))
    assert [kind for kind, _, _ in told(step)] == ["reset", "reached"]


def test_a_limit_that_is_set_at_what_was_used_blocks_at_once() -> None:
    """By no event; and one that goes on blocking under a new version is not told twice."""
    partition = Partition()
    partition.take(run("r-1", NOW), run("r-2", NOW))
    step = partition.take(control=entries(limit()))
    assert told(step) == [("reached", 0, 2), ("blocked", 0, 2)]
    assert "cause" not in json.loads(bytes(unpack_sections(step.value)[Section.CROSSINGS]))[1]
    step = partition.take(control=entries(limit(2, 1), first=1))
    assert told(step) == [("reached", 0, 2)]


def test_a_limit_that_is_removed_admits() -> None:
    """That is told with the data of the version that was in force, once."""
    partition = limited(limit())
    partition.take(run("r-1", NOW), run("r-2", NOW))
    data = {"team_id": "team", "limit_id": "l", "version": 2}
    step = partition.take(control=entries(envelope("limit.removed", "x", NOW, data), first=1))
    assert (told(step), states(step)) == ([("reset", 0, 2)], [(0, 2, 0, 0)])
    (row,) = read_table(unpack_sections(step.value)[Section.LIMIT_STATES])
    assert (row["removed"], row["limit_version"]) == (1, 1)
    assert (crossing(step)["reason"], crossing(step)["limit_version"]) == ("removed", 1)
    assert told(partition.take(run("r-3", NOW))) == []
    assert not is_due(partition)


def test_a_void_admits_and_arms_nothing_again() -> None:
    """What it takes back is told at once; the limit blocks again by the next event."""
    partition = limited(limit())
    first = run("r-1", NOW)
    partition.take(first, run("r-2", NOW))
    step = partition.take(run("r-3", NOW), control=entries(void(first), first=1))
    assert told(step) == []
    assert states(step)[-1] == (0, 2, 500, 1)
    step = partition.take(control=entries(void(run("r-3", NOW)), first=2))
    assert (told(step), states(step)) == ([("reset", 0, 1)], [(0, 1, 500, 0)])
    assert crossing(step)["reason"] == "corrected"
    step = partition.take(run("r-4", NOW))
    assert told(step) == [("blocked", 0, 2)]
    assert crossing(step)["cause"]["id"] == "r-4"


def test_another_zone_begins_another_window() -> None:
    """A team that moves is told where it stands in the day of its new zone."""

    def zone(name: str) -> Json:
        data = {"team_id": "team", "organisation_id": "o", "name": "n", "zone": name}
        return envelope("team.registered", name, NOW, data)

    partition = limited(limit(), clock_us=NOW + HOUR)
    partition.take(run("r-1", NOW), run("r-2", NOW))
    step = partition.take(catalog=entries(zone("Asia/Kolkata")))
    assert [kind for kind, _, _ in told(step)] == ["reset"]
    assert [row[1:] for row in states(step)] == [(0, 0, 0)]


def test_a_new_generation_tells_all_limits_once() -> None:
    """Whoever follows the limits learns where each stands, and only changes are told as such."""
    partition = limited(limit(), limit(1, 50, limit_id="m"))
    partition.take(run("r-1", NOW), run("r-2", NOW))
    before = partition.state
    genesis = genesis_step(
        grace_seconds=60,
        generation=2,
        events_topic_id=before.events_topic_id,
        journal_topic_id=before.journal_topic_id,
        control_topic_id=before.control_topic_id,
        catalog_topic_id=before.catalog_topic_id,
        events_from=before.events_position,
        control_from=before.control_position,
        clock_us=before.clock_us,
        prev=before.link.prev,
        control=tuple(before.control.kept.values()),
        totals=totals_of(before.totals),
        reached=stands_of(before.reached),
    )
    again = Partition()
    again.state = begin(again.policy, 0, before.link.next_offset, NOW, genesis)
    again._twin = begin(again.policy, 0, before.link.next_offset, NOW, genesis)
    assert is_due(again)
    snapshot = take_snapshot(again.state)
    assert load_snapshot(again.policy, snapshot.manifest, snapshot.segments).is_due
    step = again.take_batch(None)
    assert (told(step), states(step)) == ([], [(0, 2, 500, 1), (0, 2, 0, 0)])
    assert not is_due(again)


def test_a_void_before_events_that_bring_the_clock_far_ahead() -> None:
    """What it takes back counts for those of its run's window, although that ends with them."""
    partition = limited(limit(alert_levels_permille=[1000]))
    first, second, later = (run(f"r-{i}", NOW + i * 5 * DAY // 2) for i in (0, 0, 4))
    second["id"] = "r-1"
    partition.take(first)
    step = partition.take(
        second, later, at_us=[NOW, NOW + 10 * DAY], control=entries(void(first), first=1)
    )
    assert told(step) == []
    assert (0, 1, 0, 0) in states(step)
