"""The worked example of docs/credits.md, line by line, as the meter decides it."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.support.core_runner import read_table
from tests.support.craft import Json, Partition, card, entries, envelope, run

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.schemas.times import to_us
from meterstream.streams.core import Step

PAGE = (Path(__file__).parents[4] / "docs" / "credits.md").read_text("utf-8")
BERLIN = ZoneInfo("Europe/Berlin")
CREDIT = 1_000_000
A_RUN = 10
CAP = "team-credits-month"


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    at_us: int
    happens: str
    drawn: str
    balance: int
    used: int | None
    """Under the cap, credits."""
    told: str


def lines() -> Iterator[Line]:
    """Yield the lines of the example's table."""
    for text in re.findall(r"^\| (\d{4}-.*) \|$", PAGE, re.MULTILINE):
        at, happens, drawn, balance, used, told = (part.strip() for part in text.split("|"))
        moment = datetime.strptime(at, "%Y-%m-%d %H:%M").replace(tzinfo=BERLIN)
        yield Line(
            to_us(moment), happens, drawn, number(balance), number(used) if used else None, told
        )


def number(text: str) -> int:
    """Return a number that is written with commas."""
    return int(text.replace(",", ""))


LINES = list(lines())


@dataclass
class Example:
    """The partition of the team, and what was told since the last line."""

    partition: Partition = field(default_factory=lambda: Partition(clock_us=LINES[0].at_us))
    steps: list[Step] = field(default_factory=list)
    used: int | None = None
    runs: int = 0
    entries: int = 0
    versions: int = 0

    def begin(self) -> None:
        """Publish the plan, the price and the team."""
        plan = {
            "plan_id": "pro", "version": 1, "name": "Pro", "tier": "team",
            "allowance_credits_micro": 1_000 * CREDIT, "rollover_cap_micro": 250 * CREDIT,
            "rollover_expiry_days": 31,
        }  # fmt: skip
        team = {"team_id": "acme", "organisation_id": "o", "name": "A", "zone": "Europe/Berlin"}
        at_us = LINES[0].at_us
        self.partition.take(
            catalog=entries(
                envelope("plan.published", "p", at_us, plan),
                envelope("team.registered", "t", at_us, team),
                card(effective_us=at_us, prices=[{"run_micro": A_RUN * CREDIT}]),
                at_us=at_us,
            )
        )

    def happen(self, line: Line) -> None:
        """Let time come to a line, and then what it says."""
        self.steps = []
        self.partition.idle(line.at_us)
        if self.partition.state.is_due:
            self.steps.append(self.partition.take_batch(None))
        if found := re.fullmatch(r"runs of ([\d,]+)", line.happens):
            count = number(found[1]) // A_RUN
            events = [self._run(line.at_us) for _ in range(count)]
            self.steps.append(self.partition.take(*events, at_us=line.at_us))
        elif found := re.fullmatch(r"a (\w+) of ([\d,]+) is granted, priority (\d+)", line.happens):
            kind, amount, priority = found[1], number(found[2]) * CREDIT, int(found[3])
            self._control(
                "credits.granted", line.at_us,
                grant_id=f"g-{self.entries}", kind=kind, amount_micro=amount, priority=priority,
            )  # fmt: skip
        elif found := re.fullmatch(
            r"a hard cap of ([\d,]+) a month is set, alerts at ([\d, ]+) %", line.happens
        ):
            self.versions += 1
            self._control(
                "limit.set", line.at_us, limit_id=CAP, version=self.versions, subject="team",
                measure="credits", window="month", amount=number(found[1]) * CREDIT,
                alert_levels_permille=[int(level) * 10 for level in found[2].split(",")],
                enforcement="hard",
            )  # fmt: skip
        elif line.happens == "acme subscribes to pro":
            self._control(
                "subscription.changed", line.at_us,
                plan_id="pro", plan_version=1, starts_at="2026-10-31T23:00:00Z", anchor_day=1,
            )  # fmt: skip
        else:
            assert line.happens == "nothing"

    def _run(self, at_us: int) -> Json:
        self.runs += 1
        return run(f"r-{self.runs}", at_us, team_id="acme")

    def _control(self, type_: str, at_us: int, **data: Any) -> None:
        event = envelope(type_, f"c-{self.entries}", at_us, {"team_id": "acme", **data})
        entry = entries(event, first=self.entries, at_us=at_us)
        self.entries += 1
        self.steps.append(self.partition.take(control=entry))

    def drawn(self) -> str:
        """Return what was drawn, in credits by kind."""
        found: Counter[str] = Counter()
        for row in self._rows(Section.DRAWS):
            found[row["kind"]] += row["amount_micro"]
        return ", ".join(f"{amount // CREDIT:,} {kind}" for kind, amount in found.items())

    def under_the_cap(self) -> int | None:
        """Return what the cap has counted, in credits."""
        for row in self._rows(Section.LIMIT_STATES):
            if row["limit_id"] == CAP:
                self.used = row["used"] // CREDIT
        return self.used

    def told(self) -> str:
        """Return what was told, in the words of the page."""
        return ", ".join(map(_words, self._crossings()))

    def _crossings(self) -> Iterator[Json]:
        for step in self.steps:
            section = unpack_sections(step.value).get(Section.CROSSINGS, b"[]")
            yield from json.loads(bytes(section))

    def _rows(self, section: Section) -> Iterator[dict[str, Any]]:
        for step in self.steps:
            sections = unpack_sections(step.value)
            if section in sections:
                yield from read_table(sections[section])


def _words(told: Json) -> str:
    who = "cap" if told.get("limit_id") == CAP else "credits"
    match told["kind"]:
        case "reached":
            return f"{told['level_permille'] // 10} %"
        case "blocked":
            return f"{who} blocks"
        case "reset":
            return f"{who} admits" if who == "cap" else f"{who} admit"
        case "exhausted":
            return "credits exhausted"
        case "expiring":
            return f"{told['left_micro'] // CREDIT} credits expire"
    raise AssertionError(told)


def test_every_line_and_the_sum() -> None:
    """What the page says of a moment is what the meter decides then; and its last sum is right."""
    example = Example()
    example.begin()
    for line in LINES:
        example.happen(line)
        account = example.partition.state.ledger.get("acme")
        assert account is not None
        found = example.drawn(), account.balance // CREDIT, example.under_the_cap()
        assert (line, found) == (line, (line.drawn, line.balance, line.used))
        assert (line, _set(example.told())) == (line, _set(line.told))
        assert account.difference == 0
    assert account is not None
    sums = PAGE[PAGE.rindex("1,000 + 200") :]
    said = [number(amount) for amount in re.findall(r"\d[\d,]*\d", sums)]
    *grants, drawn, expired, carried, left = said
    assert sum(grants) == drawn + expired + carried + left
    assert [sum(grants), drawn, expired, carried, left] == [
        amount // CREDIT
        for amount in (
            account.granted, account.drawn, account.expired, account.rolled_over, account.left
        )
    ]  # fmt: skip


def _set(told: str) -> list[str]:
    return sorted(told.split(", "))
