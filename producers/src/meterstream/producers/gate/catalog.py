"""Which organisation a team is part of, and what that is part of: as the catalog topic tells."""

import json
from collections.abc import Mapping
from sys import intern
from typing import Any, Final

from meterstream.producers.exceptions import UnreadableState
from meterstream.schemas.catalog import ORGANISATION_REGISTERED, TEAM_REGISTERED

_TEAM: Final = b"team/"
_ORGANISATION: Final = b"organisation/"
"""How the keys of such entries begin: see `meterstream.schemas.catalog.catalog_key`."""


class _Told:
    """What a log says, from its beginning to where it was read."""

    def __init__(self) -> None:
        self.organisations: Final[dict[str, str]] = {}
        """The organisation of each team."""
        self.parents: Final[dict[str, str | None]] = {}
        """What each organisation is part of."""

    def take(self, later: "_Told") -> None:
        """Take what was told later."""
        self.organisations.update(later.organisations)
        self.parents.update(later.parents)


class Catalog:
    """The teams and organisations that are registered. One thread changes it, any number read it.

    While the log is read from its beginning nothing changes; what it tells is taken at its end, so
    nobody is moved for a moment. What a topic that was made again does not tell stays as it was:
    the meter, too, goes on with what it knew.
    """

    def __init__(self) -> None:
        self.known = False
        """Whether the log was read to its end at least once."""
        self._told: Final = _Told()
        self._reading: _Told | None = _Told()

    def take(self, key: bytes | None, value: bytes | None) -> bool:
        """Take an entry; return whether what is known has changed by it.

        An entry without a value changes nothing: for the meter, too, the team stays where it was.
        Raises UnreadableState if the entry breaks the contract; the meter refuses it as well.
        """
        if key is None or value is None or not key.startswith((_TEAM, _ORGANISATION)):
            return False
        told = self._reading or self._told
        try:
            event = json.loads(value.decode())
            if key.startswith(_TEAM):
                _take_team(told, event)
            else:
                _take_organisation(told, event)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UnreadableState(
                "the entry of a team or an organisation in the catalog breaks the contract; what"
                " was known of it before still holds (was it written by a newer version?)"
            ) from None
        return told is self._told

    def begins_anew(self) -> None:
        """Note that the log is read from its beginning (once more)."""
        self._reading = _Told()

    def reached_end(self) -> bool:
        """Note that the log was read to its end; return whether that made a difference."""
        if self._reading is None:
            return False
        self._told.take(self._reading)
        self._reading = None
        self.known = True
        return True

    @property
    def organisations(self) -> Mapping[str, str]:
        """The organisation of each team that is registered with one. Always the same mapping."""
        return self._told.organisations

    def upwards(self, organisation: str) -> tuple[str, ...]:
        """Return an organisation and what it is part of, upwards; each once, also in a circle."""
        parents, found = self._told.parents, dict[str, None]()
        above: str | None = organisation
        while above is not None and above not in found:
            found[above] = None
            above = parents.get(above)
        return tuple(found)


def _take_team(told: _Told, event: Any) -> None:
    if event["type"] != TEAM_REGISTERED:
        raise ValueError
    data = event["data"]
    told.organisations[_text(data["team_id"])] = _text(data["organisation_id"])


def _take_organisation(told: _Told, event: Any) -> None:
    if event["type"] != ORGANISATION_REGISTERED:
        raise ValueError
    data = event["data"]
    organisation, parent = _text(data["organisation_id"]), data.get("parent_id")
    told.parents[organisation] = None if parent is None else _text(parent)


def _text(value: object) -> str:
    if type(value) is not str or not value:
        raise ValueError
    return intern(value)
