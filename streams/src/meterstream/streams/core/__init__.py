"""The core of the meter: pure, without Kafka, I/O or a wall clock.

A `PartitionState` and an `EventBatch` give a `Step` (`compute_step`); once the journal has the
step's record, `apply_step` takes it into the state. `apply_record` does the same from the record
alone, so a state can be restored from the journal, or from a snapshot and the journal after it.
"""

from .batch import Entry, EventBatch
from .compute import compute_step, idle_step, next_batch
from .dedup import Ids
from .limits import stands_of
from .policy import Policy
from .restore import SnapshotNeeded, apply_record, apply_step, begin, genesis_step
from .snapshot import (
    Manifest,
    Snapshot,
    SnapshotDamaged,
    load_snapshot,
    read_manifest,
    take_snapshot,
)
from .state import Changes, LastEvent, NotNext, PartitionState
from .step import Step
from .telling import PORTION
from .total_rows import totals_of

__all__ = [
    "PORTION",
    "Changes",
    "Entry",
    "EventBatch",
    "Ids",
    "LastEvent",
    "Manifest",
    "NotNext",
    "PartitionState",
    "Policy",
    "Snapshot",
    "SnapshotDamaged",
    "SnapshotNeeded",
    "Step",
    "apply_record",
    "apply_step",
    "begin",
    "compute_step",
    "genesis_step",
    "idle_step",
    "load_snapshot",
    "next_batch",
    "read_manifest",
    "stands_of",
    "take_snapshot",
    "totals_of",
]
