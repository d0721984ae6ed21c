"""Telling where limits stand: for which clock each was told last, and how many a record tells.

Where a window begins for many limits, or a generation does, they are told in the order of their
keys, a portion with each record, so that no record has to hold them all. Which were told is part of
the state. What happens to a limit meanwhile is decided as if it had been told with the first.
"""

import heapq
import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from meterstream.schemas.journal.header import MalformedRecord

from .limit_index import Limits
from .limits import Limit, LimitKey
from .policy import QUARTER_US
from .totals import ZoneOf
from .windows import KINDS, Window, windows_at

PORTION: Final = 5_000
"""The most limits that a record tells since their window, or their generation, begins."""

_FIRST: Final[LimitKey] = ("", "")
"""Comes before the keys of all limits."""


@dataclass(frozen=True, slots=True)
class Telling:
    """How far limits are told that are told in portions, for as long as some are left."""

    behind_us: int
    """The clock for which those that are left were told last."""
    upto: LimitKey
    """The last of those that are told."""
    is_all: bool = False
    """Whether every limit is told, as in the beginning of a generation, or those whose window has
    begun."""
    also: frozenset[LimitKey] = frozenset()
    """Limits behind `upto` that were told before their turn, since something happened to them."""

    def has_told(self, key: LimitKey) -> bool:
        """Tell whether a limit is told."""
        return key <= self.upto or key in self.also

    def following(self, before: "Telling | None") -> "Telling":
        """Return it with the limits that were told before their turn by earlier records."""
        if before is None:
            return self
        kept = {key for key in before.also if key > self.upto}
        return replace(self, also=self.also | kept)

    def encode(self) -> bytes:
        """Return it as JSON."""
        document = {
            "behind_us": self.behind_us,
            "upto": self.upto,
            "is_all": self.is_all,
            "also": sorted(self.also),
        }
        return json.dumps(document).encode()

    @classmethod
    def decode(cls, data: bytes | memoryview) -> "Telling":
        """Return what `encode` wrote; MalformedRecord if it is none."""
        try:
            document: dict[str, Any] = json.loads(bytes(data))
            return cls(
                int(document["behind_us"]),
                _key(document["upto"]),
                bool(document["is_all"]),
                frozenset(_key(key) for key in document["also"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise MalformedRecord(f"it does not say which limits are told: {error}") from error


def _key(value: Any) -> LimitKey:
    owner_id, limit_id = value
    return str(owner_id), str(limit_id)


@dataclass(frozen=True, slots=True)
class Side:
    """What limits are in force, and when, on one side of a record."""

    limits: Limits
    zone_of: ZoneOf
    clock_us: int
    """Before the record: the clock for which limits were told last."""
    telling: Telling | None = None
    """Before the record: which limits were not told for that clock yet."""

    def window_of(self, limit: Limit) -> Window:
        """Return the window in which a limit holds now; one that was just set holds from then."""
        return self._window_at(limit, self.clock_us)

    def last_of(self, limit: Limit) -> Window:
        """Return the window in which a limit was told last."""
        if self.is_told(limit.key) or self.telling is None:
            return self.window_of(limit)
        return self._window_at(limit, self.telling.behind_us)

    def is_told(self, key: LimitKey) -> bool:
        """Tell whether a limit was told for the clock."""
        return self.telling is None or self.telling.has_told(key)

    @property
    def tells_all(self) -> bool:
        """Whether all limits are being told, also those whose window has not begun."""
        return self.telling is not None and self.telling.is_all

    def _window_at(self, limit: Limit, clock_us: int) -> Window:
        return limit.window_at(self.zone_of(limit.key[0]), max(clock_us, limit.since_us))


def begun(before: Side, after: Side) -> bool:
    """Tell whether a window has begun, for any limit, between the clocks of two sides."""
    if before.clock_us // QUARTER_US == after.clock_us // QUARTER_US:
        return False
    return any(
        windows_at(zone, before.clock_us) != windows_at(zone, after.clock_us)
        for zone in after.limits.zones(after.zone_of)
    )


@dataclass(frozen=True, slots=True)
class Portion:
    """What one record tells."""

    limits: list[Limit]
    accounts: list[str]
    """The teams whose balances it tells."""
    telling: Telling | None
    """Which are told after it; None if all are."""


class Teller:
    """Chooses what is told with one record."""

    def __init__(self, before: Side, after: Side, telling: Telling) -> None:
        """`telling` says which are told already."""
        self._before, self._after = before, after
        self._telling = telling

    @staticmethod
    def of(before: Side, after: Side, is_untold: bool) -> "Teller | None":
        """Return who chooses; None where nothing has begun and all is told.

        `is_untold` says that nothing was told in this generation.
        """
        if before.telling is not None:
            return Teller(before, after, before.telling)
        if is_untold or begun(before, after):
            return Teller(before, after, Telling(before.clock_us, _FIRST, is_untold))
        return None

    def concerns(self, limit: Limit) -> bool:
        """Tell whether a limit has to be told, and was not."""
        telling, before, after = self._telling, self._before, self._after
        if telling.has_told(limit.key) or limit.data.window not in KINDS:
            return False
        last, window = before.last_of(limit), after.window_of(limit)
        # One that was set when the clock was behind its window was told too early to be seen.
        comes = telling.behind_us < window.start_us <= after.clock_us
        return telling.is_all or comes or last != window

    def portion(self, most: int, accounts: Iterable[str], told: Container[LimitKey]) -> Portion:
        """Return the next limits and accounts, `most` together; `told` are told in any case.

        Accounts are told in the beginning of a generation only.
        """
        telling = self._telling
        limits: list[Limit] = []
        teams: list[str] = []
        upto = telling.upto
        for key in self._keys(telling, accounts):
            limit = self._after.limits.get(key)
            if limit is None or (key not in told and self.concerns(limit)):
                if len(limits) + len(teams) >= most:
                    return Portion(limits, teams, replace(telling, upto=upto, also=frozenset()))
                if limit is None:
                    teams.append(key[0])
                else:
                    limits.append(limit)
            upto = key
        return Portion(limits, teams, None)

    def _keys(self, telling: Telling, accounts: Iterable[str]) -> Iterator[LimitKey]:
        keys = self._after.limits.keys_after(telling.upto)
        if not telling.is_all:
            return iter(keys)
        of_accounts = sorted(key for team in accounts if (key := (team, "")) > telling.upto)
        return heapq.merge(keys, of_accounts)
