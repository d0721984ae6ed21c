"""Partitions as Java's default partitioner chooses them."""

import pytest

from meterstream.schemas.partitions import murmur2, partition_of

# From org.apache.kafka.common.utils.UtilsTest, where the hashes are signed 32-bit integers.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "signed"), JAVA.items())
def test_hashes_are_those_of_the_java_client(data: bytes, signed: int) -> None:
    """Each of Kafka's own test vectors gets the hash that Kafka expects."""
    assert murmur2(data) == signed % 2**32


def test_a_partition_ignores_the_hashs_sign() -> None:
    """A negative hash gives the partition that Java's toPositive gives."""
    assert partition_of("foobar", 12) == (-790332482 & 0x7FFFFFFF) % 12
    assert partition_of("abc", 12) == 479470107 % 12


def test_a_team_is_hashed_as_utf8() -> None:
    """A name beyond ASCII is hashed by its UTF-8 bytes, as clients send it."""
    assert partition_of("bü", 1000) == (murmur2(b"b\xc3\xbc") & 0x7FFFFFFF) % 1000


def test_a_topic_without_partitions_is_refused() -> None:
    """No partition count below one is taken."""
    with pytest.raises(ValueError, match="at least one partition"):
        partition_of("team", 0)
