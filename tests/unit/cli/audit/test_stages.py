"""Waiting, ledger ranges, charges and dead letters, on doubles of what is read."""

import json
from collections import Counter
from uuid import UUID

import polars as pl
from tests.support.journal import EVENTS_TOPIC_ID, cell
from tests.unit.cli.audit.readers import FakeTables, begun, block, texts

from meterstream.cli.audit.block import Block, charged
from meterstream.cli.audit.charges import ChargeCheck
from meterstream.cli.audit.dead_letters import Letter, Refusals, check_dead_letters, parse_letter
from meterstream.cli.audit.feed import CELLS, HISTORY, Feed
from meterstream.cli.audit.findings import SHOWN, Finding, Findings
from meterstream.cli.audit.journal_log import client_settings
from meterstream.cli.audit.ledger import check_ledger, check_ranges, expected_rows
from meterstream.cli.audit.patience import Patience
from meterstream.schemas.journal import Section
from meterstream.schemas.verdicts import Verdict


def patience(timeout_s: float = 1.0) -> Patience:
    """Return patience that does not sleep."""
    return Patience(timeout_s, clock=lambda: 0.0, sleep=lambda _: None)


def test_patience_ends() -> None:
    """The budget is what was given, and the last pause is not longer than what is left."""
    slept: list[float] = []
    said: list[str] = []
    waiting = Patience(0.6, said.append, clock=lambda: sum(slept), sleep=slept.append)
    assert [waiting.wait("the sink") for _ in range(4)] == [True, True, True, False]
    assert abs(sum(slept) - 0.6) < 1e-9
    assert said[0] == "the sink (1 s left)"


def test_findings_are_all_counted_and_some_are_kept() -> None:
    """However many there are, the first of each check and partition keep their places."""
    findings = Findings()
    for number in range(SHOWN + 5):
        findings.add(Finding("ledger", "ledger", number % 2, f"events {number}", "missing"))
    assert (findings.total, len(findings.kept)) == (SHOWN + 5, SHOWN + 5)
    for number in range(SHOWN * 2):
        findings.add(Finding("charges", "charges", 0, f"offset {number}", "missing"))
    assert findings.differences["charges"] == SHOWN * 2
    assert sum(one.check == "charges" for one in findings.kept) == SHOWN


def test_a_feed_is_waited_for() -> None:
    """A feed that comes is waited for; one that does not is named once, with what it lacks."""
    findings = Findings()
    tables = FakeTables({CELLS: [(1, 3), (1, 5), (1, 9)]})
    assert Feed(CELLS, 0, tables, patience(), findings).reach(1, 8)
    slow = Feed(CELLS, 0, FakeTables({CELLS: [(1, 3)]}), patience(), findings)
    assert not slow.reach(1, 8)
    assert not slow.reach(1, 9)
    (text,) = texts(findings.kept)
    assert "the sink lags: it is 6 journal records behind after 1 s" in text
    old = Feed(CELLS, 0, FakeTables({CELLS: [(1, 90), (2, 3)]}), patience(), findings)
    assert old.reach(2, 2)  # in a journal that was made again
    assert Feed(CELLS, 0, FakeTables({CELLS: [(2, 3)]}), patience(), findings).reach(1, 80)
    off = Feed(HISTORY, 0, FakeTables(), patience(), findings)
    assert not off.reach(1, 1)
    assert findings.notes == [
        "runs: not compared, the history feed is off, or has stored nothing yet"
    ]


def test_the_ledger_is_the_records() -> None:
    """Each record but an idle one has its row, by class and reason; a missing one is named."""
    writer, genesis = begun()
    verdicts = [Verdict.COUNTED, Verdict.EMPTY, Verdict.NOT_JSON, Verdict.EMPTY, Verdict.DUPLICATE]
    step = writer.record(verdicts=verdicts, clock_us=7)
    made = block(genesis, step, writer.idle(9))
    expected = expected_rows(made)
    assert expected["kind"].to_list() == ["genesis", "step"]
    row = expected.row(1, named=True)
    assert (row["counted"], row["rejected"], row["duplicate"], row["gap"]) == (1, 3, 1, 0)
    assert row["rejected_reasons"] == "empty=2 not_json=1"
    findings = Findings()
    check_ledger(made, -1, FakeTables(ledger_rows=expected), findings)
    assert not findings.total
    check_ledger(made, -1, FakeTables(ledger_rows=expected.head(1)), findings)
    assert texts(findings.kept) == [
        "ledger, partition 0, events 0 to 5 (journal offset 1): the range is missing"
    ]


def test_ranges_without_a_journal_must_join() -> None:
    """Holes, overlaps and a missing end are named."""
    writer, genesis = begun()
    steps = [writer.record(verdicts=[Verdict.GAP] * 3) for _ in range(4)]
    whole = expected_rows(block(genesis, *steps))
    assert not list(check_ranges(whole, 0, 12, 0))
    hole = whole.filter(pl.col("events_from") != 3)
    assert [one.at for one in check_ranges(hole, 0, 12, 0)] == ["events 3 to 6"]
    moved = whole.with_columns(
        pl.when(pl.col("events_from") == 6).then(5).otherwise("events_from").alias("events_from")
    )
    assert "more than one" in texts(check_ranges(moved, 0, 12, 0))[0]
    assert [one.at for one in check_ranges(whole, 0, 20, 0)] == ["events 12 to 20"]


