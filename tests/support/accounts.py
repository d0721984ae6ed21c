"""Accounts as the journal tells them, and as the slow model has them from the events topic."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Producer
from tests.support.core_runner import read_table
from tests.support.craft import Json, envelope
from tests.support.ledger_model import SlowAccount, SlowGrant
from tests.support.model import Counted
from tests.support.slow_count import Log
from tests.support.told import valid_records

from meterstream.schemas.journal import Section, unpack_sections

Draw = tuple[str, str, int]
"""Grant, kind and amount."""


@dataclass(frozen=True)
class Granted:
    """A grant of credits to a team, for good."""

    team: str
    grant_id: str
    kind: str
    amount_micro: int
    priority: int = 100

    def to_event(self, at_us: int) -> Json:
        """Return it as an entry of the control topic."""
        data = {
            "team_id": self.team, "grant_id": self.grant_id, "kind": self.kind,
            "amount_micro": self.amount_micro, "priority": self.priority,
        }  # fmt: skip
        return envelope("credits.granted", f"{self.team}/{self.grant_id}", at_us, data)

    def to_slow(self) -> SlowGrant:
        """Return it as the slow model has it."""
        return SlowGrant(self.grant_id, self.kind, self.amount_micro, self.priority)


def grant(kafka: str, prefix: str, grants: Iterable[Granted], at_us: int) -> None:
    """Write grants to the control topic."""
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    for one in grants:
        producer.produce(prefix + "control", json.dumps(one.to_event(at_us)), key=one.team)
    assert producer.flush(30) == 0


@dataclass
class Books:
    """What all accounts amount to."""

    accounts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """By team: balance, left, overdrawn, granted, drawn and expired, micro-credits."""
    grants: dict[tuple[str, str], int] = field(default_factory=dict)
    """By team and grant: what is left of it, micro-credits."""
    draws: dict[tuple[str, int], list[Draw]] = field(default_factory=lambda: defaultdict(list))
    """By team and offset of the event; -1 is what grants paid of what was overdrawn."""
    taken_at: dict[tuple[str, str], int] = field(default_factory=dict)
    """By team and grant: the offset of the first event that was counted after it was taken."""


def books_of_journal(kafka: str, prefix: str) -> Books:
    """Return what the valid records of the journal tell."""
    books = Books()
    for _, record in valid_records(kafka, prefix):
        sections = unpack_sections(record.value)
        for row in _rows(sections, Section.ACCOUNTS):
            names = ("balance", "left", "overdrawn", "granted", "drawn", "expired")
            books.accounts[row["team_id"]] = tuple(row[f"{name}_micro"] for name in names)
        for row in _rows(sections, Section.GRANTS):
            key = row["team_id"], row["grant_id"]
            books.grants[key] = row["left_micro"]
            books.taken_at.setdefault(key, record.header.events_from)
        charges = _rows(sections, Section.CHARGES)
        for row in _rows(sections, Section.DRAWS):
            offset = charges[row["charge"]]["event_offset"] if row["charge"] >= 0 else -1
            drawn = row["grant_id"], row["kind"], row["amount_micro"]
            books.draws[row["team_id"], offset].append(drawn)
    return books


def _rows(sections: Mapping[Section, memoryview], section: Section) -> list[dict[str, Any]]:
    return read_table(sections[section]) if section in sections else []


def books_counted_slowly(
    logs: Iterable[Log],
    counted: Mapping[int, Counted],
    grants: Iterable[Granted],
    taken_at: Mapping[tuple[str, str], int],
) -> tuple[Books, dict[str, list[int]]]:
    """Return the same, one charge at a time, and at which offsets each team was exhausted.

    Nothing was used before the first grants.
    """
    books, exhausted = Books(), defaultdict[str, list[int]](list)
    waiting: dict[str, list[tuple[int, SlowGrant]]] = defaultdict(list)
    for one in grants:
        waiting[one.team].append((taken_at[one.team, one.grant_id], one.to_slow()))
    slow: dict[str, SlowAccount] = defaultdict(SlowAccount)
    for log in logs:
        found = counted[log.partition]
        for offset, charge in sorted(found.charges.items()):
            team = _team_of(log, offset)
            _take(slow[team], waiting[team], offset)
            slow[team].charge(str(offset), charge.credits_micro, run_us=1, now_us=1)
    for team, account in slow.items():
        _take(account, waiting[team], None)
        account.check()
        if account.since_us is None:
            continue
        books.accounts[team] = (
            account.balance(), account.left(), account.overdrawn, account.granted, account.drawn, 0,
        )  # fmt: skip
        for held in account.grants:
            books.grants[team, held.grant_id] = held.left
        for name, drawn in account.draws.items():
            books.draws[team, int(name or -1)] = drawn
        for note in account.notes:
            if note[0] == "exhausted":
                exhausted[team].append(int(str(note[2])))
    return books, exhausted


def _take(account: SlowAccount, waiting: list[tuple[int, SlowGrant]], offset: int | None) -> None:
    """Grant what the meter had taken before an offset."""
    while waiting and (offset is None or waiting[0][0] <= offset):
        account.grant(waiting.pop(0)[1], 0)


def _team_of(log: Log, offset: int) -> str:
    value = log.records[offset - log.start].value
    assert value is not None
    return str(json.loads(value)["data"]["team_id"])
