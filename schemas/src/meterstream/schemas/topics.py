"""The topics: their names, what each must be set to, and why."""

from dataclasses import dataclass
from typing import Final, Literal

EVENTS: Final = "events"
CONTROL: Final = "control"
CATALOG: Final = "catalog"
JOURNAL: Final = "journal"
SNAPSHOTS: Final = "snapshots"
DLQ: Final = "dlq"
THRESHOLDS: Final = "thresholds"
LIMIT_STATES: Final = "limit-states"
ORG_USAGE: Final = "org-usage"
ORG_JOURNAL: Final = "org-journal"
ORG_SNAPSHOTS: Final = "org-snapshots"
NOTIFICATIONS_DLQ: Final = "notifications-dlq"

DEFAULT_PREFIX: Final = "meterstream."
DEFAULT_PARTITIONS: Final = 12

_DAY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What one topic must be like. Sizes in bytes, times in milliseconds; None: the broker's."""

    name: str
    partitioned: bool
    """Whether it has as many partitions as the events topic; else exactly one."""
    cleanup: Literal["delete", "compact", "compact,delete"] = "delete"
    log_append_time: bool = False
    retention_ms: int | None = None
    max_message_bytes: int | None = None
    purpose: str = ""
    segment_bytes: int | None = None
    """Of a compacted topic that is read whole: its last segment is never compacted."""

    def config(self) -> dict[str, str]:
        """Return the topic's settings in Kafka's own names."""
        settings: dict[str, str] = {"cleanup.policy": self.cleanup}
        if self.log_append_time:
            settings["message.timestamp.type"] = "LogAppendTime"
        if self.retention_ms is not None:
            settings["retention.ms"] = str(self.retention_ms)
        if self.max_message_bytes is not None:
            settings["max.message.bytes"] = str(self.max_message_bytes)
        if self.segment_bytes is not None:
            settings["segment.bytes"] = str(self.segment_bytes)
        return settings


LEAST_MESSAGE_BYTES: Final = 256 * 1024
"""What every topic must take in one batch: the largest event with room to spare, and what the SDK
sends at once. A batch that a broker refuses for its size would be overtaken by the next one."""
JOURNAL_MESSAGE_BYTES: Final = 16 * 1024 * 1024
STATES_SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""Who starts reads all states, and those that newer ones replaced until they are compacted: with
Kafka's own gigabyte they would be read for minutes."""

TOPICS: Final = (
    TopicSpec(EVENTS, True, "delete", True, 7 * _DAY_MS, None, "run and session events"),
    TopicSpec(CONTROL, True, "delete", True, -1, None, "grants, limits, corrections, imports"),
    TopicSpec(CATALOG, False, "compact", True, None, None, "cards, plans, teams, users, agents"),
    TopicSpec(
        JOURNAL, True, "delete", True, 7 * _DAY_MS, JOURNAL_MESSAGE_BYTES, "what the meter decided"
    ),
    TopicSpec(SNAPSHOTS, True, "compact", True, None, JOURNAL_MESSAGE_BYTES, "the meter's state"),
    TopicSpec(DLQ, True, "delete", True, 35 * _DAY_MS, None, "rejected events with their reasons"),
    TopicSpec(THRESHOLDS, True, "delete", True, 35 * _DAY_MS, None, "limits reached (public)"),
    TopicSpec(
        LIMIT_STATES,
        True,
        "compact",
        True,
        purpose="the state of limits (public)",
        segment_bytes=STATES_SEGMENT_BYTES,
    ),
    TopicSpec(
        ORG_USAGE,
        True,
        "delete",
        True,
        7 * _DAY_MS,
        None,
        "what teams used, by organisation (internal)",
    ),
    TopicSpec(
        ORG_JOURNAL,
        True,
        "delete",
        True,
        7 * _DAY_MS,
        JOURNAL_MESSAGE_BYTES,
        "what the meter of organisations decided",
    ),
    TopicSpec(
        ORG_SNAPSHOTS,
        True,
        "compact",
        True,
        None,
        JOURNAL_MESSAGE_BYTES,
        "the state of the meter of organisations",
    ),
    TopicSpec(
        NOTIFICATIONS_DLQ,
        False,
        "compact,delete",
        True,
        35 * _DAY_MS,
        None,
        "notifications that were given up",
    ),
)

BY_NAME: Final = {spec.name: spec for spec in TOPICS}
