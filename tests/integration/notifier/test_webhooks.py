"""The notifier as a process on real Kafka: webhooks arrive once, in order, whatever happens."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from standardwebhooks import Webhook
from tests.support.command import run_command
from tests.support.mailing import email, mail_server
from tests.support.metrics import metric
from tests.support.notices import (
    LIMIT,
    NOTIFIER,
    SECRET,
    SECRET_VARIABLE,
    Receiver,
    Thresholds,
    receiver,
    threshold_event,
    webhook,
    write_file,
)
from tests.support.services import Service, services
from tests.support.waiting import eventually

from meterstream.cli.errors import BadInput
from meterstream.cli.main import cli
from meterstream.notifier.parcel import delivery_id

QUICK = {
    "notifier_metrics_port": 0,
    "notifier_pause_seconds": 0.05,
    "notifier_longest_pause_seconds": 0.2,
    "notifier_session_seconds": 6,
}

Start = Callable[..., Service]


@pytest.fixture
def hook() -> Iterator[Receiver]:
    """Return a running receiver."""
    with receiver() as running:
        yield running


@pytest.fixture
def start(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Return a function that starts a notifier on a file of these destinations and routes."""
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    with services(kafka, prefix) as run:

        def started(
            destinations: Mapping[str, Any], *routes: Mapping[str, Any], **settings: object
        ) -> Service:
            file = write_file(tmp_path / "notifier.yaml", destinations, *routes)
            return run(NOTIFIER, notifier_file=file, **QUICK | settings).wait_ready()

        yield started


def dead(*arguments: str) -> tuple[int, Any]:
    """Run `meterstream notifier dead` in this process; return its exit code and JSON."""
    ran = CliRunner().invoke(
        cli,
        ["notifier", "dead", *arguments, "--json"],
        standalone_mode=False,
        catch_exceptions=False,
    )
    return ran.return_value or 0, json.loads(ran.stdout)


