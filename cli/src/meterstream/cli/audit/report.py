"""Prints an audit's outcome: as tables for a person, as one document with --json."""

from typing import Any, Final

import click

from meterstream.cli.output import print_json, print_table
from meterstream.schemas.verdicts import LEDGER_CLASSES

from .run import Outcome, classes, columns

CHECKS: Final = (
    ("chain", "journal records"),
    ("ledger", "ranges"),
    ("usage_minutes", "cells"),
    ("usage_quarters", "cells"),
    ("usage_days", "cells"),
    ("charges", "runs"),
    ("runs", "runs"),
    ("sessions", "sessions"),
    ("dlq", "dead letters"),
    ("cells", ""),
    ("history", ""),
)
"""Each check, and what it compares. The last two are the sink's feeds, shown where they lag."""


def show(outcome: Outcome) -> None:
    """Print the outcome as tables."""
    rows: list[list[Any]] = [
        [number, totals.offered, *classes(totals).values(), totals.difference]
        for number, totals in sorted(outcome.partitions.items())
    ]
    total = ["total", *(sum(row[at] for row in rows) for at in range(1, len(columns())))]
    print_table(columns(), [*rows, total])
    if outcome.reasons:
        click.echo()
        print_table(["rejected as", "events"], list(outcome.reasons.items()))
    click.echo()
    print_table(["compared", "of", "rows", "differences"], _checks(outcome))
    findings = outcome.findings
    for note in findings.notes:
        click.echo(f"note: {note}")
    for finding in findings.kept:
        click.echo(f"difference: {finding}")
    hidden = findings.total - len(findings.kept)
    if hidden > 0:
        click.echo(f"difference: and {hidden:,} more")
    click.echo(_verdict(outcome))


def show_json(outcome: Outcome) -> None:
    """Print the outcome as JSON."""
    findings = outcome.findings
    partitions = {
        str(number): {
            "events_from": totals.start,
            "events_to": totals.end,
            "journal_offset": totals.journal_offset,
            "journal_records": totals.records,
            "void_records": totals.void_records,
            "offered": totals.offered,
            **classes(totals),
            "difference": totals.difference,
        }
        for number, totals in sorted(outcome.partitions.items())
    }
    total = {
        name: sum(int(each[name]) for each in partitions.values())
        for name in ("offered", *LEDGER_CLASSES, "difference")
    }
    print_json(
        {
            "holds": outcome.holds,
            "partitions": partitions,
            "total": total,
            "rejected_reasons": outcome.reasons,
            "checks": {
                name: {"compared": compared, "differences": differences}
                for name, _, compared, differences in _checks(outcome)
            },
            "differences": [
                {
                    "check": each.check,
                    "place": each.place,
                    "partition": each.partition,
                    "at": each.at,
                    "text": each.text,
                }
                for each in findings.kept
            ],
            "differences_in_all": findings.total,
            "notes": findings.notes,
        }
    )


def _checks(outcome: Outcome) -> list[list[Any]]:
    findings = outcome.findings
    return [
        [name, what, findings.compared[name], findings.differences[name]]
        for name, what in CHECKS
        if what or findings.differences[name]
    ]


def _verdict(outcome: Outcome) -> str:
    offered = sum(totals.offered for totals in outcome.partitions.values())
    if outcome.holds:
        return f"audit: all {offered:,} offered offsets are accounted for, difference 0"
    return (
        f"audit: FAILED, {outcome.findings.total:,} found, {outcome.difference:,} of {offered:,}"
        " offered offsets are not accounted for; docs/audit.md says what to do"
    )
