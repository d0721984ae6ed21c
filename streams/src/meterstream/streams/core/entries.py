"""Catalog entries: which are taken into the chain, and what the core keeps of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from meterstream.schemas.catalog import (
    DEFAULT_CARD,
    AgentRegistered,
    CatalogEvent,
    FeatureRegistered,
    MembershipChanged,
    OrganisationRegistered,
    PlanPublished,
    PlanPublishedData,
    ProjectRegistered,
    RateCardPublished,
    RateCardPublishedData,
    TeamRegistered,
    UserRegistered,
    catalog_key,
    plan_key,
)
from meterstream.schemas.rate_cards import why_refused
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.topics import CATALOG
from meterstream.schemas.verdicts import Verdict

from .batch import Entry
from .prices import Card, PriceBook
from .windows import UTC_ZONE

_NOT_KEPT: Final = (UserRegistered, MembershipChanged, ProjectRegistered)
"""Nothing the core decides depends on these; ClickHouse gets them from the catalog itself."""


@dataclass(frozen=True, slots=True)
class KeptEntry:
    """An entry that was taken: its offset, log time in microseconds and JSON text."""

    offset: int
    log_time_us: int
    event: str


@dataclass(frozen=True, slots=True)
class EntryReject:
    """An entry that was refused, and why."""

    topic: str
    offset: int
    verdict: Verdict
    detail: str


@dataclass(frozen=True, slots=True)
class Entries:
    """What the catalog topic has said so far. Immutable."""

    catalog: dict[str, KeptEntry] = field(default_factory=dict)
    """By catalog key."""
    cards: dict[str, RateCardPublishedData] = field(default_factory=dict)
    """The rate cards of the catalog, of all names, by catalog key."""
    parents: dict[str, str] = field(default_factory=dict)
    """The organisation that an organisation is part of, where it is part of one."""
    zones: dict[str, str] = field(default_factory=dict)
    """The zone of each team that is registered."""
    organisation_zones: dict[str, str] = field(default_factory=dict)
    """The zone of each organisation that is registered."""
    organisations: dict[str, str] = field(default_factory=dict)
    """The organisation of each team that is registered."""
    agent_types: dict[str, str] = field(default_factory=dict)
    """The type of each agent that is registered."""
    premium: frozenset[str] = frozenset()
    """The features that are premium ones."""
    book: PriceBook = field(default_factory=PriceBook)

    def zone_of(self, team_id: str) -> str:
        """Return the zone in which a team's days and months begin."""
        return self.zones.get(team_id, UTC_ZONE)

    def zone_of_organisation(self, organisation_id: str) -> str:
        """Return the zone in which an organisation's days and months begin."""
        return self.organisation_zones.get(organisation_id, UTC_ZONE)

    def organisations_of(self, team_id: str) -> tuple[str, ...]:
        """Return a team's organisation and what that is part of, upwards; none if not known."""
        found: list[str] = []
        above = self.organisations.get(team_id)
        while above is not None:
            found.append(above)
            above = self.parents.get(above)
        return tuple(found)

    def plan(self, plan_id: str, version: int) -> PlanPublishedData | None:
        """Return a version of a plan, None where it was not published."""
        kept = self.catalog.get(plan_key(plan_id, version))
        if kept is None:
            return None
        event = parse_event(kept.event.encode(), CATALOG)
        return event.data if isinstance(event, PlanPublished) else None

    def with_taken(self, catalog: Sequence[KeptEntry]) -> "Entries":
        """Return the entries with those that a valid record took."""
        if not catalog:
            return self
        kept, cards, parents = dict(self.catalog), dict(self.cards), dict(self.parents)
        zones, organisations = dict(self.zones), dict(self.organisations)
        organisation_zones = dict(self.organisation_zones)
        agent_types, premium = dict(self.agent_types), set(self.premium)
        for entry in catalog:
            event = cast(CatalogEvent, parse_event(entry.event.encode(), CATALOG))
            key = catalog_key(event)
            kept[key] = entry
            if isinstance(event, RateCardPublished):
                cards[key] = event.data
            elif isinstance(event, OrganisationRegistered):
                _follow_parent(parents, event)
                organisation_zones[event.data.organisation_id] = event.data.zone
            elif isinstance(event, TeamRegistered):
                zones[event.data.team_id] = event.data.zone
                organisations[event.data.team_id] = event.data.organisation_id
            elif isinstance(event, AgentRegistered):
                agent_types[event.data.agent_id] = event.data.agent_type
            elif isinstance(event, FeatureRegistered):
                premium.discard(event.data.feature_id)
                premium.update((event.data.feature_id,) if event.data.premium else ())
        book = self.book
        if len(cards) > len(self.cards):  # none is ever replaced
            book = PriceBook(Card.of(card) for card in cards.values() if card.name == DEFAULT_CARD)
        known = agent_types, frozenset(premium)
        return Entries(
            kept,
            cards,
            parents,
            zones,
            organisation_zones,
            organisations,
            *known,
            book.knowing(*known),
        )


