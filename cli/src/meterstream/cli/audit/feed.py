"""Waits until a feed of the sink has stored what the chain has decided."""

from typing import Final

from .findings import Finding, Findings
from .patience import Patience
from .tables import Tables

CELLS: Final = "cells"
HISTORY: Final = "history"
_STAGES: Final = {CELLS: "sink", HISTORY: "history sink"}


class Feed:
    """One feed of the sink in one partition, by its rows in `positions`."""

    def __init__(
        self, name: str, partition: int, tables: Tables, patience: Patience, findings: Findings
    ) -> None:
        self._name = name
        self._partition = partition
        self._tables = tables
        self._patience = patience
        self._findings = findings
        self._position = 0
        self.reached = True
        """Whether it was where it had to be each time."""

    def reach(self, journal_offset: int) -> bool:
        """Wait until the record at `journal_offset` is stored; report it once if it is not."""
        while self.reached and self._position <= journal_offset:
            found = self._tables.position(self._name, self._partition)
            if found is None and self._name == HISTORY:
                self._findings.note(
                    "runs: not compared, the history feed is off, or has stored nothing yet"
                )
                self.reached = False
                return False
            self._position = found or 0
            behind = journal_offset + 1 - self._position
            stage = f"partition {self._partition}: the {_STAGES[self._name]} is"
            if behind > 0 and not self._patience.wait(f"{stage} {behind:,} journal records behind"):
                self.reached = False
                self._findings.add(
                    Finding(
                        self._name,
                        "positions",
                        self._partition,
                        f"journal offset {self._position}",
                        f"the {_STAGES[self._name]} lags: it is {behind:,} journal records behind"
                        f" after {self._patience.timeout_s:.0f} s",
                    )
                )
        return self.reached
