"""A partition on the real broker that tests of the journal begin with."""

from collections.abc import Iterator

import pytest
from tests.support.metered import MeteredPartition
from tests.support.services import create_topics


@pytest.fixture
def partition(kafka: str, prefix: str) -> Iterator[MeteredPartition]:
    """Return a partition with three steps of ten events in its journal."""
    create_topics(kafka, prefix, 1)
    made = MeteredPartition(kafka, prefix)
    for _ in range(3):
        made.count(10)
    yield made
    made.records.close()
