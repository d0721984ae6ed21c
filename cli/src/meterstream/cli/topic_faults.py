"""What is wrong with topics that exist, one fault a line, and the settings that would mend it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from meterstream.schemas.topics import (
    BY_NAME,
    EVENTS,
    JOURNAL,
    LEAST_MESSAGE_BYTES,
    ORG_JOURNAL,
    ORG_USAGE,
    TOPICS,
    TopicSpec,
)

_AT_LEAST: Final = frozenset({"max.message.bytes", "min.insync.replicas"})
"""Settings of which more will do."""
_FOLLOWED: Final = ((EVENTS, JOURNAL), (ORG_USAGE, ORG_JOURNAL))
"""What is metered, and the journal that must not outlast it."""
_REPAIR: Final = "`meterstream topics --repair` sets it"
_MS: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing about a topic that is not as it must be; `settings` mend it, if any can."""

    topic: str
    text: str
    settings: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.topic}: {self.text}"


@dataclass(frozen=True, slots=True)
class Promise:
    """What retention has to outlast: deduplication, and the longest outage of a sink."""

    horizon: timedelta = timedelta(hours=24)
    outage: timedelta = timedelta(days=3)

    @property
    def retention_ms(self) -> int:
        """The shortest retention of what is metered, and of its journal."""
        return max(self.horizon, self.outage) // _MS


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the broker has it."""

    partitions: int
    replicas: int
    settings: dict[str, str]


def find_faults(
    prefix: str, found: Mapping[str, Found], partitions: int, promise: Promise
) -> list[Fault]:
    """Compare the topics that exist, by their short names, with what they must be.

    `partitions` is what the events topic should have; the others follow the one that it has.
    """
    events = found.get(EVENTS)
    follow = events.partitions if events else partitions
    faults: list[Fault] = []
    for name, topic in found.items():
        spec, full = BY_NAME[name], f"{prefix}{name}"
        wanted = partitions if name == EVENTS else follow if spec.partitioned else 1
        faults += _partition_faults(full, spec, topic, wanted)
        faults += _setting_faults(full, spec, topic)
        faults += _retention_faults(full, spec, topic, promise)
    if not any("retention.ms" in fault.settings for fault in faults):
        for pair in _FOLLOWED:
            faults += _outlasts_journal(prefix, found, *pair)
    return faults


def missing_topics(prefix: str, found: Mapping[str, Found]) -> list[Fault]:
    """Name the topics that are not there."""
    return [
        Fault(f"{prefix}{spec.name}", "is missing: `meterstream topics` makes it")
        for spec in TOPICS
        if spec.name not in found
    ]


def safety_settings(replicas: int) -> dict[str, str]:
    """Return what keeps acknowledged records: two in sync where there are replicas for it."""
    return {
        "min.insync.replicas": "2" if replicas > 2 else "1",
        "unclean.leader.election.enable": "false",
    }


def _partition_faults(full: str, spec: TopicSpec, found: Found, wanted: int) -> list[Fault]:
    if found.partitions == wanted:
        return []
    few = "too few partitions" if found.partitions < wanted else "too many partitions"
    text = f"{few}: {found.partitions}, and {wanted} are needed"
    if spec.name == EVENTS:
        text += (
            ". They are fixed for the life of a topic, since teams would move: go on with "
            f"`meterstream topics --partitions {found.partitions}`, use another prefix "
            "(METERSTREAM_TOPIC_PREFIX), or delete the topic and all that is in it"
        )
    else:
        why = "as many as the events topic has" if spec.partitioned else "so that it has one order"
        text += f", {why}: delete it if nothing is in it yet, and run `meterstream topics` again"
    return [Fault(full, text)]


def _setting_faults(full: str, spec: TopicSpec, found: Found) -> list[Fault]:
    least = {"max.message.bytes": str(LEAST_MESSAGE_BYTES)}
    faults = []
    for name, wanted in (least | spec.config() | safety_settings(found.replicas)).items():
        value = found.settings.get(name, "")
        if name != "retention.ms" and not _suffices(name, value, wanted):
            at_least = "at least " if name in _AT_LEAST else ""
            text = f"{name} is {value}, and must be {at_least}{wanted}: {_REPAIR}"
            faults.append(Fault(full, text, {name: wanted}))
    return faults


def _suffices(name: str, value: str, wanted: str) -> bool:
    if name in _AT_LEAST:
        return int(value or 0) >= int(wanted)
    if name == "cleanup.policy":
        return set(value.split(",")) == set(wanted.split(","))
    return value == wanted


def _retention_faults(full: str, spec: TopicSpec, found: Found, promise: Promise) -> list[Fault]:
    if spec.retention_ms is None:
        return []
    wanted_ms = spec.retention_ms
    least_ms = promise.retention_ms if any(spec.name in pair for pair in _FOLLOWED) else wanted_ms
    least = float("inf") if least_ms < 0 else least_ms
    if _retention_ms(found) >= least:
        return []
    value = "-1" if wanted_ms < 0 else str(max(wanted_ms, least_ms))
    text = (
        f"retention.ms is {found.settings.get('retention.ms')} ({_span(_retention_ms(found))}), "
        f"and must be at least {_span(least)}: {_REPAIR}"
    )
    return [Fault(full, text, {"retention.ms": value})]


def _outlasts_journal(
    prefix: str, found: Mapping[str, Found], events: str, journal: str
) -> list[Fault]:
    if events not in found or journal not in found:
        return []
    events_ms, journal_ms = (_retention_ms(found[name]) for name in (events, journal))
    if events_ms >= journal_ms:
        return []
    text = (
        f"keeps events for {_span(events_ms)}, shorter than the journal ({_span(journal_ms)}), "
        f"and must keep them as long: {_REPAIR}"
    )
    settings = {"retention.ms": found[journal].settings["retention.ms"]}
    return [Fault(f"{prefix}{events}", text, settings)]


def _retention_ms(found: Found) -> float:
    value = int(found.settings.get("retention.ms", "-1"))
    return float("inf") if value < 0 else value


def _span(milliseconds: float) -> str:
    if milliseconds == float("inf"):
        return "for ever"
    hours = milliseconds / 3_600_000
    if hours >= 48:
        return f"{hours / 24:.3g} days"
    return "1 hour" if hours == 1 else f"{hours:.3g} hours"
