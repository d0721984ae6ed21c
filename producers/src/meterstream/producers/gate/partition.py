"""What is known of one partition of `limit-states`, whatever order its records come in.

Of one limit the newest state holds: within one events topic that is the one with the highest
(generation, journal offset), wherever it stands in the log. An events topic that was made again has
another id; then the topic whose heartbeat has the later clock holds, and nothing of the other one.

States of teams and of organisations in one partition are known apart: the events of the former are
those that services publish, the events of the latter what teams used, each with a topic, with
generations and a journal of its own.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, Protocol

from .index import Cell, Teller
from .states import AsOf, Heartbeat, State

LINEAGES_MAX: Final = 4
"""The most events topics of which states are kept, that in force among them."""
REMOVED_MAX: Final = 100_000
"""The most removed limits of which is remembered when they were removed."""
ALL_TOLD_US: Final = 60_000_000
"""So long after the first heartbeat of a generation, by its clock, or after the last one that said
that limits are left to be told, those that it did not tell are gone."""

Fate = Literal["taken", "repeated", "old", "waiting"]
"""What became of a state: `repeated` is known already, `old` is older than what is known, `waiting`
belongs to an events topic that no heartbeat has named yet."""

_Order = tuple[int, int]


class _Lineage:
    """What was told of one events topic."""

    def __init__(self) -> None:
        self.states: Final[dict[bytes, State]] = {}
        self.removed: Final[dict[bytes, _Order]] = {}
        """As of when limits were removed, at the least."""
        self.heartbeat: Heartbeat | None = None
        self._began: tuple[int, int] = (-1, 0)
        """The generation of the heartbeat, and the clock of its first one, or of the last one that
        said that not all limits were told."""
        self._all_told = -1
        """The generation that has told all limits."""

    def take(self, key: bytes, state: State) -> Fate:
        """Take a state, unless what is known is as new."""
        known = self.states.get(key)
        order = state.as_of.order
        if known is not None and known.as_of.order >= order:
            return "repeated" if known.as_of.order == order else "old"
        if self.removed and (removed := self.removed.get(key)) is not None:
            if removed >= order:
                return "old"
            del self.removed[key]
        self.states[key] = state
        return "taken"

    def beat(self, heartbeat: Heartbeat) -> list[bytes]:
        """Take a heartbeat; return the limits that are gone by what it tells.

        A generation begins with telling all limits. One of which there is only a state of an
        earlier generation then was removed in between, where no reader could see it.
        """
        self.heartbeat = heartbeat
        generation = heartbeat.as_of.order[0]
        if generation > self._began[0] or not heartbeat.all_told:
            self._began = (generation, heartbeat.clock_us)
        all_told = heartbeat.clock_us - self._began[1] >= ALL_TOLD_US
        if generation <= self._all_told or not all_told:
            return []
        self._all_told = generation
        gone = [key for key, state in self.states.items() if state.as_of.order[0] < generation]
        for key in gone:
            self.remove(key)
        return gone

    def remove(self, key: bytes) -> None:
        """Forget a limit, and let no state come back that is as old as its removal."""
        order = self.heartbeat.as_of.order if self.heartbeat is not None else (-1, -1)
        known = self.states.pop(key, None)
        if known is not None:
            order = max(order, known.as_of.order)
        self.removed[key] = max(order, self.removed.pop(key, order))
        if len(self.removed) > REMOVED_MAX:
            del self.removed[next(iter(self.removed))]


class Limits(Protocol):
    """Where limits are put as they stand."""

    def put(self, key: bytes, state: State, teller: Teller) -> Cell:
        """Have a limit stand as `state` says from now on; return its cell."""

    def remove(self, key: bytes) -> None:
        """Forget a limit."""


class Partition:
    """What is known of the limits of teams in one partition; it keeps the index as that says.

    Used by one thread.

    While it is `loading`, a removal is only applied at the log's end: a log that is read once more
    from its beginning, since it was made again or cut, must not take away for a moment what it
    tells again later.
    """

    def __init__(self, number: int, index: Limits) -> None:
        self.number: Final = number
        self.loading = True
        self.loaded = False
        """Whether the log was read to its end at least once."""
        self.topic_id: str | None = None
        """The events topic that counts here."""
        self.events_position = -1
        """The first event that is not counted yet, by the last heartbeat."""
        self.clock_us: int | None = None
        """Up to when usage was counted, by the broker's time."""
        self.counted: Mapping[tuple[str, int], int] = {}
        """Of organisations: which usage of teams is part of it, as the last heartbeat tells."""
        self._index: Final[Limits] = index
        self._lineages: Final[dict[str, _Lineage]] = {}
        self._removals: Final[dict[bytes, None]] = {}

    def take(self, key: bytes, state: State) -> Fate:
        """Take a state, unless it is old; tell what became of it."""
        topic_id = state.as_of.topic_id
        fate = self._lineage(topic_id).take(key, state)
        if fate != "old":
            self._removals.pop(key, None)
        if fate != "taken":
            return fate
        if topic_id != self.topic_id:
            return "waiting"
        self._index.put(key, state, self)
        return "taken"

    def remove(self, key: bytes) -> None:
        """Take a removal."""
        if self.loading:
            self._removals[key] = None
            return
        for lineage in self._lineages.values():
            lineage.remove(key)
        self._index.remove(key)

    def beat(self, heartbeat: Heartbeat) -> bool:
        """Take a heartbeat; return whether it is news."""
        as_of = heartbeat.as_of
        lineage = self._lineage(as_of.topic_id)
        last = lineage.heartbeat
        if last is not None and last.as_of.order > as_of.order:
            return False
        if as_of.topic_id != self.topic_id:
            if self.clock_us is not None and heartbeat.clock_us <= self.clock_us:
                return False
            lineage.beat(heartbeat)
            self._follow(as_of, lineage)
            self.clock_us = heartbeat.clock_us
            self.counted = heartbeat.counted
            return True
        for key in lineage.beat(heartbeat):
            self._index.remove(key)
        self.events_position = as_of.events_position
        self.clock_us = max(self.clock_us or 0, heartbeat.clock_us)
        self.counted = heartbeat.counted
        return True

    def counted_upto(self, partition: int) -> int:
        """Return the first event of a partition of events that is not part of what is told."""
        return self.events_position if partition == self.number else -1

    def decided_upto(self, partition: int) -> int:
        """Return the first event of a partition that the meter of teams has not counted."""
        return self.counted_upto(partition)

    def begins_anew(self) -> None:
        """Note that the log is read from its beginning once more."""
        self.loading = True

    def reached_end(self) -> None:
        """Note that the log was read to its end."""
        if not self.loading:
            return
        self.loading = False
        for key in list(self._removals):
            self.remove(key)
        self._removals.clear()
        self.loaded = True

    def _lineage(self, topic_id: str) -> _Lineage:
        lineage = self._lineages.get(topic_id)
        if lineage is None:
            if len(self._lineages) >= LINEAGES_MAX:
                del self._lineages[next(one for one in self._lineages if one != self.topic_id)]
            lineage = self._lineages[topic_id] = _Lineage()
        return lineage

    def _follow(self, as_of: AsOf, lineage: _Lineage) -> None:
        """Let another events topic count: its limits come before those of the old one go."""
        old_id, self.topic_id = self.topic_id, as_of.topic_id
        self.events_position = as_of.events_position
        for key, state in lineage.states.items():
            self._index.put(key, state, self)
        if old_id is not None:
            for key in self._lineages.pop(old_id).states.keys() - lineage.states.keys():
                self._index.remove(key)


class OfOrganisations(Partition):
    """What is known of the limits of organisations in one partition.

    `position` returns the events topic of a partition and its first event that the meter of teams
    has not counted: runs have their offsets there.
    """

    def __init__(
        self, number: int, index: Limits, position: Callable[[int], tuple[str | None, int]]
    ) -> None:
        super().__init__(number, index)
        self._position: Final = position

    def counted_upto(self, partition: int) -> int:
        """Return the first event of a partition of events that is not part of what is told."""
        topic_id, _ = self._position(partition)
        return -1 if topic_id is None else self.counted.get((topic_id, partition), -1)

    def decided_upto(self, partition: int) -> int:
        """Return the first event of a partition that the meter of teams has not counted."""
        return self._position(partition)[1]
