"""A pipeline that has counted two days of events, shared by the tests that damage it in turn."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.integration.audit.pipeline import Pipeline
from tests.support.events import Generator, Mix, rate_card
from tests.support.model import DAY_US, HOUR_US, Record
from tests.support.stack import ClickHouseAddress

from meterstream.cli.main import main

NO_GAPS = Mix(gaps=0, skewed=0)
TODAY_US = int(time.time()) // 86_400 * DAY_US
FIRST_US = TODAY_US - 2 * DAY_US + 20 * HOUR_US
"""The evening of the day before yesterday: two days begin, and one ends, within the records."""


def records(partition: int, count: int, *, start_us: int = FIRST_US, seed: int = 1) -> list[Record]:
    """Return records of a day or so, at the offsets that a broker gives them."""
    made = Generator(seed + partition, partition=partition, partitions=2, mix=NO_GAPS)
    return list(made.records(count, start_us=start_us, step_us=20 * HOUR_US // count))


@dataclass
class Outcome:
    """What the command printed, and its exit status."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document that --json prints."""
        return json.loads(self.out)


Audit = Callable[..., Outcome]


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Audit:
    """Return a function that runs `meterstream audit` on a pipeline."""

    def run(pipeline: Pipeline, *options: str, **environment: str) -> Outcome:
        for name, value in (pipeline.environment() | environment).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["audit", *options])
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, printed.out, printed.err)

    return run


@pytest.fixture(scope="module")
def pipeline(kafka: str, clickhouse: ClickHouseAddress) -> Iterator[Pipeline]:
    """Return a pipeline of two partitions that has come to rest; its tables are whole."""
    name = f"t{uuid.uuid4().hex[:12]}"
    made = Pipeline(kafka, f"{name}.", clickhouse, name, partitions=2)
    with made.services():
        for partition in range(2):
            meter = made.meter(partition)
            some = records(partition, 1500)
            meter.count(some[:700], cards=[rate_card()])
            # A record of a writer that had lost the partition and did not know it yet: void.
            made.void_offset, _ = made.write_journal(partition, meter.stale)
            meter.count(some[700:])
        made.settle()
    yield made
    made.client.command(f"DROP DATABASE {name} SYNC")
    made.client.close()
