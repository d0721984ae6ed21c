"""Catalog and control entries: which are taken into the chain, and what the core keeps of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast, get_args

from meterstream.schemas.catalog import (
    CatalogEvent,
    MembershipChanged,
    ProjectRegistered,
    RateCardPublished,
    UserRegistered,
    catalog_key,
)
from meterstream.schemas.control import ControlEvent, control_key
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.times import to_us
from meterstream.schemas.topics import CATALOG, CONTROL
from meterstream.schemas.verdicts import Verdict

from .batch import Entry
from .policy import MINUTE_US
from .prices import DEFAULT_CARD, Card, PriceBook

CARD_NOTICE_US: Final = 5 * MINUTE_US
"""A card takes effect this long after it was published or later, so that all partitions know it."""

_CATALOG_TYPES: Final = get_args(CatalogEvent)
_CONTROL_TYPES: Final = get_args(ControlEvent)
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
    """What the catalog and control topics have said so far. Immutable."""

    catalog: dict[str, KeptEntry] = field(default_factory=dict)
    """By catalog key."""
    control: tuple[KeptEntry, ...] = ()
    book: PriceBook = field(default_factory=PriceBook)

    def with_taken(self, catalog: Sequence[KeptEntry], control: Sequence[KeptEntry]) -> "Entries":
        """Return the entries with those that a valid record took."""
        if not catalog and not control:
            return self
        merged = dict(self.catalog)
        cards_changed = False
        for entry in catalog:
            event = parse_event(entry.event.encode(), CATALOG)
            merged[catalog_key(cast(CatalogEvent, event))] = entry
            cards_changed |= isinstance(event, RateCardPublished)
        book = PriceBook(_cards(merged)) if cards_changed else self.book
        return Entries(merged, (*self.control, *control), book)


def _cards(catalog: dict[str, KeptEntry]) -> list[Card]:
    cards = []
    for key, entry in catalog.items():
        if key.startswith("rate-card/"):
            event = parse_event(entry.event.encode(), CATALOG)
            assert isinstance(event, RateCardPublished), "the key says it is a rate card"
            if event.data.name == DEFAULT_CARD:
                cards.append(Card.of(event.data))
    return cards


def judge_catalog(
    entries: Entries, incoming: Sequence[Entry]
) -> tuple[list[KeptEntry], list[EntryReject]]:
    """Return which catalog entries are taken, and which are refused with their reasons."""
    taken: list[KeptEntry] = []
    rejects: list[EntryReject] = []
    for entry in incoming:
        try:
            event = parse_event(entry.value, CATALOG)
            if not isinstance(event, _CATALOG_TYPES):
                raise InvalidEvent(Verdict.UNKNOWN_TYPE, "type: not an event of the catalog")
            if isinstance(event, RateCardPublished):
                _check_card(entries, event, entry.log_time_us)
        except InvalidEvent as error:
            if entry.value is not None:  # a null value only removes a compacted entry
                rejects.append(EntryReject("catalog", entry.offset, error.verdict, error.detail))
            continue
        if isinstance(event, _NOT_KEPT):
            continue
        kept = KeptEntry(entry.offset, entry.log_time_us, event.model_dump_json(exclude_none=True))
        if catalog_key(event) in entries.catalog and isinstance(event, RateCardPublished):
            continue  # the same card once more: `_check_card` has compared them
        taken.append(kept)
        entries = entries.with_taken([kept], ())
    return taken, rejects


def _check_card(entries: Entries, event: RateCardPublished, log_time_us: int) -> None:
    before = entries.catalog.get(catalog_key(event))
    if before is not None:
        known = cast(RateCardPublished, parse_event(before.event.encode(), CATALOG))
        if known.data != event.data:
            raise InvalidEvent(
                Verdict.NOT_ALLOWED, "data.version: this version was published with other prices"
            )
        return
    effective_us = to_us(event.data.effective_from)
    others = [
        to_us(other.data.effective_from)
        for key, entry in entries.catalog.items()
        if key.startswith("rate-card/")
        and isinstance(other := parse_event(entry.event.encode(), CATALOG), RateCardPublished)
        and other.data.name == event.data.name
    ]
    if effective_us in others:
        raise InvalidEvent(
            Verdict.NOT_ALLOWED, "data.effective_from: another version takes effect at this time"
        )
    priced_before = any(other <= max(effective_us, log_time_us) for other in others)
    if priced_before and effective_us < log_time_us + CARD_NOTICE_US:
        raise InvalidEvent(
            Verdict.NOT_ALLOWED,
            "data.effective_from: must lie five minutes or more after the card is published",
        )


def judge_control(
    incoming: Sequence[Entry], partition: int, partitions: int
) -> tuple[list[KeptEntry], list[EntryReject]]:
    """Return which control entries are taken, and which are refused with their reasons."""
    taken: list[KeptEntry] = []
    rejects: list[EntryReject] = []
    for entry in incoming:
        try:
            event = parse_event(entry.value, CONTROL)
            if not isinstance(event, _CONTROL_TYPES):
                raise InvalidEvent(Verdict.UNKNOWN_TYPE, "type: not an event of control")
            if partition_of(control_key(event), partitions) != partition:
                raise InvalidEvent(
                    Verdict.WRONG_PARTITION, "data.team_id: belongs to another partition"
                )
        except InvalidEvent as error:
            rejects.append(EntryReject("control", entry.offset, error.verdict, error.detail))
            continue
        text = event.model_dump_json(exclude_none=True)
        taken.append(KeptEntry(entry.offset, entry.log_time_us, text))
    return taken, rejects


def encode_entries(entries: Sequence[KeptEntry]) -> bytes:
    """Return entries as the JSON of a CATALOG or CONTROL section."""
    return json.dumps([[e.offset, e.log_time_us, e.event] for e in entries]).encode()


def decode_entries(data: bytes | memoryview) -> list[KeptEntry]:
    """Return the entries that `encode_entries` wrote."""
    return [KeptEntry(*row) for row in json.loads(bytes(data))]
