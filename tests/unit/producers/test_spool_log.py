"""The log of one slot keeps what it took, in order, whatever its files look like afterwards."""

from pathlib import Path

import pytest
from tests.support.publishing import file_size_limit

from meterstream.producers import EventRefused, SpoolFailed, SpoolUnusable
from meterstream.producers.spool import Cursor, SpoolLog
from meterstream.producers.spool.record import MAGIC, Record, pack, unpack

SEGMENT_BYTES = 1000


def _open_log(directory: Path, *, sync: bool = False) -> SpoolLog:
    return SpoolLog(directory, segment_bytes=SEGMENT_BYTES, sync=sync)


def _no_damage(damage: SpoolUnusable, count: int) -> None:
    raise AssertionError(f"{count} events lost: {damage}")


def _append(log: SpoolLog, *names: str) -> None:
    log.append([(number, b"team", name.encode()) for number, name in enumerate(names)])


def _read_all(log: SpoolLog) -> list[str]:
    cursor = Cursor(log, _no_damage)
    found: list[str] = []
    while records := cursor.read():
        found += [record.value.decode() for record in records]
    cursor.close()
    return found


def _files(log: SpoolLog) -> list[Path]:
    return sorted(log.directory.glob("*.segment"))


def _kill(log: SpoolLog) -> None:
    """Leave the files as a killed process does."""
    log.abandon()


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    """A cursor follows the log over segments while it grows."""
    log = _open_log(tmp_path)
    cursor = Cursor(log, _no_damage)
    assert cursor.read() == []
    names = [f"{number:0100d}" for number in range(50)]
    found: list[str] = []
    for name in names:
        _append(log, name)
        found += [record.value.decode() for record in cursor.read()]
    assert found == names
    assert len(_files(log)) > 3
    assert log.waiting == 50


def test_a_cursor_may_be_ahead_of_the_count(tmp_path: Path) -> None:
    """Events that are read before the writer has counted them are neither lost nor read twice."""
    log = _open_log(tmp_path)
    cursor = Cursor(log, _no_damage)
    _append(log, "a", "b", "c")
    for counted in (1, 2, 3):
        log.next_seq = counted
        expected = [b"a", b"b", b"c"] if counted == 1 else []
        assert [record.value for record in cursor.read()] == expected


def test_a_cursor_passes_from_a_segment_that_was_forgotten(tmp_path: Path) -> None:
    """The segment a cursor has read may be deleted before it moves on to the next one."""
    log = _open_log(tmp_path)
    _append(log, "a")
    _kill(log)
    log = _open_log(tmp_path)
    cursor = Cursor(log, _no_damage)
    assert len(cursor.read()) == 1
    log.acks.settle(0)
    _append(log, "b")
    assert log.forget_settled() > 0
    assert [record.value for record in cursor.read()] == [b"b"]


def test_a_reopened_log_goes_on_where_it_was(tmp_path: Path) -> None:
    """After a kill all events are there, and new ones come behind them."""
    log = _open_log(tmp_path)
    _append(log, "a", "b")
    _kill(log)
    log = _open_log(tmp_path)
    _append(log, "c")
    assert _read_all(log) == ["a", "b", "c"]
    assert log.next_seq == 3


def test_what_is_settled_is_forgotten(tmp_path: Path) -> None:
    """Segments that are settled whole are deleted, and the mark outlives a kill."""
    log = _open_log(tmp_path)
    for number in range(50):
        _append(log, f"{number:0100d}")
    before = log.size_bytes
    for seq in range(45):
        log.acks.settle(seq)
    freed = log.forget_settled()
    assert freed > 0
    assert log.size_bytes == before - freed == sum(path.stat().st_size for path in _files(log))
    _kill(log)
    assert [int(name) for name in _read_all(_open_log(tmp_path))] == list(range(45, 50))


def test_a_log_that_is_settled_leaves_nothing(tmp_path: Path) -> None:
    """Closing a log without waiting events deletes its files."""
    log = _open_log(tmp_path)
    _append(log, "a")
    assert not _open_log(tmp_path).close()
    log.acks.settle(0)
    assert log.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_tail_is_no_event(tmp_path: Path, cut: int) -> None:
    """A record cut anywhere is ignored, with those before and after it whole."""
    log = _open_log(tmp_path)
    _append(log, "a")
    _kill(log)
    torn = pack(Record(1, 0, b"team", b"the one that was cut"))[:-cut]
    with _files(log)[-1].open("ab") as file:
        file.write(torn)
    log = _open_log(tmp_path)
    _append(log, "b")
    _kill(log)
    log = _open_log(tmp_path)
    assert _read_all(log) == ["a", "b"]
    assert log.next_seq == 2


@pytest.mark.parametrize("content", [b"", MAGIC[:3], MAGIC, MAGIC + b"\0" * 100])
def test_a_segment_without_a_record_is_no_obstacle(tmp_path: Path, content: bytes) -> None:
    """A kill right after a segment was begun costs nothing."""
    log = _open_log(tmp_path)
    _append(log, "a")
    _kill(log)
    (tmp_path / f"{1:020d}.segment").write_bytes(content)
    log = _open_log(tmp_path)
    _append(log, "b")
    assert _read_all(log) == ["a", "b"]


