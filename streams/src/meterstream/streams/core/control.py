"""Control entries: which are taken into the chain, and the limits and corrections they make."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

from meterstream.schemas.control import (
    ControlEvent,
    CreditsGranted,
    LimitRemoved,
    LimitSet,
    LimitSetData,
    SubscriptionChanged,
    UsageAdjusted,
    UsageVoided,
    control_key,
)
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.thresholds import Owners
from meterstream.schemas.times import format_rfc3339
from meterstream.schemas.topics import CONTROL
from meterstream.schemas.verdicts import Verdict

from .batch import Entry
from .corrections import (
    Corrected,
    Correction,
    CorrectionEvent,
    content_of,
    identity_of,
    is_new,
    number_of,
)
from .entries import EntryReject, KeptEntry, internal_reject
from .limit_index import Limits
from .limits import Limit, LimitKey


@dataclass(frozen=True, slots=True)
class Control:
    """What the control topic has said so far. Immutable."""

    kept: dict[str, KeptEntry] = field(default_factory=dict)
    """The entries that still matter: the last of each limit, no correction, and every other."""
    limits: Limits = field(default_factory=Limits)
    versions: dict[LimitKey, int] = field(default_factory=dict)
    """The last version of each limit, removed ones too, so that none comes back by mistake."""
    corrected: Corrected = field(default_factory=Corrected)

    def with_taken(self, taken: Sequence[KeptEntry]) -> "Control":
        """Return it with entries that a valid record took."""
        if not taken:
            return self
        kept, versions = dict(self.kept), dict(self.versions)
        changed: dict[LimitKey, Limit | None] = {}
        corrections: list[CorrectionEvent] = []
        for entry in taken:
            event = _parsed(entry)
            if isinstance(event, UsageAdjusted | UsageVoided):
                corrections.append(event)
                continue
            kept[_name(event, entry.offset)] = entry
            if isinstance(event, LimitSet | LimitRemoved):
                key = limit_key(event)
                versions[key] = event.data.version
                changed[key] = _limit(event, entry.log_time_us)
        limits = self.limits.changed(changed) if changed else self.limits
        return Control(kept, limits, versions, self.corrected.with_taken(corrections))

    def knowing(self, corrected: Corrected) -> "Control":
        """Return it with corrections that were taken before, none of which it knows."""
        return replace(self, corrected=self.corrected.with_all(corrected))

    def credited(self) -> tuple[KeptEntry, ...]:
        """Return the grants and subscriptions, the last of each name.

        They hold although the topic that they stood in was made again, so one that is sent again
        must be known. Their offsets are those of the topic that they were taken from.
        """
        return tuple(entry for name, entry in self.kept.items() if json.loads(name)[0] in _CREDITS)

    @staticmethod
    def limits_named_by(taken: Iterable[KeptEntry]) -> dict[LimitKey, None]:
        """Return the limits that these entries set or removed, in their order."""
        keys: dict[LimitKey, None] = {}
        for entry in taken:
            event = _parsed(entry)
            if isinstance(event, LimitSet | LimitRemoved):
                keys[limit_key(event)] = None
        return keys


def events_of(taken: Iterable[KeptEntry]) -> list[tuple[int, ControlEvent]]:
    """Return the events of entries that were taken, with their offsets, in their order."""
    return [(entry.offset, _parsed(entry)) for entry in taken]


def corrections_of(events: Iterable[tuple[int, ControlEvent]]) -> list[Correction]:
    """Return the corrections among events."""
    return [
        Correction(offset, event)
        for offset, event in events
        if isinstance(event, UsageAdjusted | UsageVoided)
    ]


def limit_key(event: LimitSet | LimitRemoved) -> LimitKey:
    """Return what a limit is found by."""
    return event.data.team_id or event.data.organisation_id or "", event.data.limit_id


def _limit(event: LimitSet | LimitRemoved, log_time_us: int) -> Limit | None:
    """Return the limit that an event sets; None where it removes one."""
    if isinstance(event, LimitRemoved):
        return None
    return Limit(event.data, log_time_us)


_GRANT, _SUBSCRIPTION = "grant", "subscription"
_CREDITS: Final = (_GRANT, _SUBSCRIPTION)


def _name(event: ControlEvent, offset: int) -> str:
    """Return what an entry is kept under: the next of the same name takes its place."""
    if isinstance(event, LimitSet | LimitRemoved):
        return json.dumps(["limit", *limit_key(event)])
    if isinstance(event, CreditsGranted):
        return json.dumps([_GRANT, event.data.team_id, event.data.grant_id])
    if isinstance(event, SubscriptionChanged):
        starts_at = format_rfc3339(event.data.starts_at)
        return json.dumps([_SUBSCRIPTION, event.data.team_id, starts_at])
    return json.dumps(["entry", offset])


def _parsed(entry: KeptEntry) -> ControlEvent:
    return cast(ControlEvent, parse_event(entry.event.encode(), CONTROL))


def judge_control(
    known: Control,
    incoming: Sequence[Entry],
    partition: int,
    partitions: int,
    check: Callable[[ControlEvent, bool], None],
    owners: Owners = "teams",
) -> tuple[list[KeptEntry], list[EntryReject]]:
    """Return which control entries are taken, and which are refused with their reasons.

    `check` raises InvalidEvent where what an event is about is not known, such as its run or plan;
    it is told whether the event takes the place of another. Limits of organisations are for the
    meter of organisations, and all else for that of teams: each passes over what is the other's.
    """
    taken: list[KeptEntry] = []
    rejects: list[EntryReject] = []
    versions: dict[LimitKey, tuple[int, LimitSetData | None]] = {}
    corrected: dict[bytes, dict[int, int]] = {}
    credited: dict[str, KeptEntry] = {}
    for entry in incoming:
        try:
            event = cast(ControlEvent, parse_event(entry.value, CONTROL))
            if owners_of(event) != owners:
                continue
            if partition_of(control_key(event), partitions) != partition:
                raise InvalidEvent(
                    Verdict.WRONG_PARTITION, "data.team_id: belongs to another partition"
                )
            if isinstance(event, LimitSet | LimitRemoved) and not _is_new(known, versions, event):
                continue  # the same once more
            text = event.model_dump_json(exclude_none=True)
            kept = KeptEntry(entry.offset, entry.log_time_us, text)
            if isinstance(event, CreditsGranted | SubscriptionChanged):
                name = _name(event, entry.offset)
                before = credited.get(name) or known.kept.get(name)
                if not _says_more(before, event):
                    continue  # likewise
                check(event, before is not None)
                credited[name] = kept
            if isinstance(event, UsageAdjusted | UsageVoided):
                since = corrected.setdefault(identity_of(event), {})
                if not is_new(known.corrected.of(event) | since, event):
                    continue  # likewise
                check(event, False)
                since[number_of(event)] = content_of(event)
        except InvalidEvent as error:
            if owners == "teams" or error.verdict in _OF_KNOWN_OWNERS:
                rejects.append(EntryReject("control", entry.offset, error.verdict, error.detail))
            continue
        except MemoryError:
            raise  # that is the machine's, and no entry is to blame
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this entry's alone
            rejects.append(internal_reject("control", entry, error))
            continue
        taken.append(kept)
    return taken, rejects


_OF_KNOWN_OWNERS: Final = (Verdict.WRONG_PARTITION, Verdict.NOT_ALLOWED)
"""Why an entry is refused that could be read: others are refused by the meter of teams."""


def owners_of(event: ControlEvent) -> Owners:
    """Return whose meter an event is for."""
    if isinstance(event, LimitSet | LimitRemoved) and event.data.organisation_id is not None:
        return "organisations"
    return "teams"


def _says_more(before: KeptEntry | None, event: CreditsGranted | SubscriptionChanged) -> bool:
    """Tell whether an event is not the same once more; InvalidEvent for another grant of its id."""
    if before is None:
        return True
    if _parsed(before).data == event.data:
        return False
    if isinstance(event, CreditsGranted):
        raise InvalidEvent(
            Verdict.NOT_ALLOWED, "data.grant_id: the team has a grant of this id with other data"
        )
    return True


def _is_new(
    known: Control,
    versions: dict[LimitKey, tuple[int, LimitSetData | None]],
    event: LimitSet | LimitRemoved,
) -> bool:
    """Tell whether an event changes a limit; raise InvalidEvent where its version is too old.

    `versions` are those that were taken since `known`, with what they set.
    """
    key = limit_key(event)
    data = event.data if isinstance(event, LimitSet) else None
    if key in versions:
        version, before = versions[key]
    else:
        limit = known.limits.get(key)
        version = known.versions.get(key, 0)
        before = None if limit is None else limit.data
    if event.data.version == version and data == before:
        return False
    if event.data.version <= version:
        raise InvalidEvent(
            Verdict.NOT_ALLOWED,
            f"data.version: must be above {version}, the version that this limit is at",
        )
    if data is None and before is None:
        raise InvalidEvent(Verdict.NOT_ALLOWED, "data.limit_id: there is no such limit")
    versions[key] = event.data.version, data
    return True
