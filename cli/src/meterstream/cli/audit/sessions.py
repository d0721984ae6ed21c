"""Sessions: their last state."""

from typing import Final

import polars as pl

from meterstream.schemas.journal import Section
from meterstream.schemas.rows import SESSION

from .block import Block
from .compare import GROUP, compare, grouped, last_of_each
from .findings import SHOWN, Finding, Findings

KEY: Final = ["team_id", "session_id"]
VALUES: Final = [*(c.name for c in SESSION if c.name not in KEY), "journal_offset"]


class Sessions:
    """The sessions of one partition as the chain has them, over all its generations."""

    def __init__(self) -> None:
        self._as_of: pl.DataFrame | None = None
        self._newer: list[pl.DataFrame] = []

    def add(self, block: Block, *, newer: bool) -> None:
        """Take in the sessions of a block, of which only the last state counts.

        Those of `newer` blocks, beyond what is in scope, are kept in all their states.
        """
        frame = block.frames[Section.SESSIONS]
        if not len(frame):
            return
        offsets = block.journal_offset(frame)
        rows = frame.with_columns(offsets, pl.Series("order", range(len(frame)))).select(
            *KEY, *VALUES, "order"
        )
        if newer:
            self._newer.append(rows.drop("order"))
            return
        rows = last_of_each(grouped(rows, KEY, "order")).drop("order", GROUP)
        if self._as_of is not None:
            rows = pl.concat([self._as_of.join(rows, on=KEY, how="anti"), rows])
        self._as_of = rows

    def check(self, partition: int, found: pl.DataFrame, first: int, findings: Findings) -> None:
        """Compare with the rows of ClickHouse, of which those from before `first` are left out."""
        found = found.filter(pl.col("journal_offset") >= first)
        must = self._as_of
        if must is None:
            must = found.select(*KEY, *VALUES).clear()
        if self._newer:
            newer = pl.concat(self._newer)
            rewritten = newer.join(found, on=[*KEY, "journal_offset"], how="semi")
            rewritten = rewritten.unique([*KEY, "journal_offset"], keep="last")
            must = pl.concat([must.join(rewritten, on=KEY, how="anti"), rewritten])
        findings.compared["sessions"] += len(must)
        difference = compare(must, found, KEY, VALUES, limit=SHOWN)
        for row in difference.rows:
            at = f"team_id={row.key['team_id']} session_id={row.key['session_id']}"
            findings.add(Finding("sessions", "sessions", partition, at, str(row)))
        findings.more("sessions", difference.count - len(difference.rows))
