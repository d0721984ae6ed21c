"""A route takes what meets all of its conditions."""

from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.notices import LIMIT, REACHED
from tests.unit.notifier.test_words import EXHAUSTED, EXPIRING, ORGANISATION, event_of

from meterstream.notifier.rules import TYPES, Route

AT_80 = event_of("usage.threshold.reached", REACHED)
AT_100 = event_of("usage.threshold.reached", {**REACHED, "level_permille": 1000})
BLOCKED = event_of("limit.blocked", {**LIMIT, "limit_id": "daily", "used": 1})
EMPTY = event_of("credits.exhausted", {**EXHAUSTED, "team_id": "team-2"})
SOON = event_of("credits.expiring", EXPIRING)
ACME = event_of("usage.threshold.reached", ORGANISATION)
ALL = (AT_80, AT_100, BLOCKED, EMPTY, SOON, ACME)


@pytest.mark.parametrize(
    ("conditions", "taken"),
    [
        ({}, ALL),
        ({"types": [TYPES[0]]}, (AT_80, AT_100, ACME)),
        ({"types": list(TYPES)}, ALL),
        ({"teams": ["team-2", "team-3"]}, (EMPTY,)),
        ({"organisations": ["acme"]}, (ACME,)),
        ({"limits": ["monthly-cap"]}, (AT_80, AT_100, ACME)),
        ({"least_level_permille": 801}, (AT_100,)),
        ({"least_level_permille": 800, "teams": ["team-1"]}, (AT_80, AT_100)),
        ({"limits": ["daily"], "least_level_permille": 1}, ()),
    ],
)
def test_conditions(conditions: dict[str, Any], taken: tuple[object, ...]) -> None:
    """A condition on what an event does not have is not met."""
    route = Route(to=["a"], **conditions)
    assert tuple(event for event in ALL if route.takes(event)) == taken


@pytest.mark.parametrize(
    "fault",
    [
        {"to": []},
        {"to": ["Not-a-name"]},
        {"types": []},
        {"types": ["meterstream.run.completed.v1"]},
        {"teams": [12]},
        {"teams": "team-1"},
        {"least_level_permille": 0},
        {"level": 800},
    ],
)
def test_what_no_event_could_meet_is_refused(fault: dict[str, Any]) -> None:
    """Empty lists, names that are none and misspelt conditions are faults."""
    with pytest.raises(ValidationError):
        Route(**{"to": ["a"], **fault})
