"""What must hold within a record: each check names the record that breaks it, and no other."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.journal import arrow, cell
from tests.unit.cli.audit.readers import begun, block, valid

from meterstream.cli.audit.block import blocks, charged, open_record
from meterstream.cli.audit.findings import Findings
from meterstream.cli.audit.usage import Usage
from meterstream.cli.audit.verify import CHECKS, check_cell_numbers
from meterstream.schemas import rows
from meterstream.schemas.journal import Kind, MalformedRecord, Section
from meterstream.schemas.verdicts import Verdict
from meterstream.sinks.record import JournalRecord

COUNTED = Verdict.COUNTED


def record(
    verdicts: Sequence[Verdict],
    *,
    cells: Sequence[dict[str, object]] = (),
    late: Sequence[dict[str, object]] = (),
    charges: Sequence[dict[str, object]] = (),
    rejects: Sequence[Sequence[object]] = (),
    ids: int | None = None,
    coarse: Sequence[dict[str, object]] | None = None,
    corrections: Sequence[dict[str, object]] = (),
    draws: Sequence[dict[str, object]] = (),
    accounts: Sequence[dict[str, object]] = (),
) -> list[JournalRecord]:
    """Return a genesis record and a step with these sections; ids fit the verdicts if not told."""
    writer, genesis = begun()
    counted = sum(verdict is COUNTED for verdict in verdicts)
    sections = {Section.IDS: bytes(24 * (counted if ids is None else ids))}
    if cells:
        sections[Section.CELLS] = arrow(rows.CELL, cells)
    if late:
        sections[Section.LATE_MINUTES] = arrow(rows.CELL, late)
        sections[Section.LATE_QUARTERS] = arrow(rows.CELL, late if coarse is None else coarse)
        sections[Section.LATE_DAYS] = arrow(rows.CELL, late)
    if charges:
        sections[Section.CHARGES] = arrow(rows.CHARGE, charges)
    for section, columns, given in (
        (Section.CORRECTIONS, rows.CORRECTION, corrections),
        (Section.DRAWS, rows.DRAW, draws),
        (Section.ACCOUNTS, rows.ACCOUNT, accounts),
    ):
        if given:
            sections[section] = arrow(columns, given)
    if rejects:
        sections[Section.REJECTS] = json.dumps(rejects).encode()
    return [genesis, writer.record(verdicts=verdicts, sections=sections)]


def wrong(records: list[JournalRecord]) -> list[str]:
    """Return what the checks say of the records; all must be said of the step."""
    made = block(*records)
    found = [found for check in (*CHECKS, check_cell_numbers) for found in check(made)]
    assert {offset for offset, _ in found} <= {1}
    return [text for _, text in found]


def charge(offset: int, **values: object) -> dict[str, object]:
    """Return a charge of 3 micro-credits for a run of the minute 0, on time."""
    return {"event_offset": offset, "credits_micro": 3, "run_micro": 3, "card": "a@1", **values}


def test_a_sound_record_passes() -> None:
    """Counted, rejected and late events, each in its section, break no rule."""
    assert not wrong(
        record(
            [COUNTED, Verdict.NOT_JSON, COUNTED],
            cells=[cell(0)],
            late=[cell(0)],
            charges=[charge(0), charge(2, cell=1)],
            rejects=[["events", 1, int(Verdict.NOT_JSON), "detail"], ["control", 5, 50, "detail"]],
        )
    )


def paid(*amounts: tuple[int, int], **account: int) -> list[JournalRecord]:
    """Return a record with a charge of 3, a correction of -1 and draws of (charge, amount)."""
    return record(
        [COUNTED],
        cells=[cell(0)],
        late=[cell(0, runs=0, credits_micro=-1)],
        charges=[charge(0)],
        corrections=[{"cell": 1, "credits_micro": -1}],
        draws=[{"charge": number, "amount_micro": amount} for number, amount in amounts],
        accounts=[{f"{name}_micro": amount for name, amount in account.items()}],
    )


def test_sound_accounts_pass() -> None:
    """Draws of several grants make a charge; what pays an overdraft is of no charge."""
    sound = {"granted": 9, "overdrawn": 1, "drawn": 2, "expired": 1, "rolled_over": 3}
    draws = (0, 1), (0, 2), (1, -1), (-1, 5), (-1, -5)
    assert not wrong(paid(*draws, **sound, left=4, balance=3))


@pytest.mark.parametrize(
    ("records", "text"),
    [
        (paid((0, 2)), "1 draws do not add up to the credits of their charges"),
        (paid((1, 1)), "1 draws do not add up"),
        (paid((2, 1)), "1 draws are of charges that the record has not"),
        (paid((-2, 1)), "1 draws are of charges that the record has not"),
        (paid(granted=1), "1 accounts do not add up"),
        (paid(granted=1, left=1), "1 accounts have another balance"),
        (record([], corrections=[{"cell": 0}]), "corrections point to a cell"),
        (record([COUNTED], cells=[cell(0)], charges=[charge(1)]), "outside the record's events"),
        (record([COUNTED] * 2, cells=[cell(0)], charges=[charge(1), charge(0)]), "do not ascend"),
        (record([COUNTED] * 2, cells=[cell(0)], charges=[charge(0), charge(0)]), "do not ascend"),
        (
            record([COUNTED, Verdict.DUPLICATE], cells=[cell(0)], charges=[charge(1)]),
            "were not counted",
        ),
        (record([COUNTED], cells=[cell(0)], charges=[charge(0, run_micro=2)]), "sum of their"),
        (record([COUNTED], cells=[cell(0)], charges=[charge(0, cell=1)]), "cell that the record"),
        (record([COUNTED], cells=[cell(0)], charges=[charge(0, cell=-1)]), "cell that the record"),
        (record([Verdict.EMPTY]), "event offset 0 is empty, and REJECTS does not say so"),
        (
            record([COUNTED], rejects=[["events", 0, int(Verdict.EMPTY), ""]]),
            "REJECTS says empty of event offset 0",
        ),
        (record([COUNTED], ids=2), "1 events are counted, and 2 identities are new"),
        (record([COUNTED], cells=[cell(0), cell(0)]), "cells stand more than once"),
        (record([COUNTED], cells=[cell(1_000_000)]), "cells do not start at a whole window"),
        (
            record([COUNTED], late=[cell(0)], coarse=[cell(0, runs=2)]),
            "late_quarters do not add up",
        ),
    ],
)
def test_each_broken_rule_is_named(records: list[JournalRecord], text: str) -> None:
    """One thing that is wrong with a record is said once or more, and is what was broken."""
    found = wrong(records)
    assert found
    assert any(text in one for one in found), found


@pytest.mark.parametrize(
    ("sections", "verdicts", "text"),
    [
        ({Section.CELLS: b"no arrow"}, (), "an Arrow section cannot be read"),
        ({Section.CELLS: arrow(rows.CHARGE, [])}, (), "other columns"),
        ({Section.REJECTS: b"{"}, (), "REJECTS is not"),
        ({Section.REJECTS: b"[[1]]"}, (), "REJECTS is not"),
        ({Section.CATALOG: b'[["a", 1, "{}"]]'}, (), "entries"),
        ({Section.IDS: b"short"}, (), "5 bytes of ids"),
        ({Section.VERDICTS: b"\x01\x01"}, (), "2 verdicts for the offsets 0 to 0"),
        ({}, (99,), "verdict 99 is unknown here"),
    ],
)
def test_a_record_that_cannot_be_decoded(
    sections: dict[Section, bytes], verdicts: tuple[int, ...], text: str
) -> None:
    """A section that is not what it must be stops the reader, and is reported with its offset."""
    writer, _ = begun()
    broken = writer.record(Kind.STEP, verdicts=verdicts, sections=sections)  # type: ignore[arg-type]
    with pytest.raises(MalformedRecord, match=text):
        open_record(valid(broken))
    told: list[tuple[int, str]] = []
    made = list(blocks([valid(broken)], lambda offset, reason: told.append((offset, reason))))
    assert not made
    assert told[0][0] == 1
    assert text in told[0][1]


def test_charges_carry_their_cells() -> None:
    """A charge has the key of its cell; a late one names its record."""
    records = record(
        [COUNTED] * 2,
        cells=[cell(0, team_id="red")],
        late=[cell(60_000_000, team_id="blue")],
        charges=[charge(0), charge(1, cell=1)],
    )
    found = charged(block(*records)).rows
    assert found.select("event_offset", "team_id", "window_start", "late").rows() == [
        (0, "red", 0, -1),
        (1, "blue", 60, 1),
    ]


def test_corrections_explain_late_rows(tmp_path: Path) -> None:
    """What a void takes back is in no charge, and yet no difference."""
    taken: dict[str, object] = {"runs": -1, "credits_micro": -3, "cell": 0}
    made = block(*record([], late=[cell(0, runs=-1, credits_micro=-3)], corrections=[taken]))
    findings = Findings()
    Usage(made.segment, tmp_path, "journal").add(made, charged(made), findings)
    assert findings.kept == []


def test_late_rows_are_what_their_charges_say(tmp_path: Path) -> None:
    """A late cell whose charges make another sum is a finding at its journal offset."""
    made = block(*record([COUNTED], late=[cell(0, credits_micro=4)], charges=[charge(0)]))
    findings = Findings()

    Usage(made.segment, tmp_path, "journal").add(made, charged(made), findings)
    (finding,) = findings.kept
    assert finding.at == "offset 1"
    assert "credits_micro by 4 where its charges make 3" in finding.text
