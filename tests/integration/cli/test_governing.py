"""Commands of admins on a real broker, with a real meter that takes or refuses what they write."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from tests.support.command import Ran, call_command
from tests.support.services import METER, create_topics, services

from meterstream.cli.connection import connect
from meterstream.cli.entries.taken import MeterWatch
from meterstream.cli.entries.waiting import govern
from meterstream.cli.errors import CheckFailed
from meterstream.schemas.control import LimitSet, LimitSetData
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.thresholds import (
    AsOf,
    LimitHeartbeat,
    LimitState,
    heartbeat_key,
    state_key,
)
from meterstream.schemas.times import from_us

EXAMPLES = Path(__file__).parents[3] / "docs/examples"

Command = Callable[..., Ran]
PATIENCE_S = 120.0
ACME = ("--team", "acme")
MONTH = (*ACME, "--measure", "credits", "--window", "month")


def _settings(kafka: str, prefix: str) -> dict[str, str]:
    return {"METERSTREAM_KAFKA_BOOTSTRAP": kafka, "METERSTREAM_TOPIC_PREFIX": prefix}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands wait for the meter of a busy machine as well."""
    monkeypatch.setattr(MeterWatch.wait, "__defaults__", (PATIENCE_S,))


@pytest.fixture
def command(kafka: str, prefix: str) -> Command:
    """Return `meterstream` on topics of this test's own, where no meter runs."""
    create_topics(kafka, prefix, 2)
    return lambda *words: call_command(*words, env=_settings(kafka, prefix))


@pytest.fixture(scope="module")
def metered(kafka: str) -> Iterator[dict[str, str]]:
    """Run a meter on topics of its own; return the settings that lead to it."""
    prefix = f"t{uuid.uuid4().hex[:12]}."
    create_topics(kafka, prefix, 2)
    with services(kafka, prefix) as start:
        start(METER).wait_ready()
        yield _settings(kafka, prefix)


@pytest.fixture
def govern_by(metered: dict[str, str]) -> Command:
    """Return `meterstream` where a meter runs."""
    return lambda *words: call_command(*words, env=metered)


def _put(kafka: str, topic: str, key: str, value: str, partition: int) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(topic, value, key=key.encode(), partition=partition)
    assert producer.flush(30) == 0


def test_what_the_meter_takes_is_in_force(govern_by: Command, tmp_path: Path) -> None:
    """Each change is waited for; the same again writes nothing; a file prunes what it lacks."""
    first = govern_by("limits", "set", *MONTH, "--amount", "1000.5", "--hard", "--json")
    assert first.exit_code == 0, first.stderr
    assert (first.json["written"], first.json["in_force"]) == (1, True)
    again = govern_by("limits", "set", *MONTH, "--amount", "1000.5", "--json")
    assert (again.json["written"], again.json["changes"]) == (0, [])
    file = tmp_path / "limits.yaml"
    file.write_text(
        "prune: true\nlimits:\n"
        + "".join(
            f"  - {{team: acme, user: u-{number}, measure: runs, window: day, amount: 5}}\n"
            for number in range(20)
        )
    )
    applied = govern_by("limits", "apply", str(file), "--json")
    assert applied.exit_code == 0, applied.stderr
    assert (applied.json["written"], applied.json["in_force"]) == (21, True)
    assert applied.json["changes"][-1]["change"] == "removed"
    listed = govern_by("limits", "list", *ACME, "--json").json["limits"]
    assert [row["amount"] for row in listed] == [5] * 20