def test_charges_are_found_wherever_they_stand() -> None:
    """A row of another time or offset that claims a record of the scope is extra."""
    writer, genesis = begun()
    charge = {"event_offset": 0, "event_time": 5, "card": "a@1", "credits_micro": 1, "run_micro": 1}
    step = writer.step([cell(0, credits_micro=1)], charges=[charge])
    made = block(genesis, step)
    right = charged(made).rows
    assert not _charge_findings(made, right)
    assert _charge_findings(made, right.clear()) == ["the row is missing"]
    dearer = right.with_columns(credits_micro=pl.lit(2, pl.Int64))
    assert _charge_findings(made, dearer) == ["credits_micro is 2, the journal says 1"]
    twice = pl.concat([right, right.with_columns(event_time=pl.lit(99, pl.Int64))])
    assert _charge_findings(made, twice) == ["the row does not follow from the journal"]
    beyond = pl.concat([right, right.with_columns(event_offset=pl.lit(99, pl.Int64))])
    assert _charge_findings(made, beyond) == ["the row does not follow from the journal"]
    later = beyond.with_columns(
        journal_offset=pl.when(pl.col("event_offset") == 99).then(50).otherwise("journal_offset")
    )
    assert not _charge_findings(made, later.with_columns(pl.col("journal_offset").cast(pl.Int64)))


def _charge_findings(made: Block, found: pl.DataFrame) -> list[str]:
    findings, tables = Findings(), FakeTables(charge_rows=found)
    check = ChargeCheck("charges", made.segment, -1)
    check.block(made, charged(made), tables, findings)
    check.finish(tables, -1, int(made.offsets[-1]), findings)
    return [finding.text for finding in findings.kept]


class Queue:
    """A dead-letter topic in memory, from which something may have been removed."""

    def __init__(self, *parts: list[Letter], first_us: int | None = None) -> None:
        self._parts = list(parts)
        self._first_us = first_us

    def read(self) -> list[Letter]:
        return self._parts.pop(0) if self._parts else []

    def first_time_us(self) -> int | None:
        return self._first_us


def refused() -> tuple[Refusals, Letter, Letter]:
    """Return what a record refused: an event and a catalog entry."""
    writer, genesis = begun(partition=3)
    rejects = [["events", 1, int(Verdict.EMPTY), ""], ["catalog", 9, 50, ""]]
    step = writer.record(
        verdicts=[Verdict.DUPLICATE, Verdict.EMPTY],
        sections={Section.REJECTS: json.dumps(rejects).encode()},
        timestamp_us=1000,
    )
    refusals = Refusals("p.")
    refusals.add(block(genesis, step))
    refusals.covers(EVENTS_TOPIC_ID, 3, range(2))
    return (
        refusals,
        Letter("p.events", str(EVENTS_TOPIC_ID), 3, 1),
        Letter("p.catalog", "", 0, 9),
    )


def test_dead_letters_are_there_once() -> None:
    """Letters that come late are waited for; none may be missing, twice there, or too much."""
    refusals, event, entry = refused()
    findings = Findings()
    check_dead_letters(refusals, Queue([event], [entry]), "dlq", patience(), findings)
    assert not findings.total
    strange = event._replace(offset=0)
    check_dead_letters(refusals, Queue([event, event, strange]), "dlq", patience(), findings)
    assert Counter(finding.text for finding in findings.kept) == {
        "its dead letter is missing": 1,
        "2 dead letters for one refusal": 1,
        "a dead letter of an offset that is not refused": 1,
    }
    findings = Findings()
    check_dead_letters(refusals, Queue(first_us=5000), "dlq", patience(), findings)
    assert not findings.total
    assert findings.notes == ["dlq: 2 dead letters are older than what it still holds"]


def test_headers_name_the_letter() -> None:
    """A letter is known by topic, topic id, partition and offset; without them by nothing."""
    topic_id = str(UUID(int=7))
    headers = {
        "topic": b"events", "topic_id": topic_id.encode(), "partition": b"2", "offset": b"31",
    }  # fmt: skip
    assert parse_letter(headers) == Letter("events", topic_id, 2, 31)
    assert parse_letter({"topic": b"events", "partition": b"x", "offset": b"1"}) is None
    assert parse_letter({}) is None


def test_security_settings_are_kept() -> None:
    """The journal's client takes the same address and credentials as all others."""
    assert client_settings({"bootstrap.servers": "a:1"}) == {
        "bootstrap_servers": "a:1",
        "security_protocol": "PLAINTEXT",
    }
    sasl = client_settings(
        {
            "bootstrap.servers": "a:1",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "u",
            "sasl.password": "p",
        }
    )
    assert sasl["sasl_plain_username"] == "u"
    assert "ssl_context" in sasl
