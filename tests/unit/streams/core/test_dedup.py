"""Which identities were counted before, and for how long they are known."""

import tracemalloc

import numpy as np
import pytest

from meterstream.streams.core import dedup as module
from meterstream.streams.core.dedup import MERGE_RUNS, Dedup, Ids, Run, expiry_us

HOUR = 3_600_000_000
HORIZON = 24 * HOUR


def ids(*rows: tuple[int, int, int, int]) -> Ids:
    """Return ids from (high half, low half, content, hour)."""
    hi, lo, content, hour = (list(column) for column in zip(*rows, strict=True))
    return Ids.of(
        np.array(hi, np.uint64),
        np.array(lo, np.uint64),
        np.array(content, np.uint32),
        np.array(hour, np.uint32),
    )


def find(known: Dedup, *wanted: tuple[int, int]) -> list[tuple[bool, int, int]]:
    """Return (is known, content, hours after which it is forgotten) of each id."""
    hi, lo = (np.array(column, np.uint64) for column in zip(*wanted, strict=True))
    return [
        (bool(is_known), int(content), int(expiry) // HOUR)
        for is_known, content, expiry in zip(*known.find(hi, lo), strict=True)
    ]


def random_ids(count: int, seed: int, hour: int = 0) -> Ids:
    """Return random ids of one hour."""
    random = np.random.default_rng(seed)
    hi, lo = random.integers(0, 2**64, (2, count), np.uint64)
    return Ids.of(
        hi, lo, (lo & np.uint64(0xFFFFFFFF)).astype(np.uint32), np.full(count, hour, np.uint32)
    )


UNKNOWN = (False, 0, 0)


@pytest.mark.parametrize(("hour", "after"), [(0, 26), (1, 27), (490_896, 490_922)])
def test_an_id_outlives_its_hour_by_the_horizon_and_an_hour(hour: int, after: int) -> None:
    """An id of an event at the very end of its hour is still known one hour past the horizon."""
    assert expiry_us(hour, HORIZON) == after * HOUR


def test_what_was_added_is_found() -> None:
    """An id is found with its content and expiry; another high or low half is another id."""
    known = Dedup(HORIZON)
    known.add(ids((5, 1, 70, 2), (3, 9, 80, 4)))
    assert find(known, (5, 1), (3, 9), (5, 2), (4, 1), (3, 1)) == [
        (True, 70, 28),
        (True, 80, 30),
        UNKNOWN,
        UNKNOWN,
        UNKNOWN,
    ]
    assert known.count == 2


def test_nothing_is_known_at_the_beginning() -> None:
    """An empty memory knows no id, takes no bytes, and adding nothing leaves it empty."""
    known = Dedup(HORIZON)
    known.add(Ids.from_bytes(b""))
    assert (known.count, known.nbytes, list(known.runs())) == (0, 0, [])
    assert find(known, (0, 0)) == [UNKNOWN]
    known.forget(10**18)


def test_the_ends_of_the_range_are_ids_like_others() -> None:
    """Zero and the largest halves are found, and do not stand for each other."""
    top = 2**64 - 1
    known = Dedup(HORIZON)
    known.add(ids((0, 0, 1, 0), (top, top, 2, 0), (0, top, 3, 0)))
    assert find(known, (0, 0), (top, top), (0, top), (top, 0)) == [
        (True, 1, 26),
        (True, 2, 26),
        (True, 3, 26),
        UNKNOWN,
    ]


def test_ids_that_share_their_high_half_are_told_apart() -> None:
    """Of many ids with one high half each is found by its low half, the last of a run too."""
    known = Dedup(HORIZON)
    known.add(ids(*((7, lo, lo, 0) for lo in range(50)), (6, 1, 99, 0)))
    assert find(known, *((7, lo) for lo in range(50)), (7, 50), (6, 1), (6, 2)) == [
        *((True, lo, 26) for lo in range(50)),
        UNKNOWN,
        (True, 99, 26),
        UNKNOWN,
    ]


def test_ids_are_forgotten_when_the_clock_reaches_their_expiry() -> None:
    """One microsecond before its expiry an id is kept, at its expiry it is gone."""
    known = Dedup(HORIZON)
    known.add(ids((1, 1, 1, 0), (2, 2, 2, 1)))
    known.forget(26 * HOUR - 1)
    assert known.count == 2
    known.forget(26 * HOUR)
    assert find(known, (1, 1), (2, 2)) == [UNKNOWN, (True, 2, 27)]
    known.forget(27 * HOUR)
    assert (known.count, known.nbytes) == (0, 0)


def test_an_id_that_came_back_counts_from_its_new_hour() -> None:
    """Of an id in two runs the later one holds, whichever was added or is looked at first."""
    for hours in ((3, 30), (30, 3)):
        known = Dedup(HORIZON)
        for hour in hours:
            known.add(ids((1, 1, hour, hour)))
        assert find(known, (1, 1)) == [(True, 30, 56)]
        known.forget(29 * HOUR)
        assert find(known, (1, 1)) == [(True, 30, 56)]


def test_small_runs_are_merged() -> None:
    """So many runs of one hour and size become one run that holds and finds all their ids."""
    known = Dedup(HORIZON)
    for i in range(MERGE_RUNS - 1):
        known.add(ids((i, i, i, 5)))
    assert [len(run) for run in known.runs()] == [1] * (MERGE_RUNS - 1)
    known.add(ids((100, 0, 100, 5)))
    assert [len(run) for run in known.runs()] == [MERGE_RUNS]
    (run,) = known.runs()
    assert run.hour == 5
    assert run.hi.tolist() == [0, 1, 2, 3, 4, 5, 6, 100]
    assert run.lo.tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert find(known, *((i, i) for i in range(7)), (100, 0)) == [
        *((True, i, 31) for i in range(7)),
        (True, 100, 31),
    ]


def test_runs_of_other_hours_are_not_merged() -> None:
    """Ids of different hours stay apart, since they are forgotten apart."""
    known = Dedup(HORIZON)
    for i in range(3 * MERGE_RUNS):
        known.add(ids((i, i, i, i % 4)))
    assert sorted((run.hour, len(run)) for run in known.runs()) == [
        (h, 1) for h in range(4) for _ in range(6)
    ]


def test_runs_of_other_sizes_are_not_merged() -> None:
    """A large run is not copied again for each small one: sizes differ by less than eight times."""
    known = Dedup(HORIZON)
    known.add(random_ids(8, 1))
    for i in range(MERGE_RUNS - 1):
        known.add(ids((i, i, i, 0)))
    assert sorted(len(run) for run in known.runs()) == [1] * 7 + [8]
    known.add(random_ids(7, 2))
    assert sorted(len(run) for run in known.runs()) == [8, 14]


def test_merges_cascade() -> None:
    """A merge that makes enough runs of the next size is followed by the next merge."""
    known = Dedup(HORIZON)
    for i in range(MERGE_RUNS**2):
        known.add(ids((i, i, i, 0)))
    assert [len(run) for run in known.runs()] == [MERGE_RUNS**2]
    assert find(known, *((i, i) for i in range(64))) == [(True, i, 26) for i in range(64)]


def test_runs_stay_few() -> None:
    """After many additions there are at most seven runs a size, and every id is known."""
    known = Dedup(HORIZON)
    added = [random_ids(20, seed) for seed in range(300)]
    for some in added:
        known.add(some)
    assert known.count == 6_000
    assert len(list(known.runs())) <= 7 * 4
    for some in added:
        assert known.find(some.hi, some.lo)[0].all()
        assert (known.find(some.hi, some.lo)[1] == some.content).all()
    new = random_ids(5_000, 999)
    assert not known.find(new.hi, new.lo)[0].any()


def test_eras_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """When an era's filter is full the next begins, larger up to a bound; all ids stay known."""
    monkeypatch.setattr(module, "FIRST_ERA_IDS", 64)
    monkeypatch.setattr(module, "ERA_IDS", 256)
    known = Dedup(HORIZON)
    added = [random_ids(40, seed, seed % 3) for seed in range(60)]
    for some in added:
        known.add(some)
    capacities = [era.filter.capacity for era in known._eras]
    assert len(capacities) > 3
    assert capacities == sorted(capacities)
    assert 64 <= capacities[0] < 128
    assert max(capacities) < 512
    assert all(era.added <= era.filter.capacity for era in known._eras)
    for some in added:
        is_known, content, expiry = known.find(some.hi, some.lo)
        assert is_known.all()
        assert (content == some.content).all()
        assert (expiry == expiry_us(int(some.hour[0]), HORIZON)).all()
    known.forget(expiry_us(1, HORIZON))
    assert known.count == sum(len(some) for some in added if some.hour[0] == 2)
    known.forget(expiry_us(2, HORIZON))
    assert known._eras == []


def test_an_era_is_filled_to_its_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next era begins with the first id that does not fit, not with the last that does."""
    monkeypatch.setattr(module, "FIRST_ERA_IDS", 64)
    known = Dedup(HORIZON)
    known.add(random_ids(1, 1))
    capacity = known._eras[0].filter.capacity
    known.add(random_ids(capacity - 1, 2))
    assert len(known._eras) == 1
    known.add(random_ids(1, 3))
    assert len(known._eras) == 2


def test_a_run_larger_than_an_era_gets_one_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restored run of any size has a filter that holds it."""
    monkeypatch.setattr(module, "FIRST_ERA_IDS", 64)
    monkeypatch.setattr(module, "ERA_IDS", 256)
    known = Dedup(HORIZON)
    known.add(random_ids(5_000, 1))
    (era,) = known._eras
    assert era.filter.capacity >= 5_000
    assert known.count == 5_000


def test_memory_an_id_is_bounded() -> None:
    """A hundred thousand ids take fewer than 32 bytes each, and it is said truly how many."""
    some = [random_ids(20_000, seed) for seed in range(5)]
    tracemalloc.start()
    known = Dedup(HORIZON)
    for one in some:
        known.add(one)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / 100_000 < 32
    assert abs(known.nbytes - used) < 0.05 * used
    assert known.nbytes == sum(run.nbytes + 0 for run in known.runs()) + sum(
        era.filter.nbytes for era in known._eras
    )
    assert sum(run.nbytes for run in known.runs()) == 20 * 100_000


def test_adding_costs_no_more_when_there_are_many_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """An addition looks at the runs of its own hour only, though a horizon has hundreds."""
    looked_at = 0
    size_class = module._size_class

    def count(run: Run) -> int:
        nonlocal looked_at
        looked_at += 1
        return size_class(run)

    monkeypatch.setattr(module, "_size_class", count)
    known = Dedup(35 * 24 * HOUR)
    for round_ in range(4):
        known.add(ids(*((840 * round_ + hour, 0, 0, hour) for hour in range(840))))
    assert known.count == 4 * 840
    assert looked_at == 840 * (1 + 2 + 3 + 4)


def test_ids_survive_as_bytes() -> None:
    """Ids come back from their bytes, which are fixed: column by column, little-endian."""
    some = ids((2**64 - 1, 1, 2**32 - 1, 490_896), (1, 2, 3, 4))
    data = some.to_bytes()
    assert data == (
        b"\1" + bytes(7) + b"\xff" * 8
        + b"\2" + bytes(7) + b"\1" + bytes(7)
        + b"\3\0\0\0" + b"\xff" * 4
        + b"\4\0\0\0" + (490_896).to_bytes(4, "little")
    )  # fmt: skip
    back = Ids.from_bytes(memoryview(data))
    assert [back.hi.tolist(), back.lo.tolist()] == [some.hi.tolist(), some.lo.tolist()]
    assert [back.content.tolist(), back.hour.tolist()] == [[3, 2**32 - 1], [4, 490_896]]
    assert len(back) == 2
    assert back.hi.dtype == back.lo.dtype == np.uint64
    assert back.content.dtype == back.hour.dtype == np.uint32


@pytest.mark.parametrize("size", [1, 23, 25, 47])
def test_bytes_that_are_no_whole_ids_are_refused(size: int) -> None:
    """Missing bytes are an error, never fewer ids."""
    with pytest.raises(ValueError, match=f"{size} bytes are no whole number of ids"):
        Ids.from_bytes(bytes(size))


def test_a_run_gives_its_ids() -> None:
    """The ids of a run carry its hour each, as they did when they were added."""
    known = Dedup(HORIZON)
    known.add(ids((2, 5, 6, 9), (1, 3, 4, 9)))
    (run,) = known.runs()
    given = run.ids()
    assert [given.hi.tolist(), given.lo.tolist()] == [[1, 2], [3, 5]]
    assert [given.content.tolist(), given.hour.tolist()] == [[4, 6], [9, 9]]
    assert given.hour.dtype == np.uint32


def test_one_addition_is_divided_by_hour() -> None:
    """Ids of several hours become a run an hour, each sorted."""
    known = Dedup(HORIZON)
    known.add(ids((9, 1, 1, 2), (4, 2, 2, 1), (7, 3, 3, 2), (5, 4, 4, 1)))
    assert [
        (run.hour, run.hi.tolist(), run.lo.tolist(), run.content.tolist()) for run in known.runs()
    ] == [
        (1, [4, 5], [2, 4], [2, 4]),
        (2, [7, 9], [3, 1], [3, 1]),
    ]
