"""What organisations are told of their teams, over whole logs."""

import json
from collections import Counter

from hypothesis import given
from tests.property.core.test_limits_of_a_log import a_few, borders, logs, run, ways
from tests.support.core_runner import read_table
from tests.support.model import Record

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.schemas.registry import parse_event
from meterstream.schemas.run import RunCompleted
from meterstream.schemas.topics import EVENTS
from meterstream.schemas.verdicts import Verdict

QUARTER_US = 900_000_000
MEASURES = ("credits_micro", "tokens", "runs", "api_calls", "sessions")


@given(logs, borders, ways)
@a_few
def test_it_is_what_was_counted(
    records: list[Record], cuts: list[int], restarts: list[str | None]
) -> None:
    """By team and quarter of an hour it adds up to the counted events, whatever the borders."""
    meter, told = run(records, cuts, restarts, "UTC")
    found: dict[str, Counter[tuple[str, int]]] = {name: Counter() for name in MEASURES}
    for _, _, _, value in meter.journal:
        sections = unpack_sections(value)
        for row in read_table(sections[Section.TEAM_USAGE]) if 23 in sections else ():
            assert json.loads(row["organisations"]) == ["o"]
            assert row["corrects"] == 0
            for name in MEASURES:
                found[name][row["team_id"], row["quarter_start"]] += row[name]
    expected: dict[str, Counter[tuple[str, int]]] = {name: Counter() for name in MEASURES}
    counted = meter.reader.counted
    for record in records:
        if counted.verdicts.get(record.offset) is not Verdict.COUNTED:
            continue
        event = parse_event(record.value, EVENTS)
        if not isinstance(event, RunCompleted):
            continue
        time_us = int(event.time.timestamp()) * 1_000_000
        place = event.data.team_id, time_us // QUARTER_US * QUARTER_US
        expected["runs"][place] += 1
        expected["tokens"][place] += event.data.input_tokens + event.data.output_tokens
        expected["api_calls"][place] += event.data.operation == "api_call"
    for name in ("runs", "tokens", "api_calls"):
        assert +found[name] == +expected[name]
    for name, limit in (("credits_micro", "credits"), ("sessions", "sessions")):
        by_team: Counter[str] = Counter()
        for (team_id, _), amount in found[name].items():
            by_team[team_id] += amount
        used: Counter[str] = Counter()
        for (team_id, limit_id, _), row in told.states.items():
            used[team_id] += row["used"] if limit_id == f"team-{limit}-month" else 0
        assert +by_team == +used
