"""Keeping a failure of the meter itself to the events that cause it."""

from collections.abc import Callable, Mapping

from .batch import EventBatch
from .step import Step

Compute = Callable[[EventBatch, Mapping[int, str]], Step]
"""Computes a batch; the events at the positions in the mapping are refused as INTERNAL, unread."""


def compute_around_offenders(compute: Compute, batch: EventBatch) -> Step:
    """Compute a batch without the events on which the computation fails; they become INTERNAL.

    Raises what the computation raises where no event is to blame: it fails without any, too. A
    lack of memory is the machine's, and raised as well.
    """
    try:
        return compute(batch, {})
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - an event is to blame, or it is raised again
        compute(EventBatch(batch.start, batch.start, (), (), ()), {})
    offenders = _offenders(compute, batch, 0, len(batch.offsets))
    while True:
        try:
            return compute(batch, offenders)
        except MemoryError:
            raise
        except Exception as error:
            # Events that fail only together: without the last of them the others do not.
            culprit = _end_of_failing_prefix(compute, batch, offenders)
            if culprit in offenders:
                raise
            offenders |= {culprit: type(error).__name__}


def _offenders(compute: Compute, batch: EventBatch, first: int, last: int) -> dict[int, str]:
    """Return the positions of events on which the computation fails, and the names of errors."""
    if first == last:
        return {}
    try:
        compute(batch.part(first, last), {})
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is one event's
        if last - first == 1:
            return {first: type(error).__name__}
        middle = (first + last) // 2
        return _offenders(compute, batch, first, middle) | _offenders(compute, batch, middle, last)
    return {}


def _end_of_failing_prefix(
    compute: Compute, batch: EventBatch, offenders: Mapping[int, str]
) -> int:
    """Return the last position of the shortest beginning of the batch that fails."""
    works, fails = 0, len(batch.offsets)
    while fails - works > 1:
        middle = (works + fails) // 2
        try:
            compute(batch.part(0, middle), offenders)
            works = middle
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - see above
            fails = middle
    return fails - 1
