"""Bounds of a log whose leader is being chosen, which no test can bring about when it wants to."""

from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from meterstream.cli import log_bounds as module
from meterstream.cli.log_bounds import log_bounds

PLACE = TopicPartition("t", 0)


class Broker:
    """Answers with errors first."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def get_watermark_offsets(self, place: Any, timeout: float) -> tuple[int, int]:
        """Answer once."""
        if self.errors:
            raise KafkaException(KafkaError(self.errors.pop(0)))
        return 3, 9


def test_a_leader_that_is_being_chosen_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that has just started does not know at once which partitions it leads."""
    monkeypatch.setattr(module, "AGAIN_S", 0.0)
    broker = Broker(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
    assert log_bounds(cast(Consumer, broker), PLACE, 60.0) == (3, 9)


@pytest.mark.parametrize(
    ("error", "timeout_s"),
    [(KafkaError.TOPIC_AUTHORIZATION_FAILED, 60.0), (KafkaError.NOT_LEADER_FOR_PARTITION, 0.0)],
    ids=["refused", "for too long"],
)
def test_what_does_not_pass_is_told(error: int, timeout_s: float) -> None:
    """Whoever asks says what to do about it."""
    with pytest.raises(KafkaException):
        log_bounds(cast(Consumer, Broker(error)), PLACE, timeout_s)
