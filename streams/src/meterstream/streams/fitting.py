"""Computes a step that fits a message: all that waits if it can be, else half of it, and so on."""

from dataclasses import dataclass

from .backlog import Backlog
from .core import PORTION, Entry, EventBatch, PartitionState, Step, compute_step, next_batch
from .journal import RecordTooLarge


@dataclass(frozen=True, slots=True)
class Waiting:
    """Entries of one log that wait for a partition, and the position after them."""

    entries: list[Entry]
    position: int

    def half(self) -> "Waiting":
        """Return the first half of the entries, all of them if there is only one."""
        if len(self.entries) < 2:
            return self
        kept = self.entries[: len(self.entries) // 2]
        return Waiting(kept, kept[-1].offset + 1)


def compute_fitting(
    state: PartitionState,
    batch: EventBatch | None,
    catalog: Waiting,
    control: Waiting,
    *,
    backlog: Backlog,
    max_bytes: int,
    now_us: int,
) -> tuple[Step, int]:
    """Return a step whose value has at most `max_bytes`, and how many events it decides.

    Events that do not fit go back to the backlog; entries are taken, and limits told, by a later
    step. Raises RecordTooLarge if a single record's decision does not fit.
    """
    if batch is not None:
        batch, rest = next_batch(state, batch)
        if rest is not None:
            backlog.put_back(rest)
    portion = PORTION
    while True:
        step = compute_step(
            state,
            batch,
            catalog=catalog.entries,
            control=control.entries,
            catalog_to=catalog.position,
            control_to=control.position,
            now_us=now_us,
            portion=portion,
        )
        if len(step.value) <= max_bytes:
            return step, len(batch.offsets) if batch is not None else 0
        if batch is not None and len(batch.offsets) > 1:
            batch, rest = batch.halves()
            backlog.put_back(rest)
        elif len(catalog.entries) > 1 or len(control.entries) > 1:
            catalog, control = catalog.half(), control.half()
        elif portion == 1:
            raise RecordTooLarge(
                f"partition {state.partition}: what is decided at offset {state.events_position}"
                f" takes {len(step.value)} bytes, more than METERSTREAM_JOURNAL_MAX_BYTES"
                f" ({max_bytes}), and cannot be divided: a large event, or a team of"
                f" {len(state.control.limits)} limits whose zone has changed. Raise it, and"
                " max.message.bytes of the journal's topic"
            )
        portion = max(1, portion // 2)
