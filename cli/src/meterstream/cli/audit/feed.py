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
        self._place = (0, 0)
        """Generation and next offset."""
        self.reached = True
        """Whether it was where it had to be each time."""

    def reach(self, generation: int, journal_offset: int) -> bool:
        """Wait until this record of a generation is stored; report it once if it is not.

        A journal that was made again has low offsets in a later generation.
        """
        while self.reached and self._place <= (generation, journal_offset):
            found = self._tables.position(self._name, self._partition)
            if found is None and self._name == HISTORY:
                self._findings.note(
                    "runs: not compared, the history feed is off, or has stored nothing yet"
                )
                self.reached = False
                return False
            self._place = found or (0, 0)
            at, position = self._place
            if at < generation and position > journal_offset:
                position = 0  # of the journal before
            behind = 0 if at > generation else journal_offset + 1 - position
            stage = f"partition {self._partition}: the {_STAGES[self._name]} is"
            if behind > 0 and not self._patience.wait(f"{stage} {behind:,} journal records behind"):
                self.reached = False
                self._findings.add(
                    Finding(
                        self._name,
                        "positions",
                        self._partition,
                        f"journal offset {self._place[1]}",
                        f"the {_STAGES[self._name]} lags: it is {behind:,} journal records behind"
                        f" after {self._patience.timeout_s:.0f} s",
                    )
                )
        return self.reached
