"""The bounds of a partition's log, asked of a broker that may have just started."""

import time
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from meterstream.schemas.kafka_errors import MOVING

AGAIN_S: Final = 0.2


def log_bounds(
    consumer: Consumer, place: TopicPartition, timeout_s: float
) -> tuple[int, int] | None:
    """Return the first offset that a log holds and the one after its last; None for no answer.

    While the partition's leader is being chosen it is asked again, for `timeout_s` at most. Raises
    KafkaException where the broker refuses.
    """
    until = time.monotonic() + timeout_s
    while True:
        try:
            found: tuple[int, int] | None = consumer.get_watermark_offsets(place, timeout=timeout_s)
        except KafkaException as failure:
            if failure.args[0].name() not in MOVING or time.monotonic() >= until:
                raise
            time.sleep(AGAIN_S)
        else:
            return found
