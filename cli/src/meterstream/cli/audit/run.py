"""The whole audit: fixes the offsets it speaks of, then goes through the partitions."""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from meterstream.cli.errors import BadInput
from meterstream.schemas.journal import Header, Kind, Link, MalformedRecord
from meterstream.schemas.topics import DLQ, EVENTS, JOURNAL
from meterstream.schemas.verdicts import LEDGER_CLASSES, Verdict, is_rejected, ledger_class

from .dead_letters import Refusals, check_dead_letters
from .findings import Finding, Findings
from .follow import Raw
from .journal_log import JournalLog
from .kafka import Broker, DeadLetterLog
from .partition import PartitionAudit, Place, Totals
from .patience import Patience
from .tables import Tables

FLUSH_PAUSES: Final = 20
USAGE_TABLES: Final = ("usage_minutes", "usage_quarters", "usage_days", "charges")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an audit is asked to do."""

    prefix: str
    timeout_s: float
    with_dlq: bool = True
    partitions: tuple[int, ...] = ()
    """Which ones; all if empty."""


@dataclass
class Outcome:
    """What the audit found, by partition and in all."""

    partitions: dict[int, Totals] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)

    @property
    def difference(self) -> int:
        """The sum of the partitions' differences."""
        return sum(totals.difference for totals in self.partitions.values())

    @property
    def holds(self) -> bool:
        """Whether everything that was compared is as it must be."""
        return not self.findings.total and not self.difference

    @property
    def reasons(self) -> dict[str, int]:
        """Rejected offsets by reason, the most frequent first."""
        totals = Counter[str]()
        for each in self.partitions.values():
            totals.update(each.verdicts)
        rejected = {v.name.lower() for v in Verdict if is_rejected(v)}
        return {name: count for name, count in totals.most_common() if name in rejected}


def classes(totals: Totals) -> dict[str, int]:
    """Return a partition's offsets by class of the ledger."""
    counts = dict.fromkeys(LEDGER_CLASSES, 0)
    for name, count in totals.verdicts.items():
        counts[ledger_class(Verdict[name.upper()])] += count
    return counts


def run_audit(
    broker: Broker, tables: Tables, settings: Settings, tell: Callable[[str], None]
) -> Outcome:
    """Audit the pipeline as of now.

    Raises Unreachable if Kafka does not answer, the driver's errors if ClickHouse does not.
    """
    outcome = Outcome()
    findings = outcome.findings
    patience = Patience(settings.timeout_s, tell)
    # 1. Fix the ends first: what arrives from now on is out of scope.
    places = _places(broker, settings)
    refusals = Refusals(settings.prefix)
    # 2. Each partition: its chain, then what ClickHouse makes of it.
    with tempfile.TemporaryDirectory(prefix="meterstream-audit-") as scratch:
        for place in places:
            tell(f"partition {place.partition}")
            audit = PartitionAudit(place, tables, patience, refusals, findings, Path(scratch))
            link = _start(broker, place, tables, findings)
            with closing(
                JournalLog(broker, place.topic, place.partition, place.journal.start)
            ) as log:
                audit.run(log, link)
            outcome.partitions[place.partition] = audit.totals
    # 3. What belongs to no partition that was audited.
    _check_strangers(tables, patience, findings)
    if settings.with_dlq:
        _check_dlq(broker, f"{settings.prefix}{DLQ}", refusals, patience, findings)
    else:
        findings.note("dlq: not compared, as asked")
    return outcome


def _places(broker: Broker, settings: Settings) -> list[Place]:
    events, journal = f"{settings.prefix}{EVENTS}", f"{settings.prefix}{JOURNAL}"
    events_id, count = broker.topic(events)
    _, journal_count = broker.topic(journal)
    if journal_count != count:
        raise BadInput(
            f"{journal} has {journal_count} partitions, {events} has {count}: they must be equal;"
            " `meterstream topics --check` says what to do"
        )
    wrong = [number for number in settings.partitions if number >= count]
    if wrong:
        raise BadInput(f"there is no partition {wrong[0]}: {events} has {count}, from 0 on")
    ends = zip(broker.bounds(events, count), broker.bounds(journal, count), strict=True)
    return [
        Place(number, of_events, of_journal, events_id, journal)
        for number, (of_events, of_journal) in enumerate(ends)
        if not settings.partitions or number in settings.partitions
    ]


def _start(broker: Broker, place: Place, tables: Tables, findings: Findings) -> Link | None:
    """Return the link to start at: none at a genesis, else the oldest that ClickHouse confirms."""
    bounds = place.journal
    if bounds.start == 0 or _begins_with_genesis(broker, place):
        return None
    link = tables.oldest_link(place.partition, bounds.start)
    if link is None:
        findings.add(
            Finding(
                "chain",
                place.topic,
                place.partition,
                f"offset {bounds.start}",
                "retention removed the chain's beginning, and no row of the ledger in ClickHouse"
                " confirms a record that is still there",
            )
        )
    else:
        findings.note(
            f"partition {place.partition}: retention removed the journal's beginning; the audit"
            f" starts at journal offset {link.next_offset}, event offset {link.events_position},"
            " which the ledger in ClickHouse confirms"
        )
    return link


def _begins_with_genesis(broker: Broker, place: Place) -> bool:
    with closing(JournalLog(broker, place.topic, place.partition, place.journal.start)) as log:
        first = log.next()
    if not isinstance(first, Raw) or first.header is None:
        return True  # whatever it is, the chain will say so
    try:
        return Header.unpack(first.header).kind is Kind.GENESIS
    except MalformedRecord:
        return True


def _check_strangers(tables: Tables, patience: Patience, findings: Findings) -> None:
    """Report rows whose topic id, generation and partition no record of the ledger knows."""
    for table in USAGE_TABLES:
        found = tables.strangers(table)
        # The first flush of a generation stores its rows before the ledger.
        for _ in range(FLUSH_PAUSES):
            if found.is_empty() or not patience.wait(f"{table}: the ledger of a new generation"):
                break
            found = tables.strangers(table)
        for row in found.iter_rows(named=True):
            findings.add(
                Finding(
                    table,
                    table,
                    row["partition"],
                    f"events topic {row['topic']}, generation {row['generation']}",
                    f"{row['rows']:,} rows do not follow from any journal",
                )
            )
    refused = tables.refused_rows()
    if refused:
        findings.note(f"quarantine: {refused:,} rows that ClickHouse refused wait to be mended")


def _check_dlq(
    broker: Broker, topic: str, refusals: Refusals, patience: Patience, findings: Findings
) -> None:
    _, count = broker.topic(topic)
    with closing(DeadLetterLog(broker, topic, broker.bounds(topic, count))) as dead:
        check_dead_letters(refusals, dead, topic, patience, findings)
        if dead.nameless:
            findings.note(f"{topic}: {dead.nameless:,} records do not say what was refused")


def columns() -> Sequence[str]:
    """Return the columns of the table by partition."""
    return ("partition", "offered", *LEDGER_CLASSES, "difference")
