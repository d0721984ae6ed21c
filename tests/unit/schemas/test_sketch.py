"""The sketch's buckets and quantiles, in exact arithmetic."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream.schemas.sketch import (
    BUCKETS,
    MAX_VALUE,
    REPRESENTATIVE,
    UPPER,
    bucket_of,
    quantile,
)

ONE_PERCENT = Fraction(1, 100)
values = st.one_of(st.integers(0, 200), st.integers(0, 10_000_000), st.integers(0, MAX_VALUE))


def test_every_value_is_within_one_percent_of_its_representative() -> None:
    """The lowest and highest value of each bucket differ from what it stands for by 1 % at most."""
    low = 0
    for upper, middle in zip(UPPER, REPRESENTATIVE, strict=True):
        assert low <= middle <= upper
        for value in (low, upper):
            assert abs(value - middle) <= ONE_PERCENT * value
        low = upper + 1


def test_buckets_cover_the_range_without_a_gap() -> None:
    """Buckets ascend, their representatives too, and the last one holds the largest value."""
    assert list(UPPER) == sorted(set(UPPER))
    assert list(REPRESENTATIVE) == sorted(set(REPRESENTATIVE))
    assert UPPER[0] == REPRESENTATIVE[0] == 0
    assert UPPER[-2] < MAX_VALUE <= UPPER[-1]


def test_bucket_numbers_fit_their_column() -> None:
    """A bucket's number fits in the 16 bits that ClickHouse keeps it in."""
    assert BUCKETS < 2**15


def test_small_values_are_exact() -> None:
    """Up to 99 each integer has a bucket of its own."""
    assert [REPRESENTATIVE[bucket_of(value)] for value in range(100)] == list(range(100))


@pytest.mark.parametrize("value", [-1, MAX_VALUE + 1])
def test_a_value_outside_is_refused(value: int) -> None:
    """A value that no bucket holds raises, instead of landing in the nearest."""
    with pytest.raises(ValueError, match="a sketch holds values from 0"):
        bucket_of(value)


@given(values)
def test_a_value_lies_in_its_bucket(value: int) -> None:
    """The bucket that is found begins at or below the value and ends at or above it."""
    bucket = bucket_of(value)
    assert (UPPER[bucket - 1] if bucket else -1) < value <= UPPER[bucket]


@given(st.lists(values, min_size=1, max_size=200), st.sampled_from((0, 0.5, 0.9, 0.95, 0.99, 1)))
def test_quantiles_are_within_one_percent(sample: list[int], level: float) -> None:
    """A quantile of a sketch is within 1 % of numpy's inverted_cdf of the values themselves."""
    found = quantile(Counter(map(bucket_of, sample)), level)
    exact = int(np.quantile(np.array(sample), level, method="inverted_cdf"))
    assert found is not None
    assert abs(found - exact) <= ONE_PERCENT * exact


@given(st.lists(values, max_size=50), st.lists(values, max_size=50), st.fractions(0, 1))
def test_merging_loses_nothing(some: list[int], others: list[int], level: Fraction) -> None:
    """The sum of two sketches is the sketch of all values, in any order and at any level."""
    first, second = Counter(map(bucket_of, some)), Counter(map(bucket_of, others))
    together = Counter(map(bucket_of, some + others))
    assert first + second == together
    assert quantile(second + first, level) == quantile(together, level)


@given(st.lists(values, min_size=1, max_size=50), st.fractions(0, 1), st.fractions(0, 1))
def test_quantiles_do_not_fall(sample: list[int], level: Fraction, other: Fraction) -> None:
    """At a higher level the quantile is not lower."""
    sketch = Counter(map(bucket_of, sample))
    low, high = quantile(sketch, min(level, other)), quantile(sketch, max(level, other))
    assert low is not None
    assert high is not None
    assert low <= high


def test_empty_and_negative_counts_are_ignored() -> None:
    """Buckets with a count of 0 or less, as adjustments leave them, are as if they were absent."""
    assert quantile({}, 0.5) is None
    assert quantile({3: 0, 5: -2}, 0.5) is None
    assert quantile({3: 1, 5: -7, 9: 0}, 1) == 3


@pytest.mark.parametrize("level", [-0.1, 1.1, Fraction(101, 100)])
def test_a_level_outside_is_refused(level: float | Fraction) -> None:
    """A level below 0 or above 1 raises."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile({1: 1}, level)
