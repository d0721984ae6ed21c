"""The dead letters that readers of committed data see."""

from collections.abc import Mapping
from typing import Any

from tests.support.services import messages_of
from tests.support.waiting import eventually


def letters(kafka: str, prefix: str) -> list[tuple[Mapping[str, str], Any]]:
    """Return headers and message of each dead letter that readers of committed data see."""
    return [
        ({name: value.decode() for name, value in message.headers()}, message)
        for message in messages_of(kafka, prefix + "dlq", committed=True)
    ]


def wait_for_letters(kafka: str, prefix: str, count: int) -> list[tuple[Mapping[str, str], Any]]:
    """Wait until there are `count` dead letters or more, and return them."""

    def published() -> list[tuple[Mapping[str, str], Any]]:
        found = letters(kafka, prefix)
        assert len(found) >= count, len(found)
        return found

    return eventually(published, 150, "the dead letters are published")


def coordinates(headers: Mapping[str, str], prefix: str) -> tuple[str, int, int]:
    """Return what a dead letter says it is of: topic, partition, offset."""
    topic = headers["topic"].removeprefix(prefix)
    return topic, int(headers["partition"]), int(headers["offset"])
