"""What the core offers to the runtime around it."""

from meterstream.streams import core


def test_the_public_names_are_these() -> None:
    """A name that is added or taken away is a decision, not an accident."""
    assert sorted(core.__all__) == [
        "Changes", "Entry", "EventBatch", "Ids", "LastEvent", "Manifest", "NotNext",
        "PORTION",
        "PartitionState", "Policy", "Snapshot", "SnapshotDamaged", "SnapshotNeeded", "Step",
        "apply_record", "apply_step", "begin",
        "compute_step", "genesis_step", "idle_step", "load_snapshot", "next_batch", "read_manifest",
        "stands_of", "take_snapshot", "totals_of",
    ]  # fmt: skip
    assert all(hasattr(core, name) for name in core.__all__)
