"""What the catalog holds, by the rules of the meter's own core."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import TypeVar, cast

from meterstream.cli.connection import Connection
from meterstream.cli.errors import BadInput
from meterstream.schemas.catalog import CatalogEvent, TeamRegistered, catalog_key
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


def known_teams(connection: Connection) -> set[str]:
    """Return the teams that are registered in the catalog."""
    found: dict[bytes, str] = {}
    for entry in catalog_entries(connection):
        if entry.key is None or not entry.key.startswith(b"team/"):
            continue
        try:
            event = parse_event(entry.value, CATALOG)
        except InvalidEvent:
            if entry.value is None:
                found.pop(entry.key, None)
            continue
        if isinstance(event, TeamRegistered):
            found[entry.key] = event.data.team_id
    return set(found.values())


def check_teams(teams: Iterable[str], known: Collection[str]) -> None:
    """Raise BadInput for a team that is not registered, where any team is.

    Who registers no teams works without a catalog of them.
    """
    unknown = [team for team in dict.fromkeys(teams) if known and team not in known]
    if not unknown:
        return
    near = get_close_matches(unknown[0], known, 1)
    hint = f" (is {near[0]!r} meant?)" if near else ""
    raise BadInput(
        f"no team {unknown[0]!r} is registered{hint}: `meterstream teams list` names them,"
        " `meterstream teams register` adds one, --force goes on without"
    )
