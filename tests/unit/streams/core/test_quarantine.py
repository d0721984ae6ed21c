"""A failure of the meter is kept to the events that cause it."""

from collections.abc import Callable, Mapping

import pytest
from tests.support.craft import Partition

from meterstream.streams.core import EventBatch, Step, compute_step
from meterstream.streams.core.quarantine import compute_around_offenders

Broken = Callable[[frozenset[int]], BaseException | None]


class Meter:
    """Computes nothing, and fails for batches of certain offsets as it is told."""

    def __init__(self, broken: Broken) -> None:
        self._broken = broken
        self.attempts: list[list[int]] = []
        self.quarantined: Mapping[int, str] = {}
        self.step = compute_step(Partition().state, None, now_us=0)

    def __call__(self, batch: EventBatch, quarantined: Mapping[int, str]) -> Step:
        """Fail, or remember what was quarantined."""
        offsets = list(batch.offsets)
        self.attempts.append(offsets)
        error = self._broken(frozenset(o for i, o in enumerate(offsets) if i not in quarantined))
        if error is not None:
            raise error
        self.quarantined = dict(quarantined)
        return self.step


def batch(*offsets: int) -> EventBatch:
    """Return a batch with a gap before its records."""
    return EventBatch(5, 99, offsets, [0] * len(offsets), [b""] * len(offsets))


def computed(broken: Broken, *offsets: int) -> Meter:
    """Return the meter after it has computed a batch."""
    meter = Meter(broken)
    assert compute_around_offenders(meter, batch(*offsets)) is meter.step
    return meter


def test_what_works_is_computed_once() -> None:
    """Without a failure nothing is tried twice and nobody is quarantined."""
    meter = computed(lambda _: None, 10, 20)
    assert (meter.attempts, meter.quarantined) == ([[10, 20]], {})


def test_offenders_are_found_by_halving() -> None:
    """Parts that work are not divided further, so that few offenders cost few attempts."""
    meter = computed(lambda some: KeyError() if 30 in some else None, 10, 20, 30, 40)
    assert meter.quarantined == {2: "KeyError"}
    assert meter.attempts == [
        [10, 20, 30, 40], [], [10, 20, 30, 40], [10, 20], [30, 40], [30], [40], [10, 20, 30, 40],
    ]  # fmt: skip


def test_each_offender_keeps_its_own_error() -> None:
    """What was raised is said of the event that raised it."""

    def broken(some: frozenset[int]) -> BaseException | None:
        return KeyError() if 10 in some else IndexError() if 40 in some else None

    assert computed(broken, 10, 20, 30, 40).quarantined == {0: "KeyError", 3: "IndexError"}


@pytest.mark.parametrize("together", [(10, 20), (10, 70), (60, 70), (10, 40, 70), (20, 30, 40)])
def test_of_events_that_fail_together_the_last_is_quarantined(together: tuple[int, ...]) -> None:
    """No event fails alone; without the last of the set, all others are computed."""
    offsets = (10, 20, 30, 40, 50, 60, 70)
    meter = computed(lambda some: KeyError() if some >= set(together) else None, *offsets)
    assert meter.quarantined == {offsets.index(together[-1]): "KeyError"}


def test_a_failure_without_events_is_raised() -> None:
    """It is nobody's fault, and found out with one attempt."""
    meter = Meter(lambda _: KeyError("boom"))
    with pytest.raises(KeyError, match="boom"):
        compute_around_offenders(meter, batch(10, 20))
    assert meter.attempts == [[10, 20], []]


def test_a_failure_that_quarantine_does_not_end_is_raised() -> None:
    """An event that is already out of the way is not blamed again."""
    meter = Meter(lambda some: None)
    fails = EventBatch(5, 99, (10, 20), (0, 0), (b"", b""))

    def compute(part: EventBatch, quarantined: Mapping[int, str]) -> Step:
        if len(part.offsets) == 2 or quarantined:
            raise KeyError("boom")
        return meter(part, quarantined)

    with pytest.raises(KeyError, match="boom"):
        compute_around_offenders(compute, fails)


def test_a_failure_on_offsets_without_records_is_raised() -> None:
    """Where a batch holds gaps alone there is no event to blame."""

    def compute(part: EventBatch, _quarantined: Mapping[int, str]) -> Step:
        if part.start < part.end:
            raise KeyError("boom")
        return Meter(lambda some: None).step

    with pytest.raises(KeyError, match="boom"):
        compute_around_offenders(compute, batch())


@pytest.mark.parametrize("attempt", range(1, 9))
def test_a_lack_of_memory_is_raised_whenever_it_comes(attempt: int) -> None:
    """At whichever attempt memory runs out, no event is blamed for it."""
    attempts = 0

    def broken(some: frozenset[int]) -> BaseException | None:
        nonlocal attempts
        attempts += 1
        if attempts == attempt:
            return MemoryError()
        return KeyError() if some >= {20, 30} else None

    meter = Meter(broken)
    with pytest.raises(MemoryError):
        compute_around_offenders(meter, batch(10, 20, 30, 40))
    assert len(meter.attempts) == attempt
