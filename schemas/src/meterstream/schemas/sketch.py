"""The latency sketch: counts by logarithmic bucket, with a relative error of at most 1 %.

One table of integer boundaries is shared by everything that writes or reads a sketch. Bucket 0
holds the value 0. Each further bucket starts where the one before ends; its representative is
the largest integer within 1 % of its lowest value, and it ends at the largest integer that is
still within 1 % of the representative. So every value differs from its bucket's representative
by at most 1 %, by construction and in whole numbers; up to 99 each integer has a bucket of its
own. Sketches of the same unit merge by adding counts, and nothing is lost by merging.

The idea of logarithmic buckets with a relative error: DDSketch (Masson, Rim, Lee; VLDB 2019).
"""

from bisect import bisect_left
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

MAX_VALUE: Final = 7 * 24 * 3600 * 1_000_000
"""The largest value a sketch takes: seven days in microseconds."""


def _table() -> tuple[tuple[int, ...], tuple[int, ...]]:
    upper, representative = [0], [0]
    while upper[-1] < MAX_VALUE:
        low = upper[-1] + 1
        middle = low * 101 // 100
        representative.append(middle)
        upper.append(middle * 100 // 99)
    return tuple(upper), tuple(representative)


UPPER, REPRESENTATIVE = _table()
"""Per bucket: the largest value it holds, and the value it stands for."""

BUCKETS: Final = len(UPPER)


def bucket_of(value: int) -> int:
    """Return the bucket that holds `value`, 0 to MAX_VALUE; a value outside raises ValueError."""
    if not 0 <= value <= MAX_VALUE:
        raise ValueError(f"a sketch holds values from 0 to {MAX_VALUE}, not {value}")
    return bisect_left(UPPER, value)


def quantile(sketch: Mapping[int, int], level: Fraction | float) -> int | None:
    """Return the value at `level` (0 to 1) of a sketch, or None if it holds nothing.

    It is the representative of the bucket in which the value of rank ceil(level * n) lies, the
    definition that numpy calls `inverted_cdf`. Buckets with a count of 0 or less are ignored.
    """
    if not 0 <= level <= 1:
        raise ValueError(f"a level lies between 0 and 1, not {level}")
    counts = sorted((bucket, count) for bucket, count in sketch.items() if count > 0)
    total = sum(count for _, count in counts)
    if not total:
        return None
    exact = Fraction(level).limit_denominator(1_000_000)
    rank = max(1, -(-exact.numerator * total // exact.denominator))
    seen = 0
    for bucket, count in counts:
        seen += count
        if seen >= rank:
            return REPRESENTATIVE[bucket]
    raise AssertionError("a rank within the total lies in a bucket")
