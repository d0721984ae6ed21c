"""The command on a whole stack of its own, as a user has it: every number comes out as sent."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest
import urllib3
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families
from tests.support.command import Ran, run_command
from tests.support.model import Rules
from tests.support.slow_count import slow_count, stored_totals, totals
from tests.support.waiting import eventually

from meterstream.cli.connection import ClickHouseAddress
from meterstream.cli.stack.embedded import DEFAULT_PARTITIONS
from meterstream.cli.traffic.population import Sizes
from meterstream.cli.traffic.runs import RunMaker
from meterstream.cli.traffic.synthetic import Synthetic

pytestmark = pytest.mark.timeout(300)  # whichever test is first waits for the stack too

START_TIMEOUT_S = 150.0
STOP_TIMEOUT_S = 90.0
LAND_TIMEOUT_S = 90.0


class RunningStack:
    """`meterstream stack` as a process, and commands that find it by its directory."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._log = data.parent / f"{data.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        clean = {key: value for key, value in os.environ.items() if "METERSTREAM_" not in key}
        with self._log.open("wb") as log:
            self._process = _stack_process(self.data, log, clean)
        eventually(self._ready, START_TIMEOUT_S, f"a stack in {self.data}")

    def _ready(self) -> bool:
        text = self._log.read_text()
        if self._process is None or self._process.poll() is not None:
            pytest.fail(f"the stack has ended: {text}")
        return "Ready." in text

    def family(self) -> list[psutil.Process]:
        """Return the stack's process and all that it started."""
        assert self._process is not None
        own = psutil.Process(self._process.pid)
        return [own, *own.children(recursive=True)]

    def end(self, number: signal.Signals) -> int:
        """Send a signal to the stack alone, and return its exit code when all of it is gone."""
        assert self._process is not None
        family = self.family()
        self._process.send_signal(number)
        code = self._process.wait(STOP_TIMEOUT_S)
        _, left = psutil.wait_procs(family, STOP_TIMEOUT_S)
        assert not left, f"left running: {left}"
        return code

    def __call__(self, *arguments: str) -> Ran:
        ran = run_command(
            *arguments, env={"METERSTREAM_DATA": str(self.data)}, cwd=self.data.parent
        )
        assert ran.exit_code == 0, ran.stderr
        return ran

    def sums(self) -> tuple[int, int, int]:
        """Return runs, input and output tokens as `usage` tells them."""
        rows = self("usage", "--json", "--limit", "1000").json["rows"]
        return (
            sum(row["runs"] for row in rows),
            sum(row["input_tokens"] for row in rows),
            sum(row["output_tokens"] for row in rows),
        )

    def wait_for(self, runs: int) -> tuple[int, int, int]:
        """Wait until so many runs have landed, and return the sums."""

        def landed() -> tuple[int, int, int] | None:
            sums = self.sums()
            return sums if sums[0] >= runs else None

        return eventually(landed, LAND_TIMEOUT_S, f"{runs} runs in ClickHouse") or (0, 0, 0)


def _stack_process(
    data: Path, log: IO[bytes], environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "meterstream.cli", "stack", "--data", str(data)],
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
    )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Return a running stack; its directory has a space in its name."""
    running = RunningStack(tmp_path_factory.mktemp("stack") / "my data")
    running.start()
    yield running
    running.end(signal.SIGTERM)


def test_what_is_sent_is_what_usage_says(stack: RunningStack) -> None:
    """Resends and broken events between them change no number; a second sending neither."""
    before = stack.sums()
    arguments = ("generate", "--events", "5000", "--seed", "3", "--duplicates", "2%")
    sent = stack(*arguments, "--invalid", "1%", "--json").json["totals"]
    expected = (
        before[0] + sent["unique_runs"],
        before[1] + sent["input_tokens"],
        before[2] + sent["output_tokens"],
    )
    assert stack.wait_for(expected[0]) == expected
    assert stack(*arguments, "--json").json["totals"]["unique_runs"] == 5000
    stack("audit", "--timeout", "90")
    assert stack.sums() == expected


def test_a_second_replay_changes_no_number(stack: RunningStack, tmp_path: Path) -> None:
    """A trace that is replayed twice with one seed is counted once."""
    trace = tmp_path / "trace.csv"
    lines = [f"{n * 100},{50 + n},{n % 9}\n" for n in range(800)]
    trace.write_text("timestamp_ms,input_length,output_length\n" + "".join(lines))
    before = stack.sums()
    stack("replay", str(trace), "--seed", "5")
    expected = (
        before[0] + 800,
        before[1] + sum(50 + n for n in range(800)),
        before[2] + sum(n % 9 for n in range(800)),
    )
    assert stack.wait_for(expected[0]) == expected
    stack("replay", str(trace), "--seed", "5")
    stack("audit", "--timeout", "90")
    assert stack.sums() == expected


def test_dead_letters_of_another_partitioner_come_back_once(stack: RunningStack) -> None:
    """Events without a key stand in the queue as wrong_partition, and one replay counts each."""
    before = stack.sums()
    connection = json.loads((stack.data / "stack.json").read_text())
    producer = Producer({"bootstrap.servers": connection["kafka"]["bootstrap"]})
    start_us = int(time.time() * 1_000_000) - 30_000_000
    runs = RunMaker(Sizes(), 5, "urn:no-key").make(Synthetic(400, 10_000_000, 5), start_us)
    sent = list(runs)
    for number, run in enumerate(sent):
        producer.produce("meterstream.events", value=run.value, partition=number % 4)
    assert producer.flush(30) == 0
    stack("audit", "--timeout", "90")
    counts = stack("dlq", "list", "--summary", "--json").json["counts"]
    assert counts["wrong_partition"] > 100
    assert stack.sums()[0] == before[0] + len(sent) - counts["wrong_partition"]
    replayed = stack("dlq", "replay", "--json").json
    assert replayed["sent"] == {"wrong_partition": counts["wrong_partition"]}
    expected = (
        before[0] + len(sent),
        before[1] + sum(run.input_tokens for run in sent),
        before[2] + sum(run.output_tokens for run in sent),
    )
    assert stack.wait_for(expected[0]) == expected
    stack("dlq", "replay")
    stack("audit", "--timeout", "90")
    assert stack.sums() == expected


def test_a_letter_is_shown_as_it_came(stack: RunningStack) -> None:
    """`dlq show --raw` gives the refused bytes unchanged, and `show` says why they were refused."""
    connection = json.loads((stack.data / "stack.json").read_text())
    producer = Producer({"bootstrap.servers": connection["kafka"]["bootstrap"]})
    refused = b'{"specversion":"1.0", not json \n'
    producer.produce("meterstream.events", key=b"team-1", value=refused, partition=0)
    assert producer.flush(30) == 0
    stack("audit", "--timeout", "90")
    letters = stack("dlq", "list", "--reason", "not_json", "--last", "1", "--json").json["letters"]
    place = letters[0]["letter"]
    assert stack("dlq", "show", place, "--raw").stdout.encode() == refused
    shown = stack("dlq", "show", place, "--json").json
    assert shown["headers"]["reason"] == "not_json"
    assert shown["key"] == "team-1"


def test_sql_reads_and_does_not_write(stack: RunningStack) -> None:
    """`sql` answers as rows, as JSON and in ClickHouse's formats, and only --write may change."""
    assert stack("sql", "SELECT 1 AS one, 'a' AS letter", "--json").json == [
        {"one": 1, "letter": "a"}
    ]
    assert stack("sql", "SELECT 1 AS one, 2 AS two").stdout == "one\ttwo\n1\t2\n"
    assert stack("sql", "SELECT 1 AS one", "--format", "CSVWithNames").stdout == '"one"\n1\n'
    env = {"METERSTREAM_DATA": str(stack.data)}
    for query in ("DROP TABLE charges", "SELECT nothing"):
        refused = run_command("sql", query, env=env, cwd=stack.data.parent)
        assert refused.exit_code == 2
        assert len(refused.stderr.splitlines()) == 1