def test_a_refusal_is_told_with_the_meters_reason(
    metered: dict[str, str], govern_by: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes a version that somebody else has just taken is told that it is not in force."""
    for name, value in metered.items():
        monkeypatch.setenv(name, value)
    data = {"team_id": "globex", "limit_id": "a", "version": 1, "subject": "team"}
    data |= {"measure": "runs", "window": "day", "amount": 5}
    one, other = (
        LimitSet(
            id=f"e-{amount}",
            source="/tests",
            time=from_us(0),
            data=LimitSetData.model_validate(data | {"amount": amount}),
        )
        for amount in (5, 6)
    )
    assert govern(connect(None), [one], wait=True, names=["globex a"]).in_force
    with pytest.raises(CheckFailed, match="refused 1 of 1"):
        govern(connect(None), [other], wait=True, names=["globex a"])
    (limit,) = govern_by("limits", "list", "--team", "globex", "--json").json["limits"]
    assert limit["amount"] == 5


def test_without_a_meter_and_with_states(kafka: str, prefix: str, command: Command) -> None:
    """What is written stays; where it stands comes from the public topic, of its version alone."""
    assert command("limits", "set", *MONTH, "--amount", "10", "--no-wait").exit_code == 0
    nothing = command("limits", "list")
    assert "no states are published yet" in nothing.stderr
    as_of = AsOf(
        events_topic_id="00000000-0000-0000-0000-000000000001",  # type: ignore[arg-type]
        generation=1, partition=0, journal_offset=7, events_position=9,
    )  # fmt: skip
    state = LimitState(
        team_id="acme", limit_id="team-credits-month", limit_version=1, subject="team",
        measure="credits", window="month", window_start=from_us(0), window_end=from_us(10**6),
        amount=10_000_000, as_of=as_of, enforcement="soft", state="admitting", used=2_500_001,
        reached_permille=0,
    )  # fmt: skip
    topic = f"{prefix}limit-states"
    _put(kafka, topic, state_key(state), state.model_dump_json(), 0)
    older = state.model_copy(
        update={"used": 1, "as_of": as_of.model_copy(update={"journal_offset": 6})}
    )
    _put(kafka, topic, state_key(state), older.model_dump_json(), 0)
    beat = LimitHeartbeat(partition=0, as_of=as_of, clock=from_us(5))
    _put(kafka, topic, heartbeat_key(0), beat.model_dump_json(), 0)
    (line,) = command("limits", "list").stdout.splitlines()[1:]
    assert "\t2.500001\t7.499999\t" in line
    shown = command("limits", "show", "team-credits-month", *ACME)
    assert "used:         2.500001" in shown.stdout
    assert "counted until 1970-01-01T00:00:00.000005Z" in shown.stderr
    assert command("limits", "set", *MONTH, "--amount", "11", "--no-wait").exit_code == 0
    assert command("limits", "list", "--json").json["limits"][0]["state"] is None
    removed = command("limits", "remove", "team-credits-month", *ACME, "--no-wait")
    assert removed.exit_code == 0
    gone = command("limits", "remove", "team-credits-month", *ACME)
    assert (gone.exit_code, "there is no limit acme team-credits-month" in gone.stderr) == (2, True)


def test_where_limits_of_organisations_stand(kafka: str, prefix: str, command: Command) -> None:
    """They are told apart from those of a team of the same name, and so is how old that is."""
    month = ("--measure", "credits", "--window", "month", "--no-wait", "--amount")
    for owner in ("--team", "--organisation"):
        assert command("limits", "set", owner, "acme", *month, "10", "--id", "cap").exit_code == 0
    assert "--organisations` does it" in command("limits", "list").stderr
    as_of = AsOf(
        events_topic_id="00000000-0000-0000-0000-000000000002",  # type: ignore[arg-type]
        generation=1, partition=0, journal_offset=7, events_position=9,
    )  # fmt: skip
    state = LimitState(
        organisation_id="acme", limit_id="cap", limit_version=1, subject="organisation",
        measure="credits", window="month", window_start=from_us(0), window_end=from_us(10**6),
        amount=10_000_000, as_of=as_of, enforcement="soft", state="admitting", used=9_000_000,
        reached_permille=0,
    )  # fmt: skip
    topic, partition = f"{prefix}limit-states", partition_of("acme", 2)
    _put(kafka, topic, state_key(state), state.model_dump_json(), partition)
    for owners, seconds in (("teams", 5), ("organisations", 6)):
        beat = LimitHeartbeat(
            partition=partition,
            owners=owners,  # type: ignore[arg-type]
            as_of=as_of,
            clock=from_us(seconds * 10**6),
        )
        key = heartbeat_key(partition, beat.owners)
        _put(kafka, topic, key, beat.model_dump_json(), partition)
    team, organisation = command("limits", "list", "--json").json["limits"][::-1]
    assert (team["team_id"], team["state"]) == ("acme", None)
    assert (organisation["organisation_id"], organisation["state"]["used"]) == ("acme", 9_000_000)
    shown = command("limits", "show", "cap", "--organisation", "acme")
    assert "of:           organisation acme" in shown.stdout
    assert "left:         1\n" in shown.stdout
    assert "usage of organisations counted until 1970-01-01T00:00:06Z" in shown.stderr
    assert "T00:00:05Z" not in shown.stderr


def test_a_team_that_is_not_registered(kafka: str, prefix: str, command: Command) -> None:
    """Where teams are registered, another one is refused with a guess, unless it is forced."""
    team = {"team_id": "acme", "organisation_id": "o", "name": "Acme", "zone": "UTC"}
    event = {
        "specversion": "1.0", "id": "1", "source": "/tests", "time": "2026-01-01T00:00:00Z",
        "type": "meterstream.team.registered.v1", "data": team,
    }  # fmt: skip
    _put(kafka, f"{prefix}catalog", "team/acme", json.dumps(event), 0)
    words = ("limits", "set", "--measure", "runs", "--window", "day", "--amount", "1", "--dry-run")
    refused = command(*words, "--team", "acmee")
    assert refused.exit_code == 2
    assert "no team 'acmee' is registered (is 'acme' meant?)" in refused.stderr
    assert command(*words, "--team", "acme").exit_code == 0
    assert command(*words, "--team", "acmee", "--force").exit_code == 0
    refused = command(*words, "--organisation", "oo")
    assert refused.exit_code == 2
    assert "no organisation 'oo' is in the catalog (is 'o' meant?)" in refused.stderr
    assert command(*words, "--organisation", "o").exit_code == 0


def test_the_catalog_and_what_rests_on_it(govern_by: Command) -> None:
    """The examples are published once; plans and credits go to the teams that are registered."""
    for words in (("catalog", "publish"), ("cards", "publish"), ("plans", "publish")):
        file = str(EXAMPLES / f"{words[0].replace('cards', 'card')}.yaml")
        first, again = govern_by(*words, file, "--json"), govern_by(*words, file, "--json")
        assert first.exit_code == again.exit_code == 0, first.stderr
        assert first.json["in_force"]
        assert (again.json["changes"], again.json["written"]) == ([], 0)
    assert [row["team_id"] for row in govern_by("teams", "list", "--json").json["teams"]] == [
        "acme",
        "globex",
    ]
    (card,) = govern_by("cards", "list", "--json").json["cards"]
    assert (card["card"], card["state"]) == ("default@1", "in effect")
    grant = ("credits", "grant", "0.000001", "--id", "g", "--team")
    assert govern_by(*grant, "acmee").exit_code == 2
    assert govern_by(*grant, "acme", "--json").json["in_force"]
    assert govern_by(*grant, "acme", "--json").json["new"] is False
    other = govern_by("credits", "grant", "2", "--id", "g", "--team", "acme")
    assert (other.exit_code, "granted to acme already" in other.stderr) == (2, True)
    (row,) = govern_by("credits", "grants", "--json").json["grants"]
    assert (row["grant_id"], row["amount_micro"], row["left_micro"]) == ("g", 1, None)
    assert "what is left is not known: " in govern_by("credits", "grants").stderr
    plan = ("subscriptions", "set", "--team", "acme", "--plan")
    assert "there is no plan" in govern_by(*plan, "team-1@1").stderr
    assert govern_by(*plan, "team-1000@1", "--anchor-day", "31", "--json").json["in_force"]
    (row,) = govern_by("subscriptions", "list", "--team", "acme", "--json").json["subscriptions"]
    assert (row["plan_id"], row["anchor_day"]) == ("team-1000", 31)
    future = ("--from", "2297-01-01T00:00:00Z", "--json")
    assert govern_by(*plan, "team-1000@1", *future).json["in_force"]
    end = ("subscriptions", "end", "--team", "acme")
    assert "choose one by --from" in govern_by(*end).stderr
    assert govern_by(*end, *future).json["in_force"]
    assert govern_by(*end, "--json").json["in_force"]
    assert "has no subscription to end" in govern_by(*end).stderr
