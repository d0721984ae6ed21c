"""What an audit finds: differences with their places, and how much was compared."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

SHOWN: Final = 20
"""Differences of one check and partition that are kept with their places; all are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference, and where it is."""

    check: str
    place: str
    """The topic or table."""
    partition: int
    at: str
    """The offset, range or key."""
    text: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.place}, partition {self.partition}, {self.at}: {self.text}"


@dataclass
class Findings:
    """Collects what is compared and what differs."""

    kept: list[Finding] = field(default_factory=list)
    differences: Counter[str] = field(default_factory=Counter)
    """By check."""
    compared: Counter[str] = field(default_factory=Counter)
    """Records or rows by check."""
    notes: list[str] = field(default_factory=list)
    """What could not be or was not asked to be proved, and things worth knowing."""
    _shown: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        """Count a difference, and keep it if there are not many like it yet."""
        self.differences[finding.check] += 1
        key = (finding.check, finding.partition)
        if self._shown[key] < SHOWN:
            self._shown[key] += 1
            self.kept.append(finding)

    def add_all(self, findings: Iterator[Finding] | list[Finding]) -> None:
        """Count differences."""
        for finding in findings:
            self.add(finding)

    def more(self, check: str, times: int) -> None:
        """Count differences that are not named."""
        self.differences[check] += times

    def note(self, text: str) -> None:
        """Keep a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def total(self) -> int:
        """All differences."""
        return self.differences.total()