MOVING = {
    "meter": (
        "events_position",
        "clock_seconds",
        "dedup_ids",
        "verdicts_total",
        "rejected_total",
        "batch_events_count",
        "journal_records_total",
        "journal_bytes_total",
        *(f"stage_seconds_count {stage}" for stage in ("wait", "compute", "journal", "apply")),
    ),
    "publisher": ("dead_letters_total", "transactions_total", "transaction_seconds_count"),
    "sink": (
        "records_total",
        "rows_total",
        "flush_seconds_count",
        "freshness_seconds_count",
    ),
}
"""By service: what goes up with every event that is sent."""
PRESENT = {
    "meter": (
        "lag_records",
        "lag_seconds",
        "live_cells",
        "dedup_bytes",
        "restore_seconds",
        "catalog_age_seconds",
    ),
    "publisher": ("journal_lag_records",),
    "sink": ("lag_records", "lag_seconds", "void_records_total", "closed_until_seconds"),
}
"""By service: what has a value at any time."""


def _metrics(stack: RunningStack) -> dict[str, float]:
    """Return the metrics of all services, summed over their labels other than `stage`."""
    found: dict[str, float] = {}
    addresses = json.loads((stack.data / "stack.json").read_text())["services"]
    for service, address in addresses.items():
        page = urllib3.request("GET", f"{address}/metrics", timeout=10).data.decode()
        families = text_string_to_metric_families(page)
        for sample in (sample for family in families for sample in family.samples):
            name = sample.name.removeprefix(f"meterstream_{service}_")
            name = f"{service} {name} {sample.labels.get('stage', '')}".rstrip()
            found[name] = found.get(name, 0) + sample.value
    return found


