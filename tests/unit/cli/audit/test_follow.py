"""Following a chain: void records are skipped, a broken one is named, a new genesis begins anew."""

from tests.unit.cli.audit.readers import MemoryLog, begun, raw, texts

from meterstream.cli.audit.findings import Findings
from meterstream.cli.audit.follow import Corrupt, Follower
from meterstream.schemas.journal import Link


def follow(log: MemoryLog, link: Link | None = None) -> tuple[list[int], Findings, Follower]:
    """Read the log to its end; return the offsets of valid records."""
    findings = Findings()
    follower = Follower(log, 0, "journal", findings, link)
    offsets = [one.offset for one in follower.read(lambda _: False, lambda: False)]
    follower.finish()
    return offsets, findings, follower


def test_void_records_are_skipped_and_counted() -> None:
    """A record that continues one from before the last valid record means nothing."""
    writer, genesis = begun()
    stale = writer.idle(1)
    writer.prev, writer.next_offset = genesis.offset, genesis.offset + 1
    writer, genesis = begun()
    step = writer.step([])
    late = raw(stale)
    log = MemoryLog(raw(genesis), raw(step), type(late)(2, 1, late.header, late.value))
    offsets, findings, follower = follow(log)
    assert (offsets, follower.void_records, findings.total) == ([0, 1], 1, 0)


def test_a_wrong_value_breaks_the_chain_until_the_next_genesis() -> None:
    """What a later generation has put right is noted, and the chain is whole again."""
    writer, genesis = begun()
    broken, after = writer.step([], clock_us=5), writer.step([], clock_us=6)
    again = writer.new_generation(7)
    more = writer.step([], clock_us=8)
    log = MemoryLog(raw(genesis), raw(broken, value=b"x"), raw(after), raw(again), raw(more))
    offsets, findings, follower = follow(log)
    assert (offsets, findings.kept, follower.is_broken) == ([0, 3, 4], [], False)
    (note,) = findings.notes
    assert note.startswith("partition 0: journal offset 1 is broken (the value's CRC-32 is")
    assert note.endswith("generation 2 goes on at offset 3 from event 0")


def test_a_break_without_a_later_generation_is_named() -> None:
    """The first record that is broken is, and those that continue it are not."""
    writer, genesis = begun()
    broken, after = writer.step([]), writer.step([])
    writer, other = begun()
    log = MemoryLog(raw(genesis), raw(broken, value=b"x"), raw(after), raw(other))
    offsets, findings, follower = follow(log)
    assert (offsets, follower.is_broken) == ([0], True)
    (text,) = texts(findings.kept)
    assert text.startswith("journal, partition 0, offset 1: the value's CRC-32 is")


def test_a_record_that_cannot_be_decoded_is_named_all_the_same() -> None:
    """Sinks stop there, whatever comes later."""
    writer, genesis = begun()
    step, again = writer.step([]), writer.new_generation(7)
    log = MemoryLog(raw(genesis), raw(step), raw(again))
    findings = Findings()
    follower = Follower(log, 0, "journal", findings, None)
    for one in follower.read(lambda _: False, lambda: False):
        if one.offset == 1:
            follower.reject(1, "cut off")
    follower.finish()
    assert texts(findings.kept) == ["journal, partition 0, offset 1: cut off"]
    assert (follower.is_broken, findings.notes) == (True, [])


def test_a_break_before_all_that_can_be_read_is_named() -> None:
    """Nobody knows what had been decided there, whatever begins behind it."""
    writer, genesis = begun()
    again = writer.new_generation(7)
    offsets, findings, follower = follow(MemoryLog(raw(genesis, value=b"x"), raw(again)))
    assert (offsets, follower.is_broken) == ([1], True)
    assert texts(findings.kept)[0].startswith("journal, partition 0, offset 0: the value's CRC")


def test_what_the_broker_cannot_give_is_named() -> None:
    """A corrupt batch and a missing beginning are each one finding; a foreign record is void."""
    writer, genesis = begun()
    step = writer.step([])
    _, findings, _ = follow(MemoryLog(raw(genesis), Corrupt(1, "CRC"), raw(step)))
    assert texts(findings.kept) == [
        "journal, partition 0, offset 1: the record cannot be read: CRC"
    ]
    foreign = raw(step)
    stranger = type(foreign)(1, 0, None, b"what is this")
    _, findings, follower = follow(MemoryLog(raw(genesis), stranger))
    assert (findings.total, follower.void_records) == (0, 1)
    _, findings, _ = follow(MemoryLog(raw(step)))
    assert "the chain's beginning is gone" in texts(findings.kept)[0]


def test_a_reader_may_start_at_a_link() -> None:
    """Records from before the link are passed over, the next one must continue it."""
    writer, genesis = begun()
    first, second = writer.step([]), writer.step([])
    offsets, findings, _ = follow(
        MemoryLog(raw(genesis), raw(first), raw(second)), Link(2, 1, 1, 0, 0)
    )
    assert (offsets, findings.total) == ([2], 0)


def test_reading_waits_at_the_end() -> None:
    """What arrives while it waits is read; it ends when it is done or may wait no longer."""
    writer, genesis = begun()
    log = MemoryLog(raw(genesis))
    waits: list[int] = []

    def wait() -> bool:
        waits.append(1)
        log.arrive(raw(writer.step([])))
        return len(waits) < 5

    follower = Follower(log, 0, "journal", Findings(), None)
    read = follower.read(lambda f: f.position >= 3, wait)
    assert [one.offset for one in read] == [0, 1, 2]
    assert len(waits) == 2
