"""Says on stderr what the audit is doing, once it takes longer than a second."""

import sys
import time
from types import TracebackType
from typing import Self

import click

from meterstream.cli.output import LINE_EVERY_S, REDRAW_EVERY_S, SHOW_AFTER_S


class Telling:
    """A line that is redrawn on a terminal, and written every few seconds elsewhere."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown = 0.0
        self._terminal = sys.stderr.isatty()
        self._drawn = False

    def __call__(self, text: str) -> None:
        """Show what is going on, if it is time to."""
        now = time.monotonic()
        every = REDRAW_EVERY_S if self._terminal else LINE_EVERY_S
        if now - self._started < SHOW_AFTER_S or now - self._shown < every:
            return
        self._shown = now
        if self._terminal:
            click.echo(f"\r\x1b[Kaudit: {text}", nl=False, err=True)
            self._drawn = True
        else:
            click.echo(f"audit: {text}", err=True)

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