def test_metrics_tell_what_happens(stack: RunningStack) -> None:
    """Each service's counters go up by what was sent, and its gauges have values."""
    arguments = ("generate", "--seed", "41", "--invalid", "2%", "--json", "--events")
    stack(*arguments, "500")
    stack("audit", "--timeout", "90")
    before = _metrics(stack)
    sent = stack(*arguments, "1500").json["totals"]
    stack("audit", "--timeout", "90")
    after = _metrics(stack)
    still = [
        f"{service} {name}"
        for service, names in MOVING.items()
        for name in names
        if not after[f"{service} {name}"] > before.get(f"{service} {name}", 0)
    ]
    assert still == []
    missing = [
        f"{service} {name}"
        for service, names in PRESENT.items()
        for name in names
        if f"{service} {name}" not in after
    ]
    assert missing == []
    decided = after["meter verdicts_total"] - before["meter verdicts_total"]
    assert decided == sent["messages"]
    refused = after["meter rejected_total"] - before["meter rejected_total"]
    assert refused == after["publisher dead_letters_total"] - before["publisher dead_letters_total"]
    assert after["meter live_cells"] > 0
    assert after["meter lag_records"] == after["sink lag_records"] == 0


def test_every_cell_is_as_counted_slowly(stack: RunningStack) -> None:
    """What was sent, refused, resent and replayed makes the cells that a plain reader counts."""
    stack("generate", "--events", "2000", "--seed", "8", "--duplicates", "5%", "--invalid", "3%")
    stack("audit", "--timeout", "90")
    connection = json.loads((stack.data / "stack.json").read_text())
    counted = slow_count(connection["kafka"]["bootstrap"], Rules(partitions=DEFAULT_PARTITIONS))
    client = ClickHouseAddress(**connection["clickhouse"]).client()
    stored = stored_totals(client)
    client.close()
    assert len(stored) > 100
    assert stored == totals(counted.values())


@pytest.mark.timeout(600)
def test_data_survives_restarts_and_nothing_outlives_the_stack(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """After Ctrl-C and after kill -9 nothing runs on, and the next start has all the data."""
    stack = RunningStack(tmp_path_factory.mktemp("restarts") / "data")
    stack.start()
    sent = stack("generate", "--events", "1000", "--seed", "9", "--json").json["totals"]
    expected = (1000, sent["input_tokens"], sent["output_tokens"])
    assert stack.wait_for(1000) == expected
    password = json.loads((stack.data / "stack.json").read_text())["clickhouse"]["password"]
    assert stack.end(signal.SIGINT) == 0
    assert stack.sums() == expected, "an ended stack's data can be read"
    stack.start()
    again = json.loads((stack.data / "stack.json").read_text())["clickhouse"]
    assert again["password"] == password
    assert stack.sums() == expected
    assert stack.end(signal.SIGKILL) == -signal.SIGKILL
    stack.start()
    stack("generate", "--events", "1000", "--seed", "9")
    stack("audit", "--timeout", "90")
    assert stack.sums() == expected
    stack.end(signal.SIGINT)
