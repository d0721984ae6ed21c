"""Writes entries, waits until the meter took them, and says what became of them."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import click

from meterstream.cli.connection import Connection
from meterstream.cli.errors import CheckFailed
from meterstream.cli.output import note
from meterstream.schemas.catalog import CatalogEvent
from meterstream.schemas.control import ControlEvent, control_key
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.thresholds import Owners
from meterstream.streams.core.control import owners_of

from .records import control_partitions
from .taken import WAIT_MAX_S, MeterWatch, Taken
from .write import Written, write_catalog, write_control


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of entries that were written: `in_force` is None where nobody waited."""

    written: int
    in_force: bool | None

    def text(self) -> str:
        """Say it in words."""
        if self.in_force:
            return "in force" if self.written == 1 else f"all {self.written} in force"
        return f"written, and acknowledged by the broker ({self.written})"

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"written": self.written, "in_force": self.in_force}


NOTHING = Outcome(0, None)
"""Where there was nothing to write."""


def wait_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --wait/--no-wait: whether to wait until the meter took what was written."""
    return click.option(
        "--wait/--no-wait",
        default=True,
        show_default=True,
        help=f"Wait up to {WAIT_MAX_S:.0f} s until the meter took it.",
    )(command)


def govern(
    connection: Connection, events: Sequence[ControlEvent], *, wait: bool, names: Sequence[str]
) -> Outcome:
    """Write control entries; `names` say of each what it is, should it be refused.

    Limits of organisations are waited for in the journal of their own meter. Raises CheckFailed
    where a meter refuses one.
    """
    if not events:
        return NOTHING
    count = control_partitions(connection)
    watched: dict[Owners, set[int]] = {}
    for event in events:
        watched.setdefault(owners_of(event), set()).add(partition_of(control_key(event), count))
    with ExitStack() as stack:
        watches = {
            owners: stack.enter_context(MeterWatch(connection, partitions, owners))
            for owners, partitions in watched.items()
            if wait
        }
        written = write_control(connection, events)
        if not wait:
            return Outcome(len(written), None)
        found = Taken()
        for owners, watch in watches.items():
            own = [
                one
                for one, event in zip(written, events, strict=True)
                if owners_of(event) == owners
            ]
            taken = watch.wait(own)
            found.refused |= taken.refused
            found.open += taken.open
            if taken.open and not found.refused:
                _note_open("meter" if owners == "teams" else "meter of organisations")
        return _told(found, written, names)


def publish(
    connection: Connection, events: Sequence[CatalogEvent], *, wait: bool, names: Sequence[str]
) -> Outcome:
    """Write catalog entries, and wait for every partition; otherwise as `govern`."""
    if not events:
        return NOTHING
    with ExitStack() as stack:
        watch = stack.enter_context(MeterWatch(connection)) if wait else None
        written = write_catalog(connection, events)
        if watch is None:
            return Outcome(len(written), None)
        taken = watch.wait(written)
        if taken.open and not taken.refused:
            _note_open("meter")
        return _told(taken, written, names)


def _note_open(meter: str) -> None:
    note(
        f"note: written, but the {meter} has not taken it within {WAIT_MAX_S:.0f} s:"
        " it will once it runs"
    )


def _told(taken: Taken, written: Sequence[Written], names: Sequence[str]) -> Outcome:
    if taken.refused:
        raise _refusal(taken, dict(zip(written, names, strict=True)))
    return Outcome(len(written), not taken.open)


def _refusal(taken: Taken, names: dict[Written, str]) -> CheckFailed:
    for one, reason in taken.refused.items():
        note(f"{names[one]}: refused by the meter ({reason})")
    return CheckFailed(
        f"the meter refused {len(taken.refused)} of {len(names)} entries, and they are not in"
        " force: `meterstream dlq list` shows them"
    )
