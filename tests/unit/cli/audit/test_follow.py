"""Following a chain: void records are skipped, a broken one is named, a new genesis begins anew."""

from tests.unit.cli.audit.readers import MemoryLog, begun, raw, texts

from meterstream.cli.audit.findings import Findings
from meterstream.cli.audit.follow import Corrupt, Follower
from meterstream.schemas.journal import Link


def follow(log: MemoryLog, link: Link | None = None) -> tuple[list[int], Findings, Follower]:
    """Read the log to its end; return the offsets of valid records."""
    findings = Findings()
    follower = Follower(log, 0, "journal", findings, link)
    return [one.offset for one in follower.read(lambda _: False, lambda: False)], findings, follower


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
    """The record whose value is not its header's is named, and those that continue it are not."""
    writer, genesis = begun()
    broken, after = writer.step([], clock_us=5), writer.step([], clock_us=6)
    again = writer.new_generation(7)
    more = writer.step([], clock_us=8)
    log = MemoryLog(raw(genesis), raw(broken, value=b"x"), raw(after), raw(again), raw(more))
    offsets, findings, _ = follow(log)
    assert offsets == [0, 3, 4]
    (text,) = texts(findings.kept)
    assert text.startswith("journal, partition 0, offset 1: the value's CRC-32 is")


def test_what_the_broker_cannot_give_is_named() -> None:
    """A corrupt batch, a foreign record and a missing beginning are each one finding."""
    writer, genesis = begun()
    step = writer.step([])
    _, findings, _ = follow(MemoryLog(raw(genesis), Corrupt(1, "CRC"), raw(step)))
    assert texts(findings.kept) == [
        "journal, partition 0, offset 1: the record cannot be read: CRC"
    ]
    foreign = raw(step)
    _, findings, _ = follow(
        MemoryLog(raw(genesis), type(foreign)(1, 0, None, b"what is this"), raw(writer.step([])))
    )
    assert [text.split(": ")[1] for text in texts(findings.kept)] == ["it has no chain header"]
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
