"""One process at a time owns a slot, and what a dead one left is adopted."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from meterstream.producers import SpoolUnusable
from meterstream.producers.spool import SpoolRoot

_HOLDER = """
import sys
from collections.abc import Callable
from pathlib import Path
from meterstream.producers.spool import SpoolRoot
slot = SpoolRoot(Path(sys.argv[1]), max_bytes=1 << 20, sync=False, on_unusable=print).claim()
slot.log.append([(0, b"team", b"left behind")])
print(slot.log.directory.name, flush=True)
sys.stdin.read()
"""


def _no_trouble(error: SpoolUnusable) -> None:
    raise AssertionError(error)


def _make_root(
    path: Path, on_unusable: Callable[[SpoolUnusable], None] = _no_trouble, *, sync: bool = False
) -> SpoolRoot:
    return SpoolRoot(path, max_bytes=1 << 20, sync=sync, on_unusable=on_unusable)


def _hold(path: Path) -> tuple["subprocess.Popen[str]", str]:
    """Start a process that holds a slot with one event; return it and the slot's name."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_publishers_of_one_directory_have_slots_of_their_own(tmp_path: Path) -> None:
    """Two slots in one process, and one of another process, do not meet."""
    process, theirs = _hold(tmp_path)
    root = _make_root(tmp_path)
    slots = [root.claim(), root.claim()]
    names = {slot.log.directory.name for slot in slots}
    assert len({*names, theirs}) == 3
    assert root.adopt() == []
    process.communicate("")
    for slot in slots:
        slot.close()


def test_the_slot_of_a_killed_process_is_adopted(tmp_path: Path) -> None:
    """A kill -9 frees the lock, and the next claim takes the events along."""
    process, name = _hold(tmp_path)
    root = _make_root(tmp_path)
    own = root.claim()
    process.send_signal(signal.SIGKILL)
    process.wait()
    [adopted] = root.adopt()
    assert adopted.log.directory.name == name
    assert adopted.log.waiting == 1
    adopted.close()
    own.close()
    again = root.claim()
    assert again.log.waiting == 1
    again.close()


def test_a_slot_that_is_empty_is_removed(tmp_path: Path) -> None:
    """After everything is settled nothing of a slot remains."""
    root = _make_root(tmp_path)
    slot = root.claim()
    slot.log.append([(0, b"team", b"x")])
    slot.log.acks.settle(0)
    assert slot.close()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_slot_that_a_process_left_is_cleared_away(tmp_path: Path) -> None:
    """Adopting finds nothing to send in it, and removes it."""
    root = _make_root(tmp_path)
    own, dead = root.claim(), root.claim()
    dead.abandon()
    assert root.adopt() == []
    assert [path.name for path in tmp_path.iterdir()] == [own.log.directory.name]
    own.close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The error names the path and the setting."""
    (tmp_path / "file").touch()
    with pytest.raises(SpoolUnusable, match=r"file/spool.*spool_dir"):
        _make_root(tmp_path / "file" / "spool")


def test_a_slot_that_cannot_be_read_is_told_and_left_alone(tmp_path: Path) -> None:
    """Neither a start nor the adoption of other slots fails because of it."""
    (tmp_path / "slot-0000" / "lock").mkdir(parents=True)
    (tmp_path / "slot-0001").mkdir()
    foreign = tmp_path / "slot-0001" / f"{0:020d}.segment"
    foreign.write_bytes(b"MSPOOL99 of another version")
    told: list[SpoolUnusable] = []
    root = _make_root(tmp_path, told.append)
    dead = root.claim()
    dead.log.append([(0, b"team", b"x")])
    assert dead.log.directory.name == "slot-0002"
    dead.abandon()
    [adopted] = root.adopt()
    assert adopted.log.waiting == 1
    assert ["lock" in str(error) for error in told] == [True, False] * 2
    assert "no segment of this version" in str(told[1])
    assert foreign.exists()
    adopted.close()


def test_a_spool_that_is_synced_works_alike(tmp_path: Path) -> None:
    """Syncing files and directories changes nothing else."""
    root = _make_root(tmp_path / "spool", sync=True)
    slot = root.claim()
    slot.log.append([(0, b"team", b"x")])
    assert not slot.close()
    [adopted] = root.adopt()
    assert adopted.log.waiting == 1
    adopted.close()


def test_the_spool_is_private(tmp_path: Path) -> None:
    """Nobody but the service's user reads what waits."""
    slot = _make_root(tmp_path / "spool").claim()
    slot.log.append([(0, b"team", b"x")])
    for path in (tmp_path / "spool").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    slot.close()
