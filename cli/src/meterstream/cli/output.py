"""What commands print: results on stdout, as a table or as JSON; progress and notes on stderr."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

REDRAW_EVERY_S: Final = 0.2
SHOW_AFTER_S: Final = 1.0
LINE_EVERY_S: Final = 5.0
LOG_WIDTH: Final = 160
TEXT_WIDTH: Final = 40
"""Where there is little room, longer texts are folded. Names of users may have 128 characters."""
UNLIMITED_WIDTH: Final = 10_000


def note(text: str) -> None:
    """Tell the user something beside the result, on stderr."""
    click.echo(text, err=True)


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    title: str | None = None,
    left: int = 1,
) -> None:
    """Print rows as a table: drawn on a terminal or under a title, else in tab-separated lines.

    The first `left` columns are texts; further ones are aligned right where they hold numbers.
    """
    if not sys.stdout.isatty() and title is None:
        for row in (columns, *rows):
            click.echo("\t".join(_text(cell) for cell in row))
        return
    # A log file has no width of its own, and what is cut off there is gone.
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    table = draw_table(columns, rows, console, title=title, left=left)
    # Nor may a narrow terminal cut a number: its lines then go on in the next one.
    console.width = max(console.width, _measured(table, console).minimum)
    console.print(table)


def draw_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    console: Console,
    *,
    title: str | None = None,
    left: int = 1,
) -> Table:
    """Return rows as a table for a console; where it is too wide, headings and texts are folded."""
    numeric = [
        at >= left and all(_text(row[at])[-1:].isdigit() or row[at] in {None, "-"} for row in rows)
        for at in range(len(columns))
    ]
    for broken in (False, True):
        table = Table(
            title=title,
            title_justify="left",
            header_style="bold",
            box=SIMPLE_HEAD,
            collapse_padding=True,
            pad_edge=False,
        )
        for name, right in zip(columns, numeric, strict=True):
            heading = name.replace(" ", "\n") if broken and right else name
            justify: JustifyMethod = "right" if right else "left"
            most = TEXT_WIDTH if broken and not right else None
            table.add_column(
                heading, justify=justify, no_wrap=right, overflow="fold", max_width=most
            )
        for row in rows:
            table.add_row(*(escape(_grouped(cell)) for cell in row))
        if _measured(table, console).maximum <= console.width:
            break
    return table


def _measured(table: Table, console: Console) -> Measurement:
    """Return how wide a table must be at least, and how wide it would be, on any terminal."""
    return Measurement.get(console, console.options.update(width=UNLIMITED_WIDTH), table)


def counts_line(counts: Mapping[str, int]) -> str:
    """Return counts in one line: `runs 1,000, input tokens 5,000`."""
    return ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in counts.items())


class Progress:
    """A line on stderr that shows how far some work is, once it takes longer than a second.

    On a terminal the line is redrawn; elsewhere one is written every few seconds.
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._started = time.monotonic()
        self._shown = 0.0
        self._drawn = False
        self._terminal = sys.stderr.isatty()

    def update(self, done: int, extra: str = "") -> None:
        """Show the count, if it is time to."""
        now = time.monotonic()
        every = REDRAW_EVERY_S if self._terminal else LINE_EVERY_S
        if now - self._started < SHOW_AFTER_S or now - self._shown < every:
            return
        self._shown = now
        rate = done / (now - self._started)
        share = f" ({done * 100 // self._total} %)" if self._total else ""
        text = f"{self._what}: {done:,}{share}, {rate:,.0f}/s{extra}"
        if self._terminal:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
            self._drawn = True
        else:
            note(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn:
            click.echo("\r\x1b[K", nl=False, err=True)


def _text(cell: object) -> str:
    return "" if cell is None else str(cell).replace("\t", " ").replace("\n", " ")


def _grouped(cell: object) -> str:
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return _text(cell)
