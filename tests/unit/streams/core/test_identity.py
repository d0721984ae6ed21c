"""The identity of an event."""

import numpy as np
import pytest
import xxhash

from meterstream.streams.core.identity import identity_digest, split_digests


def test_the_identity_is_a_fixed_hash() -> None:
    """Identities stand in journals and snapshots, so their bytes never change."""
    assert identity_digest("t", "/s", "e") == xxhash.xxh3_128_digest(b"1:t2:/se")
    assert identity_digest("t", "/s", "e").hex() == xxhash.xxh3_128_hexdigest(b"1:t2:/se")
    assert len(identity_digest("t", "/s", "e")) == 16


@pytest.mark.parametrize(
    "parts",
    [("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"), ("a", "", "bcd"), ("1:a", "c", "d")],
)
def test_parts_do_not_run_into_each_other(parts: tuple[str, str, str]) -> None:
    """The same letters divided otherwise are another identity."""
    assert identity_digest(*parts) != identity_digest("abc", "", "d")
    assert identity_digest(*parts) == identity_digest(*parts)


def test_halves_are_big_endian() -> None:
    """The first eight bytes of a digest are its high half, so that sorting by it sorts digests."""
    hi, lo = split_digests([bytes(range(16)), b"\xff" * 16])
    assert hi.tolist() == [0x0001020304050607, 2**64 - 1]
    assert lo.tolist() == [0x08090A0B0C0D0E0F, 2**64 - 1]
    assert hi.dtype == lo.dtype == np.uint64
    assert [len(half) for half in split_digests([])] == [0, 0]
