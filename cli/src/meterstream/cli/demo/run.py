"""The course of the demonstration."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import click

from meterstream.cli.connection import Connection
from meterstream.cli.output import print_table
from meterstream.cli.traffic.job import Job, Sent, run_job
from meterstream.cli.traffic.messages import Message
from meterstream.cli.traffic.sender import Totals
from meterstream.cli.usage_query import UsageQuery, ask_usage, credits_text

from .landed import Landed, ask_landed
from .prices import price_micro

SHOW_EVERY_S: Final = 1.0
STALLED_AFTER_S: Final = 60.0
"""So long without anything new in ClickHouse after all was sent, and the rest is given up."""


class Stopped(Exception):
    """The demonstration was interrupted while it was sending."""


@dataclass(slots=True)
class Sending:
    """A job that is sent in a thread of its own, while the main one shows what lands."""

    connection: Connection
    job: Job
    totals: Totals = field(default_factory=Totals)
    credits_micro: int = 0
    sent: Sent | None = None
    failure: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._send, name="sending", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """True until all is acknowledged, or sending has failed."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Send nothing more, and wait for what is on its way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def result(self) -> Sent:
        """Return what was sent; raise what went wrong."""
        if self._thread is not None:
            self._thread.join()
        if self.failure is not None:
            raise self.failure
        assert self.sent is not None, "a thread that ended has sent or failed"
        return self.sent

    def _send(self) -> None:
        try:
            self.sent = run_job(
                self.connection,
                self.job,
                "sending",
                watch=self._watch,
                progress=self._progress,
            )
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asks
            self.failure = error

    def _watch(self, message: Message) -> None:
        if self._stop.is_set():
            raise Stopped
        self.credits_micro += price_micro(message)

    def _progress(self, totals: Totals) -> None:
        self.totals = totals


def show_landing(sending: Sending, tick: Callable[[], None]) -> Landed:
    """Show once a second what was sent and what has landed, until all has, or nothing more does."""
    started = time.monotonic()
    landed, changed = Landed(), started
    with sending.connection.clickhouse.client() as client:
        while True:
            tick()
            now = ask_landed(client)
            if now != landed or sending.running:
                landed, changed = now, time.monotonic()
            _show_line(started, sending, landed)
            if not sending.running:
                sent = sending.result().totals
                if landed.decided >= sent.messages and landed.runs >= sent.unique_runs:
                    return landed
                if time.monotonic() - changed > STALLED_AFTER_S:
                    return landed
            time.sleep(SHOW_EVERY_S)


def _show_line(started: float, sending: Sending, landed: Landed) -> None:
    click.echo(
        f"{time.monotonic() - started:4.0f} s   sent {sending.totals.unique_runs:>9,} runs   "
        f"stored {landed.runs:>9,} runs, {landed.input_tokens + landed.output_tokens:>13,} tokens, "
        f"{credits_text(landed.credits_micro):>16} credits"
    )


def show_usage_by(connection: Connection, by: str, limit: int = 12) -> None:
    """Print the table that `meterstream usage --by` prints."""
    from meterstream.cli.commands.usage import show_usage

    with connection.clickhouse.client() as client:
        show_usage(ask_usage(client, UsageQuery(by, limit=limit)), title=f"\nUsage by {by}")


def compare(sending: Sending, landed: Landed) -> bool:
    """Print sent and stored totals side by side, and tell whether they are equal."""
    sent = sending.result().totals
    lines = (
        ("runs", sent.unique_runs, landed.runs),
        ("input tokens", sent.input_tokens, landed.input_tokens),
        ("output tokens", sent.output_tokens, landed.output_tokens),
        ("micro-credits", sending.credits_micro, landed.credits_micro),
        ("resends, not counted twice", sent.duplicates, landed.duplicates),
        ("broken events, refused", sent.invalid, landed.invalid),
        ("events in all", sent.messages, landed.decided),
    )
    print_table(
        ["total", "sent", "stored", ""],
        [
            [name, f"{left:,}", f"{right:,}", "equal" if left == right else "DIFFERENT"]
            for name, left, right in lines
        ],
        title="\nSent (counted by the sender) and stored (asked of ClickHouse)",
    )
    return all(left == right for _, left, right in lines)
