"""Whatever happens to a spool, each accepted event is sent at least once, in its team's order."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.publishing import file_size_limit

from meterstream.producers import SpoolFailed, SpoolUnusable
from meterstream.producers.spool import Cursor, Record, SpoolRoot
from meterstream.producers.spool.record import pack

TEAMS = (b"red", b"green", b"blue")


def _no_damage(damage: SpoolUnusable, count: int) -> None:
    raise AssertionError(f"{count} events lost: {damage}")


def _no_trouble(error: SpoolUnusable) -> None:
    raise AssertionError(error)


def _refuse_to_truncate(path: Path, length: int) -> None:
    raise OSError(errno.EIO, "input/output error")


class SpoolMachine(RuleBasedStateMachine):
    """A process that accepts and sends, is killed in any state, and starts again."""

    def __init__(self) -> None:
        super().__init__()
        self._scratch = tempfile.TemporaryDirectory()
        self._accepted: dict[bytes, list[bytes]] = {team: [] for team in TEAMS}
        self._topic: dict[bytes, list[bytes]] = {team: [] for team in TEAMS}
        self._in_flight: list[Record] = []
        self._count = 0

    @initialize(max_bytes=st.sampled_from([1 << 20, 1 << 30]))
    def start(self, max_bytes: int) -> None:
        self._root = SpoolRoot(
            Path(self._scratch.name), max_bytes=max_bytes, sync=False, on_unusable=_no_trouble
        )
        # Small segments, so that a few events fill one.
        self._root._segment_bytes = 400
        self._open()

    def _open(self) -> None:
        self._slot = self._root.claim()
        self._cursor = Cursor(self._slot.log, _no_damage)
        self._in_flight = []

    @rule(teams=st.lists(st.sampled_from(TEAMS), min_size=1, max_size=6), size=st.integers(0, 120))
    def accept(self, teams: list[bytes], size: int) -> None:
        """A group is written, and accepted."""
        values = []
        for team in teams:
            values.append(b"%06d" % self._count + b"." * size)
            self._accepted[team].append(values[-1])
            self._count += 1
        self._slot.log.append(list(zip((0,) * len(teams), teams, values, strict=True)))

    @rule(room=st.integers(0, 200), tidied=st.booleans(), team=st.sampled_from(TEAMS))
    def refuse(self, room: int, tidied: bool, team: bytes) -> None:
        """The disk cuts a write short, and perhaps even refuses to cut what was written."""
        log = self._slot.log
        segments = log.segments()
        limit = (segments[-1].end if segments else 0) + room
        group = [(0, team, b"refused" + b"." * 2000)] * 3
        with (
            file_size_limit(limit),
            pytest.MonkeyPatch.context() as patch,
            contextlib.suppress(SpoolFailed),
        ):
            if not tidied:
                patch.setattr(os, "truncate", _refuse_to_truncate)
            log.append(group)
            raise AssertionError("three records do not fit")
        self.accept([team], 10)

    @rule()
    def send(self) -> None:
        """The sender reads on and hands events to the client, which keeps the order."""
        for record in self._cursor.read():
            self._topic[record.key].append(record.value)
            self._in_flight.append(record)

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        """Some of what is in flight is acknowledged, in any order."""
        if not self._in_flight:
            return
        for record in data.draw(st.lists(st.sampled_from(self._in_flight), unique=True)):
            self._slot.log.acks.settle(record.seq)
            self._in_flight.remove(record)

    @rule()
    def forget(self) -> None:
        """What is settled is forgotten, and the mark kept."""
        self._slot.log.forget_settled()

    @rule()
    def fail(self) -> None:
        """A delivery fails: everything is called back, and sent again from the mark."""
        self._in_flight = []
        self._cursor.rewind()

    @rule(data=st.data(), team=st.sampled_from(TEAMS))
    def kill(self, data: st.DataObject, team: bytes) -> None:
        """The process dies, perhaps within a write that was never accepted."""
        seq = self._slot.log.next_seq
        unfinished = pack(Record(seq, 0, team, b"never")) + pack(Record(seq + 1, 0, team, b"x"))
        kept = data.draw(st.integers(0, len(pack(Record(seq, 0, team, b"never"))) - 1))
        segments = sorted(self._slot.log.directory.glob("*.segment"))
        self._cursor.close()
        self._slot.abandon()
        if segments:
            with segments[-1].open("ab") as file:
                file.write(unfinished[:kept])
        self._open()

    @rule()
    def restart(self) -> None:
        """The process ends in order and starts again."""
        self._cursor.close()
        self._slot.close()
        self._open()

    @invariant()
    def first_copies_are_in_order(self) -> None:
        """The first copies of a team's events stand in the topic in the order of acceptance."""
        for team, sent in self._topic.items():
            first = list(dict.fromkeys(sent))
            assert first == self._accepted[team][: len(first)]

    def teardown(self) -> None:
        """In the end everything that was accepted has been sent."""
        self._cursor.rewind()
        while records := self._cursor.read():
            for record in records:
                self._topic[record.key].append(record.value)
                self._slot.log.acks.settle(record.seq)
        for team, accepted in self._accepted.items():
            assert list(dict.fromkeys(self._topic[team])) == accepted
        self._cursor.close()
        assert self._slot.close()
        assert list(Path(self._scratch.name).iterdir()) == []
        self._scratch.cleanup()


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
