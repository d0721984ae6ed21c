"""Dead letters: each offset that was refused has exactly one record in the dead-letter topic."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from meterstream.schemas.deadletters import OFFSET, PARTITION, TOPIC, TOPIC_ID
from meterstream.schemas.topics import CATALOG, EVENTS

from .block import Block
from .findings import Finding, Findings
from .patience import Patience

CHECK: Final = "dlq"


class Letter(NamedTuple):
    """What was refused: a record of one of our topics."""

    topic: str
    """Its full name."""
    topic_id: str
    """Of an events topic; empty for the others."""
    partition: int
    offset: int


class DeadLetters(Protocol):
    """The dead-letter topic, read committed, from its beginning."""

    def read(self) -> list[Letter]:
        """Return the letters that were not returned before, up to the end of the log for now."""
        ...

    def first_time_us(self) -> int | None:
        """Return the log time of the first record still there if others are gone, else None."""
        ...


@dataclass
class Refusals:
    """What the chain says must be in the dead-letter topic."""

    prefix: str
    times_us: dict[Letter, int] = field(default_factory=dict)
    """Log time of the journal record that refused it."""
    times: Counter[Letter] = field(default_factory=Counter)
    """How often: more than once where two generations decided one offset."""
    scopes: dict[tuple[str, int], range] = field(default_factory=dict)
    """By topic id and partition: the event offsets whose verdicts are all known."""

    def add(self, block: Block) -> None:
        """Take in what the records of a block refused."""
        topic_id = str(block.segment.events_topic_id)
        times = {one.offset: one.timestamp_us for one in block.records}
        for one in block.rejects:
            letter = Letter(
                f"{self.prefix}{one.topic}",
                topic_id if one.topic == EVENTS else "",
                0 if one.topic == CATALOG else block.segment.partition,
                one.offset,
            )
            self.times[letter] += 1
            self.times_us[letter] = times[one.journal_offset]

    def covers(self, topic_id: UUID, partition: int, offsets: range) -> None:
        """Note that all verdicts of these event offsets are known."""
        self.scopes[(str(topic_id), partition)] = offsets

    def excludes(self, letter: Letter) -> bool:
        """Tell whether the chain decided the letter's offset and did not refuse it."""
        offsets = self.scopes.get((letter.topic_id, letter.partition), range(0))
        return letter.offset in offsets and letter not in self.times


def check_dead_letters(
    refusals: Refusals, dead: DeadLetters, topic: str, patience: Patience, findings: Findings
) -> None:
    """Wait until all refusals are in the topic, then name what is missing there, or too much."""
    there = Counter(dead.read())
    missing = refusals.times.keys() - there.keys()
    while missing and patience.wait(f"the publisher is {len(missing):,} dead letters behind"):
        there.update(dead.read())
        missing = refusals.times.keys() - there.keys()
    missing -= _gone(missing, refusals, dead, topic, findings)
    findings.compared[CHECK] += len(refusals.times)
    for letter in sorted(missing):
        findings.add(_finding(topic, letter, "its dead letter is missing"))
    for letter, count in sorted(there.items()):
        if refusals.excludes(letter):
            findings.add(_finding(topic, letter, "a dead letter of an offset that is not refused"))
        elif count > refusals.times.get(letter, count):
            findings.add(_finding(topic, letter, f"{count} dead letters for one refusal"))


def _gone(
    missing: set[Letter], refusals: Refusals, dead: DeadLetters, topic: str, findings: Findings
) -> set[Letter]:
    """Return those that the topic no longer holds because it keeps letters for a time only."""
    begins_us = dead.first_time_us() if missing else None
    if begins_us is None:
        return set()
    gone = {letter for letter in missing if refusals.times_us[letter] < begins_us}
    if gone:
        findings.note(f"{topic}: {len(gone):,} dead letters are older than what it still holds")
    return gone


def parse_letter(headers: Mapping[str, object]) -> Letter | None:
    """Return which record a dead letter is of, by its headers; None if they do not say."""
    texts = {
        name: value.decode(errors="replace")
        for name, value in headers.items()
        if isinstance(value, bytes)
    }
    try:
        return Letter(
            texts[TOPIC], texts.get(TOPIC_ID, ""), int(texts[PARTITION]), int(texts[OFFSET])
        )
    except (KeyError, ValueError):
        return None


def _finding(topic: str, letter: Letter, text: str) -> Finding:
    at = f"offset {letter.offset} of {letter.topic}"
    return Finding(CHECK, topic, letter.partition, at, text)
