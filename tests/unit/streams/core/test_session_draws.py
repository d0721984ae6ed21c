"""Session time is drawn as runs are, in the order of offsets."""

import json

from tests.support.core_runner import read_table
from tests.support.craft import NOW, SECOND, Partition, card, entries, envelope, run, session

from meterstream.schemas.journal import Section, unpack_sections


def test_session_time_is_drawn_with_runs() -> None:
    """Each charge has its draws, and the one that exhausts the account is named."""
    partition, minute = Partition(), NOW + 60 * SECOND
    prices = card()
    prices["data"]["session_micro_per_second"] = {"small": 10}
    about = {"team_id": "team", "grant_id": "g", "kind": "reward", "amount_micro": 1000}
    granted = envelope("credits.granted", "g", NOW, about)
    partition.take(catalog=entries(prices), control=entries(granted))
    partition.take(session("started", "s-1", NOW, application="a", machine_size="small"))
    step = partition.take(
        session("heartbeat", "s-2", minute, machine_size="small"),
        run("e-1", minute, credits_micro=600),
        session("ended", "s-3", minute + 20 * SECOND, status="completed"),
        at_us=[minute, minute, minute + 20 * SECOND],
    )
    sections = unpack_sections(step.value)
    assert [row["credits_micro"] for row in read_table(sections[Section.CHARGES])] == [
        600,
        600,
        200,
    ]
    assert [row["session_id"] for row in read_table(sections[Section.CHARGES])] == ["s", "", "s"]
    assert [
        (row["charge"], row["grant_id"], row["kind"], row["amount_micro"])
        for row in read_table(sections[Section.DRAWS])
    ] == [
        (0, "g", "reward", 600),
        (1, "g", "reward", 400),
        (1, "", "overdraft", 200),
        (2, "", "overdraft", 200),
    ]
    (crossing,) = json.loads(bytes(sections[Section.CROSSINGS]))
    assert (crossing["kind"], crossing["cause"]["id"]) == ("exhausted", "e-1")
