"""What the catalog holds, by the rules of the meter's own core."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import cast

from meterstream.cli.connection import Connection
from meterstream.cli.errors import BadInput
from meterstream.schemas.catalog import CatalogEvent, TeamRegistered
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.topics import CATALOG

from .records import catalog_entries


def known_names(connection: Connection, kind: str) -> dict[str, CatalogEvent]:
    """Return what is registered of a kind (`team`, `agent`, ...) by catalog key."""
    found: dict[str, CatalogEvent] = {}
    for entry in catalog_entries(connection):
        if entry.key is None or not entry.key.startswith(f"{kind}/".encode()):
            continue
        key = entry.key.decode("utf-8", "replace")
        try:
            found[key] = cast(CatalogEvent, parse_event(entry.value, CATALOG))
        except InvalidEvent:
            if entry.value is None:
                found.pop(key, None)
    return found


def known_teams(connection: Connection) -> set[str]:
    """Return the teams that are registered in the catalog."""
    events = known_names(connection, "team").values()
    return {event.data.team_id for event in events if isinstance(event, TeamRegistered)}


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