def test_a_garbled_mark_sends_events_again(tmp_path: Path) -> None:
    """Without a mark all that is there is sent: twice is harmless, never is not."""
    log = _open_log(tmp_path)
    _append(log, "a", "b")
    log.acks.settle(0)
    log.forget_settled()
    _kill(log)
    mark = tmp_path / "acknowledged"
    for content in (mark.read_bytes()[:-1], b"\0" * 12, b""):
        mark.write_bytes(content)
        log = _open_log(tmp_path)
        assert _read_all(log) == ["a", "b"]
        _kill(log)


def test_numbers_below_the_mark_are_not_used_again(tmp_path: Path) -> None:
    """A power cut may lose a segment and keep the mark; new events still count as waiting."""
    log = _open_log(tmp_path)
    _append(log, "a", "b")
    log.acks.settle(0)
    log.acks.settle(1)
    log.forget_settled()
    _kill(log)
    for path in _files(log):
        path.unlink()
    log = _open_log(tmp_path)
    _append(log, "c")
    assert _read_all(log) == ["c"]


def test_damage_in_the_middle_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Events that cannot be read are named and counted; those of later segments are sent."""
    log = _open_log(tmp_path)
    for number in range(30):
        _append(log, f"{number:0100d}")
    _kill(log)
    first, second, *_ = _files(log)
    data = bytearray(first.read_bytes())
    data[len(MAGIC) + 150] ^= 1
    first.write_bytes(data)
    told: list[tuple[str, int]] = []
    log = _open_log(tmp_path)
    cursor = Cursor(log, lambda damage, count: told.append((str(damage), count)))
    found = [record.seq for record in cursor.read()]
    while records := cursor.read():
        found += [record.seq for record in records]
    lost = int(second.stem) - 1
    assert found == [0, *range(int(second.stem), 30)]
    [(text, count)] = told
    assert count == lost
    assert f"events 1 to {lost} " in text
    assert log.acks.is_settled(1)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """What this code cannot read, it does not touch."""
    path = tmp_path / f"{0:020d}.segment"
    path.write_bytes(b"MSPOOL99 and more")
    with pytest.raises(SpoolUnusable, match="no segment of this version"):
        _open_log(tmp_path)
    assert path.exists()


@pytest.mark.parametrize("sync", [False, True])
def test_a_refused_write_takes_all_or_nothing(tmp_path: Path, sync: bool) -> None:
    """A write that the disk cuts short leaves no trace, and the next one is whole."""
    log = _open_log(tmp_path, sync=sync)
    _append(log, "a")
    size = log.size_bytes
    with file_size_limit(size + 60), pytest.raises(SpoolFailed, match="File too large"):
        _append(log, "b" * 20, "c" * 20, "d" * 20)
    assert log.size_bytes == size
    _append(log, "e")
    assert _read_all(log) == ["a", "e"]
    _kill(log)
    assert _read_all(_open_log(tmp_path)) == ["a", "e"]


@pytest.mark.parametrize("room", [0, 2, 8, 20])
def test_a_segment_that_cannot_be_begun_takes_nothing(tmp_path: Path, room: int) -> None:
    """Where not even a new file can be written, nothing is accepted, and later it is."""
    log = _open_log(tmp_path)
    with file_size_limit(room), pytest.raises(SpoolFailed):
        _append(log, "a")
    assert log.size_bytes == 0
    _append(log, "b")
    assert _read_all(log) == ["b"]
    _kill(log)
    assert _read_all(_open_log(tmp_path)) == ["b"]


def test_a_refused_event_is_kept_aside(tmp_path: Path) -> None:
    """What the broker never takes is a line of JSON with its reason, and counts as disk used."""
    log = _open_log(tmp_path)
    _append(log, "a")
    before = log.size_bytes
    [record] = Cursor(log, _no_damage).read()
    path = log.keep_refused(record, "too large")
    log.acks.settle(0, EventRefused("too large"))
    assert '"reason": "too large"' in path.read_text()
    assert log.size_bytes == before + path.stat().st_size
    assert log.close()
    assert [path] == list(tmp_path.iterdir())
    assert _open_log(tmp_path).size_bytes == path.stat().st_size


def test_a_record_is_never_longer_than_a_reader_takes() -> None:
    """The writer's limit is the reader's."""
    with pytest.raises(ValueError, match="at most"):
        pack(Record(0, 0, b"k", b"v" * 300_000))


def test_records_with_impossible_lengths_are_refused() -> None:
    """A length that points past the record, with a valid CRC, is no record."""
    whole = pack(Record(0, 0, b"key", b""))
    head = bytearray(whole)
    head[24:26] = (9999).to_bytes(2, "big")
    import zlib

    head[4:8] = zlib.crc32(head[8:]).to_bytes(4, "big")
    assert unpack(bytes(head)) == ([], 0)
    assert unpack(whole)[0] == [Record(0, 0, b"key", b"")]
