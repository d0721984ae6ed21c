"""One topic as it is read from its beginning: how far it was read, and whether to its end."""

from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition


class Log:
    """How far the partitions of a topic were read. `timeout_s` bounds each question about it."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self.name: Final = name
        self.timeout_s: Final = timeout_s
        self.topic_id = ""
        self._next: Final[dict[int, int]] = {}
        """The offset behind the last record taken, by partition."""
        self._ends: Final[dict[int, int]] = {}
        """Where partitions ended that were assigned and not read to there yet."""

    def begin(self, consumer: Consumer, count: int) -> list[TopicPartition]:
        """Return from where to read all of its partitions; KafkaException if nobody can tell."""
        self._next.clear()
        self._ends.clear()
        for number in range(count):
            self._look_for_end(consumer, number)
        return [TopicPartition(self.name, number, OFFSET_BEGINNING) for number in range(count)]

    def is_read_again(self, consumer: Consumer, number: int, offset: int) -> bool:
        """Note a record that was read; tell whether it does not lie behind the one before."""
        again = offset < self._next.get(number, 0)
        if again:
            self._look_for_end(consumer, number)
        self._next[number] = offset + 1
        return again

    def is_at_end(self, number: int) -> bool:
        """Tell whether a partition was read to where it ended when it was begun.

        One that is always written to may never be told to have ended.
        """
        end = self._ends.get(number)
        return end is not None and self._next.get(number, 0) >= end

    def reached_end(self, number: int) -> None:
        """Note that a partition was read to its end."""
        self._ends.pop(number, None)

    def _look_for_end(self, consumer: Consumer, number: int) -> None:
        place = TopicPartition(self.name, number)
        _, self._ends[number] = consumer.get_watermark_offsets(place, timeout=self.timeout_s)
