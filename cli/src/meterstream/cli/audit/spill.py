"""Rows by window, kept on disk while a journal is read, so that memory stays bounded."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

HELD_ROWS: Final = 200_000
"""Rows that are held in memory before they are written."""
RANGE_ROWS: Final = 300_000
"""Rows that are compared at a time, unless one window alone has more."""


class Spill:
    """Rows with a `window_start` (seconds), found again by their window of `width_s` seconds."""

    def __init__(self, directory: Path, width_s: int) -> None:
        self._directory = directory
        self._width_s = width_s
        self._held: list[pl.DataFrame] = []
        self._held_rows = 0
        self._files: dict[int, list[Path]] = {}
        self._written = 0
        self.rows: Counter[int] = Counter()
        """By start of the window."""

    def add(self, frame: pl.DataFrame) -> None:
        """Keep rows. All frames have the same columns."""
        if not len(frame):
            return
        self._held.append(frame)
        self._held_rows += len(frame)
        if self._held_rows >= HELD_ROWS:
            self._write()

    def load(self, from_s: int, until_s: int) -> pl.DataFrame | None:
        """Return the rows of the windows that start in [from_s, until_s); None without any."""
        self._write()
        windows = sorted(start for start in self._files if from_s <= start < until_s)
        parts = [pl.read_ipc(file) for at in windows for file in self._files[at]]
        return pl.concat(parts) if parts else None

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield [from_s, until_s) of neighbouring windows, about RANGE_ROWS rows each."""
        self._write()
        first, rows = None, 0
        for start in sorted(self.rows):
            if first is not None and rows + self.rows[start] > RANGE_ROWS:
                yield first, start
                first, rows = None, 0
            first = start if first is None else first
            rows += self.rows[start]
        if first is not None:
            yield first, max(self.rows) + self._width_s

    def _write(self) -> None:
        if not self._held:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        start = pl.col("window_start").floordiv(self._width_s) * self._width_s
        frame = pl.concat(self._held).with_columns(start.alias("spill_start"))
        for (at,), part in frame.partition_by(
            "spill_start", as_dict=True, include_key=False
        ).items():
            file = self._directory / f"{at}-{self._written}.arrow"
            part.write_ipc(file, compression="lz4")
            self._files.setdefault(int(at), []).append(file)
            self.rows[int(at)] += len(part)
            self._written += 1
        self._held, self._held_rows = [], 0