def _follow_parent(parents: dict[str, str], event: OrganisationRegistered) -> None:
    if event.data.parent_id is None:
        parents.pop(event.data.organisation_id, None)
    else:
        parents[event.data.organisation_id] = event.data.parent_id


def judge_catalog(
    entries: Entries, incoming: Sequence[Entry]
) -> tuple[list[KeptEntry], list[EntryReject]]:
    """Return which catalog entries are taken, and which are refused with their reasons."""
    rejects: list[EntryReject] = []
    if not incoming:
        return [], rejects
    catalog = _Catalog(entries)
    for entry in incoming:
        try:
            catalog.take(entry)
        except InvalidEvent as error:
            if entry.value is not None:  # a null value only removes a compacted entry
                rejects.append(EntryReject("catalog", entry.offset, error.verdict, error.detail))
        except MemoryError:
            raise  # that is the machine's, and no entry is to blame
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this entry's alone
            rejects.append(internal_reject("catalog", entry, error))
    return catalog.taken, rejects


class _Catalog:
    """The catalog while entries are judged: what was known, and what was taken since."""

    def __init__(self, entries: Entries) -> None:
        self.taken: list[KeptEntry] = []
        self._known = entries.catalog
        self._new: dict[str, KeptEntry] = {}
        self._cards = dict(entries.cards)
        self._parents = dict(entries.parents)
        self._named_parents = set(self._parents.values())

    def take(self, entry: Entry) -> None:
        """Take an entry, or raise InvalidEvent with the reason why it may not be made."""
        event = cast(CatalogEvent, parse_event(entry.value, CATALOG))
        key = catalog_key(event)
        before = self._new.get(key) or self._known.get(key)
        if isinstance(event, RateCardPublished | PlanPublished) and before is not None:
            known = cast(CatalogEvent, parse_event(before.event.encode(), CATALOG))
            if known.data != event.data:
                raise InvalidEvent(
                    Verdict.NOT_ALLOWED, "data.version: this version was published with other data"
                )
            return  # the same once more
        if isinstance(event, RateCardPublished):
            detail = why_refused(event.data, self._cards.values(), entry.log_time_us)
            if detail is not None:
                raise InvalidEvent(Verdict.NOT_ALLOWED, detail)
            self._cards[key] = event.data
        elif isinstance(event, OrganisationRegistered):
            self._check_organisation(event)
            _follow_parent(self._parents, event)
            if event.data.parent_id is not None:
                self._named_parents.add(event.data.parent_id)
        elif isinstance(event, _NOT_KEPT):
            return
        kept = KeptEntry(entry.offset, entry.log_time_us, event.model_dump_json(exclude_none=True))
        self._new[key] = kept
        self.taken.append(kept)

    def _check_organisation(self, event: OrganisationRegistered) -> None:
        organisation_id, above = event.data.organisation_id, event.data.parent_id
        if organisation_id not in self._named_parents:
            return  # nothing is below it, so it can be below nothing of its own
        while above is not None:
            if above == organisation_id:
                raise InvalidEvent(
                    Verdict.NOT_ALLOWED, "data.parent_id: is itself part of the organisation"
                )
            above = self._parents.get(above)


def internal_reject(topic: str, entry: Entry, error: Exception) -> EntryReject:
    """Return the refusal of an entry on which the core itself failed."""
    return EntryReject(
        topic,
        entry.offset,
        Verdict.INTERNAL,
        f"the meter failed on this entry ({type(error).__name__}); publish it again after an"
        " upgrade",
    )


def encode_entries(entries: Sequence[KeptEntry]) -> bytes:
    """Return entries as the JSON of a CATALOG or CONTROL section."""
    return json.dumps([[e.offset, e.log_time_us, e.event] for e in entries]).encode()


def decode_entries(data: bytes | memoryview) -> list[KeptEntry]:
    """Return the entries that `encode_entries` wrote."""
    return [KeptEntry(*row) for row in json.loads(bytes(data))]