def events(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Return numbered events."""
    return [threshold_event(event_id=f"e-{number}") for number in range(first, first + count)]


def test_kills(kafka: str, prefix: str, hook: Receiver, start: Start) -> None:
    """Over kills no event is missing, each kill repeats one at most, and with the same id."""
    thresholds, kills, each_time = Thresholds(kafka, prefix), 3, 12
    kept_back, release = 0, threading.Event()

    def answer(_: object) -> tuple[int, dict[str, str]]:
        if len(hook.taken) == kept_back:
            release.wait(60)  # it has been taken, and its answer never comes
        return 204, {}

    hook.answer = answer
    service = start({"hook": webhook(hook.url)}, notifier_instance="one")
    for kill in range(kills):
        target = len(hook.taken) + 7
        kept_back = 0 if kill % 2 else target
        thresholds.write(*events(each_time, kill * each_time))
        hook.wait_for(target)
        service.kill()
        release.set()
        release.clear()
        service = start({"hook": webhook(hook.url)}, notifier_instance="one")
    thresholds.write(threshold_event(event_id="last"))
    eventually(lambda: hook.taken[-1].event_id == "last", 60, "the last event")
    wanted = [event["id"] for event in events(kills * each_time)] + ["last"]
    counted = Counter(each.event_id for each in hook.taken)
    assert list(dict.fromkeys(each.event_id for each in hook.taken)) == wanted
    assert kills // 2 <= counted.total() - len(counted) <= kills
    assert max(counted.values()) == 2
    assert {each.delivery_id for each in hook.taken} == {
        delivery_id("hook", name) for name in wanted
    }
    assert service.stop() == 0


def test_each_destination_goes_at_its_own_pace(
    kafka: str, prefix: str, hook: Receiver, start: Start
) -> None:
    """One that is down or slow holds up no other, and gets all in order once it answers."""
    thresholds = Thresholds(kafka, prefix)
    with receiver() as slow, receiver() as erring, receiver() as down:
        down.stop()
        go_on, failures = threading.Event(), iter([500, 503, 404, 302, 429])
        slow.answer = lambda _: (204 if go_on.wait(120) else 500, {})
        erring.answer = lambda _: (next(failures, 200), {"location": hook.url})
        named = {"hook": hook, "slow": slow, "erring": erring, "down": down}
        service = start(
            {name: webhook(each.url) for name, each in named.items()}, notifier_timeout_seconds=120
        )
        thresholds.write(*events(8))
        wanted = [event["id"] for event in events(8)]
        assert [each.event_id for each in hook.wait_for(8)] == wanted
        assert [each.event_id for each in erring.wait_for(13)] == [wanted[0]] * 5 + wanted
        assert len(slow.wait_for(1)) == 1
        name = "meterstream_notifier_failing_destinations"
        eventually(lambda: metric(service, name, kind="webhook") == 1, 30, "one is failing")
        assert not down.taken
        down.start()
        go_on.set()
        assert [each.event_id for each in down.wait_for(8)] == wanted
        assert [each.event_id for each in slow.wait_for(8)] == wanted
        eventually(lambda: metric(service, "meterstream_notifier_backlog_events") == 0, 30, "none")
        sent = "meterstream_notifier_sent_total"
        eventually(lambda: metric(service, sent, kind="webhook") == 32, 30, "all are sent")
        assert metric(service, "meterstream_notifier_delivery_seconds_count") == 32
        failed = metric(service, "meterstream_notifier_failed_attempts_total")
        assert failed == metric(service, "meterstream_notifier_retries_total") > 5
        assert metric(service, name) == 0
        assert service.stop() == 0
    for each in [*hook.taken, *erring.taken]:
        Webhook(SECRET).verify(each.body, dict(each.headers))
        assert each.headers[":path"] == "/hook?for=tests"
        assert each.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert {each.delivery_id for each in hook.taken}.isdisjoint(
        each.delivery_id for each in erring.taken
    )
    assert SECRET.removeprefix("whsec_") not in service.log
    assert "for=tests" not in service.log


def test_what_is_given_up_is_on_the_list_until_it_is_delivered(
    kafka: str,
    prefix: str,
    hook: Receiver,
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A notification that nobody takes does not hold up others, and a retry delivers it later."""
    thresholds = Thresholds(kafka, prefix)
    with mail_server() as mail:
        bad = {"e-1", "e-3"}
        hook.answer = lambda taken: (500 if taken.event_id in bad else 200, {})
        mail.refused = {"gone@example.com": "550 no such mailbox"}
        service = start(
            {
                "hook": webhook(hook.url),
                "mail": email(mail, "ops@example.com", "gone@example.com"),
            },
            {"to": ["hook"], "types": ["meterstream.usage.threshold.reached.v1"]},
            {"to": ["mail"], "types": ["meterstream.limit.blocked.v1"]},
            notifier_attempts=3,
        )
        blocked = {**LIMIT, "used": 1_000_000_000}
        thresholds.write(
            *events(5), b"no event", threshold_event("limit.blocked", "b-1", **blocked)
        )
        name = "meterstream_notifier_dead_letters_total"
        eventually(lambda: metric(service, name) == 3, 60, "three are given up")
        assert metric(service, name, kind="email") == 1
        unreadable = "meterstream_notifier_unreadable_events_total"
        eventually(lambda: metric(service, unreadable) == 2, 60, "one by each destination")
        hook.wait_for(9)
        assert service.stop() == 0
        monkeypatch.setenv("METERSTREAM_KAFKA_BOOTSTRAP", kafka)
        monkeypatch.setenv("METERSTREAM_TOPIC_PREFIX", prefix)
        monkeypatch.setenv("METERSTREAM_NOTIFIER_FILE", str(tmp_path / "notifier.yaml"))
        code, listed = dead("list")
        told = {(each["event_id"], each["attempts"], *each["recipients"]) for each in listed}
        assert (code, told) == (0, {("e-1", 3), ("e-3", 3), ("b-1", 2, "gone@example.com")})
        assert len(dead("list", "--destination", "mail")[1]) == 1
        bad.clear()
        before = len(hook.taken)
        assert {each["outcome"] for each in dead("retry", "--dry-run")[1]} == {"would be sent"}
        code, retried = dead("retry")
        outcomes = {each["delivery"]: each["outcome"] for each in retried}
        assert (code, outcomes) == (
            1,
            {
                delivery_id("hook", "e-1"): "delivered",
                delivery_id("hook", "e-3"): "delivered",
                delivery_id("mail", "b-1"): "failed",
            },
        )
        assert [each.event_id for each in hook.taken[before:]] == ["e-1", "e-3"]
        assert {each.delivery_id for each in hook.taken[before:]} <= outcomes.keys()
        mail.refused = {}
        with pytest.raises(BadInput, match="ntf_0: not on the list"):
            dead("retry", "ntf_0")
        assert dead("retry", delivery_id("mail", "b-1"))[0] == 0
        assert dead("list") == (0, [])
        first, second = mail.taken
        assert (first.recipients, second.recipients) == (["ops@example.com"], ["gone@example.com"])
        assert first.message["message-id"] == second.message["message-id"]
        assert (
            first.message["subject"] == "Team team-1 has reached limit monthly-cap and is blocked"
        )


def test_settings_that_cannot_be_used_end_it_at_once(tmp_path: Path) -> None:
    """Exit code 2, and every fault of the file in one message, without its values."""
    file = write_file(
        tmp_path / "notifier.yaml",
        {"Hook": webhook("http://example.com/token"), "mail": {"email": {"host": "a b"}}},
        {"to": ["hook"], "types": ["nonsense"]},
    )
    ran = run_command(
        "notifier", env={"METERSTREAM_NOTIFIER_FILE": str(file)}, cwd=tmp_path, timeout_s=30
    )
    assert ran.exit_code == 2
    for part in (
        "destinations.Hook",
        "destinations.mail.email.host",
        "destinations.mail.email.from",
        "routes.0.types.0",
        "there is no destination hook",
        f"the variable {SECRET_VARIABLE} is empty or not set",
    ):
        assert part in ran.stderr, part
    assert "token" not in ran.stderr
    assert "Traceback" not in ran.stderr
