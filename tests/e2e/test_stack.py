"""The command on a whole stack of its own, as a user has it: every number comes out as sent."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families
from tests.support.command import run_command
from tests.support.craft import encode, text_of
from tests.support.craft import run as craft_run
from tests.support.model import Rules
from tests.support.running_stack import RunningStack
from tests.support.slow_count import slow_count, stored_totals, totals
from tests.support.waiting import eventually

from meterstream.cli.connection import ClickHouseAddress
from meterstream.cli.stack.embedded import DEFAULT_PARTITIONS
from meterstream.cli.traffic.population import Sizes
from meterstream.cli.traffic.runs import RunMaker
from meterstream.cli.traffic.synthetic import Synthetic

pytestmark = pytest.mark.timeout(900)  # whichever test is first waits for the stack too

LAND_TIMEOUT_S = 240.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Return a running stack; its directory has a space in its name."""
    running = RunningStack(tmp_path_factory.mktemp("stack") / "my data")
    running.start()
    yield running
    if running.is_up:
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
    stack("audit", "--timeout", "240")
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
    stack("audit", "--timeout", "240")
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
    stack("audit", "--timeout", "240")
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
    stack("audit", "--timeout", "240")
    assert stack.sums() == expected


def test_a_letter_is_shown_as_it_came(stack: RunningStack) -> None:
    """`dlq show --raw` gives the refused bytes unchanged, and `show` says why they were refused."""
    connection = json.loads((stack.data / "stack.json").read_text())
    producer = Producer({"bootstrap.servers": connection["kafka"]["bootstrap"]})
    refused = b'{"specversion":"1.0", not json \n'
    producer.produce("meterstream.events", key=b"team-1", value=refused, partition=0)
    assert producer.flush(30) == 0
    stack("audit", "--timeout", "240")
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
    stack("audit", "--timeout", "240")
    before = _metrics(stack)
    sent = stack(*arguments, "1500").json["totals"]
    stack("audit", "--timeout", "240")
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
    stack("audit", "--timeout", "240")
    connection = json.loads((stack.data / "stack.json").read_text())
    counted = slow_count(connection["kafka"]["bootstrap"], Rules(partitions=DEFAULT_PARTITIONS))
    client = ClickHouseAddress(**connection["clickhouse"]).client()
    stored = stored_totals(client)
    client.close()
    assert len(stored) > 100
    assert stored == totals(counted.values())


CARD = """\
name: default
version: 1
effective_from: 2026-01-01T00:00:00Z
prices:
  - {run_micro: 500, input_micro_per_1k: 250000}
"""


def test_corrections_go_all_the_way(stack: RunningStack, tmp_path: Path) -> None:
    """What was rerated, voided and adjusted is right in usage, balance and draws, to the micro."""
    stack("credits", "grant", "10", "--team", "acme", "--force", "--id", "g")

    def balance_micro() -> int:
        balances = stack("credits", "balance", "--team", "acme", "--json").json["balances"]
        return int(balances[0]["balance_micro"]) if balances else 0

    eventually(lambda: balance_micro() == 10_000_000, LAND_TIMEOUT_S, "the account has begun")
    connection = json.loads((stack.data / "stack.json").read_text())
    kafka = connection["kafka"]["bootstrap"]
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    now_us = time.time_ns() // 1000
    for number, name in enumerate(("a", "b", "c"), start=1):
        event = craft_run(name, now_us, team_id="acme", run_id=name, input_tokens=1000 * number)
        producer.produce("meterstream.events", encode(event), key="acme")
    assert producer.flush(30) == 0
    client = ClickHouseAddress(**connection["clickhouse"]).client()

    def usage() -> tuple[int, ...]:
        sums = "sum(runs), sum(unpriced_runs), sum(input_tokens), sum(credits_micro)"
        of_team = "FROM usage_minutes FINAL WHERE team_id = 'acme'"
        return tuple(client.query(f"SELECT {sums} {of_team}").result_rows[0])

    def found(sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in client.query(sql).result_rows]

    eventually(lambda: usage() == (3, 3, 6000, 0), LAND_TIMEOUT_S, "runs that nothing prices")
    history = "SELECT count() FROM runs FINAL WHERE team_id = 'acme'"
    eventually(lambda: found(history) == [(3,)], LAND_TIMEOUT_S, "single runs")
    (tmp_path / "card.yaml").write_text(CARD)
    stack("cards", "publish", str(tmp_path / "card.yaml"))
    day = ("--from", text_of(now_us - 10**6), "--to", text_of(now_us + 10**6))
    rerated = stack("credits", "rerate", *day, "--team", "acme", "--unpriced", "--yes", "--json")
    assert rerated.json["written"] == 3
    for _ in range(2):
        stack("credits", "void", "a", "--team", "acme")
    adjust = ("--credits", "-0.25", "--input-tokens", "-100", "--number", "1", "--reason", "agreed")
    refused = run_command(
        "credits", "adjust", "b", "--team", "acme", *adjust,
        env={"METERSTREAM_DATA": str(stack.data)}, cwd=tmp_path,
    )  # fmt: skip
    assert (refused.exit_code, "the next is 2" in refused.stderr) == (2, True)
    stack("credits", "adjust", "b", "--team", "acme", *adjust[:4], *adjust[6:])
    wanted = (2, 0, 4900, 1_001_000)
    eventually(lambda: usage() == wanted, LAND_TIMEOUT_S, "corrections in ClickHouse")
    stack("audit", "--timeout", "240")
    assert usage() == wanted
    micro = "toInt64(balance * 1000000), toInt64(granted * 1000000), toInt64(drawn * 1000000)"
    assert found(f"SELECT {micro} FROM balances WHERE team_id = 'acme'") == [
        (8_999_000, 10_000_000, 1_001_000)
    ]
    drawn = "SELECT run_id, sum(credits_micro) FROM draws_by_run WHERE team_id = 'acme'"
    assert found(f"{drawn} GROUP BY run_id ORDER BY run_id") == [
        ("a", 0), ("b", 250_500), ("c", 750_500),
    ]  # fmt: skip
    numbers = "SELECT run_id, number, runs FROM corrections FINAL WHERE team_id = 'acme'"
    assert found(f"{numbers} ORDER BY run_id, number") == [
        ("a", 0, -1), ("a", 1, 0), ("b", 1, 0), ("b", 2, 0), ("c", 1, 0),
    ]  # fmt: skip
    client.close()
    assert balance_micro() == 8_999_000
    (left,) = stack("credits", "grants", "--team", "acme", "--json").json["grants"]
    assert (left["left_micro"], left["status"]) == (8_999_000, "open")
    explained = stack("credits", "explain", "b", "--json").json
    assert (explained["credits_micro"], explained["paid_micro"]) == (250_500, {"funded": 250_500})


def test_data_survives_restarts_and_nothing_outlives_the_stack(stack: RunningStack) -> None:
    """After Ctrl-C and after kill -9 nothing runs on, and the next start has all the data."""
    before = stack.sums()
    sent = stack("generate", "--events", "1000", "--seed", "9", "--json").json["totals"]
    expected = (
        before[0] + 1000,
        before[1] + sent["input_tokens"],
        before[2] + sent["output_tokens"],
    )
    assert stack.wait_for(expected[0]) == expected
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
    stack("audit", "--timeout", "240")
    assert stack.sums() == expected
