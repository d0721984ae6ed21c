"""What follows from each attempt of a delivery."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from tests.support.notices import REACHED
from tests.unit.notifier.test_words import event_of

from meterstream.notifier.backoff import Backoff
from meterstream.notifier.dead import DeadNotification
from meterstream.notifier.delivery import Attempts, Delivery
from meterstream.notifier.file import Destination
from meterstream.notifier.metrics import NotifierMetrics
from meterstream.notifier.parcel import Failed, Notice
from meterstream.notifier.retry import Retried, retry

BACKOFF = Backoff(attempts=3, retry_s=3600, first_pause_s=100, longest_pause_s=150, hold_s=900)
VALUE = b'{"as": "it stands"}'


@dataclass
class Scripted:
    """A destination that answers as it is told; it is its own parcel."""

    answer: Callable[[], Failed | None]
    recipients: tuple[str, ...] = ()
    asked_for: list[tuple[str, ...]] = field(default_factory=list)

    def parcel(self, notice: Notice, recipients: tuple[str, ...] = ()) -> "Scripted":
        self.asked_for.append(recipients)
        return self

    def attempt(self) -> Failed | None:
        return self.answer()


class Trial:
    """Deliveries to one scripted destination."""

    def __init__(self, answer: Callable[[], Failed | None], backoff: Backoff = BACKOFF) -> None:
        self.target = Scripted(answer, ("b@example.com",))
        self.metrics = NotifierMetrics()
        destination = Destination("mail", "email", self.target, (), False)
        self.attempts = Attempts(destination, backoff, self.metrics)
        notice = Notice("ntf_1", event_of("usage.threshold.reached", REACHED), VALUE)
        self.delivery = Delivery(0, 7, notice, self.target)

    def attempt(self) -> bool:
        """Try once."""
        return self.attempts.attempt(self.delivery)

    def count(self, name: str) -> float:
        """Return a counter."""
        found = self.metrics.registry.get_sample_value(
            f"meterstream_notifier_{name}", {"kind": "email"}
        )
        return found or 0.0


def test_delivered_at_once() -> None:
    """It is counted, with the time since its event."""
    trial = Trial(lambda: None)
    assert trial.attempt()
    assert (trial.count("sent_total"), trial.count("delivery_seconds_count")) == (1, 1)
    assert (trial.count("failed_attempts_total"), trial.count("retries_total")) == (0, 0)


def test_tried_again_until_it_is_given_up() -> None:
    """Pauses grow; the last failure makes a letter that tells all."""
    trial = Trial(lambda: Failed("no"))
    pauses = []
    for _ in range(2):
        assert not trial.attempt()
        assert trial.delivery.letter is None
        pauses.append(trial.delivery.due_s - time.monotonic())
    assert 45 < pauses[0] <= 100
    assert 70 < pauses[1] <= 150
    assert not trial.attempt()
    letter = trial.delivery.letter
    assert letter is not None
    assert DeadNotification.model_validate_json(letter.model_dump_json()) == letter
    assert (letter.delivery_id, letter.destination, letter.kind) == ("ntf_1", "mail", "email")
    assert (letter.attempts, letter.error, letter.event) == (3, "no", VALUE.decode())
    assert letter.recipients == ("b@example.com",)
    assert letter.first_attempt_at <= letter.given_up_at
    assert (trial.count("failed_attempts_total"), trial.count("retries_total")) == (3, 2)


def test_given_up_by_time() -> None:
    """However few attempts there were."""
    trial = Trial(lambda: Failed("no"), Backoff(99, 1e-9, 1, 1, 1))
    assert not trial.attempt()
    assert trial.delivery.letter is not None


def test_given_up_at_once() -> None:
    """Where trying again cannot help."""
    trial = Trial(lambda: Failed("no", final=True))
    assert not trial.attempt()
    assert trial.delivery.letter is not None


@pytest.mark.parametrize(
    ("failure", "least_s", "most_s"),
    [
        (Failed("no"), 0, 0),
        (Failed("no", hold_s=300), 295, 300),
        (Failed("no", hold_s=86_400), 895, 900),
        (Failed("no", gone=True), 895, 900),
    ],
)
def test_a_destination_is_left_alone(failure: Failed, least_s: float, most_s: float) -> None:
    """All of its deliveries wait where it asks for that, within the bound."""
    trial = Trial(lambda: failure)
    assert not trial.attempt()
    held_s = max(0.0, trial.attempts.held_until_s - time.monotonic())
    assert least_s <= held_s <= most_s
    assert trial.delivery.due_s - time.monotonic() >= held_s - 1


def test_a_bug_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    """What an attempt raises unexpectedly is logged and counts as a failure: it comes to an end."""

    def broken() -> Failed | None:
        raise ZeroDivisionError

    trial = Trial(broken)
    while trial.delivery.letter is None:
        assert not trial.attempt()
    assert trial.delivery.letter.error == "unexpected ZeroDivisionError"
    assert "Traceback" in caplog.text


class Removed:
    """Keeps what is taken off the list."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def remove(self, delivery_id: str) -> None:
        self.ids.append(delivery_id)


def test_retries_of_the_list() -> None:
    """Only what is delivered leaves the list; what cannot be sent is left, with the reason."""
    trial = Trial(lambda: Failed("no", final=True))
    trial.attempt()
    letter = trial.delivery.letter
    assert letter is not None
    event = trial.delivery.notice.event.model_dump_json()
    sound = letter.model_copy(update={"event": event})
    other = sound.model_copy(update={"destination": "elsewhere", "delivery_id": "ntf_2"})
    removed = Removed()
    target = Scripted(lambda: None)
    destination = Destination("mail", "email", target, (), False)
    outcomes = list(retry([letter, sound, other], [destination], removed))
    assert [each.outcome for each in outcomes] == ["left", "delivered", "left"]
    assert outcomes[0].reason.startswith("its event cannot be read: ")
    assert outcomes[2] == Retried(other, "left", "the file has no such destination")
    assert removed.ids == ["ntf_1"]
    assert target.asked_for == [("b@example.com",)]
    target.answer = lambda: Failed("still no")
    assert list(retry([sound], [destination], removed)) == [Retried(sound, "failed", "still no")]
    assert removed.ids == ["ntf_1"]
