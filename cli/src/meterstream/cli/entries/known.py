"""What the catalog holds, by the rules of the meter's own core."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import TypeVar, cast

from meterstream.cli.connection import Connection
from meterstream.cli.errors import BadInput
from meterstream.schemas.catalog import (
    CatalogEvent,
    OrganisationRegistered,
    TeamRegistered,
    catalog_key,
)
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.times import from_us
from meterstream.schemas.topics import CATALOG
from meterstream.streams.core.batch import Entry
from meterstream.streams.core.entries import Entries, judge_catalog

from .records import catalog_entries

E = TypeVar("E", bound=CatalogEvent)


@dataclass(frozen=True, slots=True)
class KnownEntry:
    """The last word on something in the catalog, and when it was written."""

    event: CatalogEvent
    written_at: datetime


@dataclass(frozen=True, slots=True)
class KnownCatalog:
    """The catalog: what the core keeps of it, and everything by catalog key."""

    entries: Entries
    by_key: dict[str, KnownEntry]

    def of(self, kind: type[E]) -> list[E]:
        """Return the entries of one kind, in the order of their keys."""
        events = (each.event for _, each in sorted(self.by_key.items()))
        return [event for event in events if isinstance(event, kind)]


def read_catalog(connection: Connection) -> KnownCatalog:
    """Read the catalog. Entries that the meter refuses are none here either."""
    return fold_catalog(list(catalog_entries(connection)))


def fold_catalog(records: Collection[Entry]) -> KnownCatalog:
    """Return what records of the catalog topic leave, in the order of offsets."""
    taken, rejects = judge_catalog(Entries(), list(records))
    refused = {each.offset for each in rejects}
    by_key: dict[str, KnownEntry] = {}
    for record in records:
        if record.value is None:
            by_key.pop((record.key or b"").decode("utf-8", "replace"), None)
        elif record.offset not in refused:
            event = cast(CatalogEvent, parse_event(record.value, CATALOG))
            by_key[catalog_key(event)] = KnownEntry(event, from_us(record.log_time_us))
    return KnownCatalog(Entries().with_taken(taken), by_key)


@dataclass(frozen=True, slots=True)
class KnownOwners:
    """Whom limits can be for."""

    teams: set[str]
    organisations: set[str]
    """Those that are registered, that a team belongs to, or that another one is part of."""


def known_owners(connection: Connection) -> KnownOwners:
    """Return the teams and organisations that the catalog names."""
    found: dict[bytes, TeamRegistered | OrganisationRegistered] = {}
    for entry in catalog_entries(connection):
        if entry.key is None or not entry.key.startswith((b"team/", b"organisation/")):
            continue
        try:
            event = parse_event(entry.value, CATALOG)
        except InvalidEvent:
            if entry.value is None:
                found.pop(entry.key, None)
            continue
        if isinstance(event, TeamRegistered | OrganisationRegistered):
            found[entry.key] = event
    owners = KnownOwners(set(), set())
    for event in found.values():
        owners.organisations.add(event.data.organisation_id)
        if isinstance(event, TeamRegistered):
            owners.teams.add(event.data.team_id)
        elif event.data.parent_id is not None:
            owners.organisations.add(event.data.parent_id)
    return owners


def check_teams(teams: Iterable[str], known: Collection[str]) -> None:
    """Raise BadInput for a team that is not registered, where any team is.

    Who registers no teams works without a catalog of them.
    """
    if found := _first_unknown(teams, known):
        unknown, hint = found
        raise BadInput(
            f"no team {unknown!r} is registered{hint}: `meterstream teams list` names them,"
            " `meterstream teams register` adds one, --force goes on without"
        )


def check_organisations(organisations: Iterable[str], known: Collection[str]) -> None:
    """Raise BadInput likewise for an organisation that nothing in the catalog names."""
    if found := _first_unknown(organisations, known):
        unknown, hint = found
        raise BadInput(
            f"no organisation {unknown!r} is in the catalog{hint}: `meterstream catalog list"
            " organisations` names those that are registered, `meterstream catalog publish` adds"
            " one, --force goes on without"
        )


def _first_unknown(wanted: Iterable[str], known: Collection[str]) -> tuple[str, str] | None:
    """Return one that is not known, and which may be meant; None where all are, or none is."""
    unknown = next((one for one in wanted if known and one not in known), None)
    if unknown is None:
        return None
    near = get_close_matches(unknown, known, 1)
    return unknown, f" (is {near[0]!r} meant?)" if near else ""
