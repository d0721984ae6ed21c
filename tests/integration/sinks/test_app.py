"""The sink as a process: settings, signals, exit codes."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from tests.integration.sinks.journal_topic import JournalTopic, create_topics
from tests.support.journal import MINUTE_US, Writer, cell
from tests.support.waiting import eventually

from meterstream.local.ports import free_ports
from meterstream.sinks import app
from meterstream.sinks.settings import SinkSettings

NOW_US = time.time_ns() // 1_000_000 * 1000
FLUSH_ROWS = 5
COMMAND = [sys.executable, "-m", "meterstream.sinks.app"]


@pytest.fixture
def environment(settings: SinkSettings) -> dict[str, str]:
    """Return the environment of a sink process on this test's topics and tables."""
    (port,) = free_ports(1)
    return {
        **os.environ,
        "METERSTREAM_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "METERSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "METERSTREAM_CLICKHOUSE_URL": settings.clickhouse_url,
        "METERSTREAM_CLICKHOUSE_USER": settings.clickhouse_user,
        "METERSTREAM_CLICKHOUSE_PASSWORD": settings.clickhouse_password.get_secret_value(),
        "METERSTREAM_CLICKHOUSE_DATABASE": settings.clickhouse_database,
        "METERSTREAM_SINK_METRICS_PORT": str(port),
        "METERSTREAM_SINK_FLUSH_MS": "60000",
        "METERSTREAM_SINK_FLUSH_ROWS": str(FLUSH_ROWS),
    }


@pytest.fixture
def process(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Return a running sink; it is killed if the test leaves it."""
    running = subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, text=True)
    yield running
    running.kill()
    running.wait()


def status(environment: dict[str, str], page: str) -> int:
    """Return the status of one of the process's pages, 0 while nobody listens."""
    url = f"http://127.0.0.1:{environment['METERSTREAM_SINK_METRICS_PORT']}{page}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_sigterm_stores_what_is_pending_and_leaves(
    kafka: str,
    prefix: str,
    migrated: Client,
    environment: dict[str, str],
    process: subprocess.Popen[str],
) -> None:
    """A flush that would come in a minute comes at once, and the exit code is 0."""
    create_topics(kafka, prefix, "journal", "events", "catalog")
    writer = Writer()
    minute = NOW_US // MINUTE_US * MINUTE_US
    eventually(lambda: status(environment, "/readyz") == 200, 60, "the sink is ready")
    assert status(environment, "/healthz") == 200
    JournalTopic(kafka, prefix).write(writer.genesis(NOW_US), writer.step([cell(minute, runs=3)]))
    url = f"http://127.0.0.1:{environment['METERSTREAM_SINK_METRICS_PORT']}/metrics"

    def has_read() -> bool:
        with urllib.request.urlopen(url, timeout=5) as answer:
            wanted = 'meterstream_sink_records_total{feed="cells",partition="0"} 2.0'
            return wanted in answer.read().decode()

    eventually(has_read, 60, "the records read")
    assert migrated.command("SELECT count() FROM usage_minutes") == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert migrated.command("SELECT sum(runs) FROM usage_minutes FINAL") == 3


def test_a_flush_does_not_import_pandas(
    kafka: str,
    prefix: str,
    migrated: Client,
    environment: dict[str, str],
    process: subprocess.Popen[str],
) -> None:
    """Where pandas is installed for others, the sink takes neither its time nor its memory."""
    create_topics(kafka, prefix, "journal", "events", "catalog")
    writer = Writer()
    minute = NOW_US // MINUTE_US * MINUTE_US
    charges = [{"event_offset": n, "event_time": NOW_US} for n in range(FLUSH_ROWS)]
    JournalTopic(kafka, prefix).write(
        writer.genesis(NOW_US), writer.step([cell(minute, runs=FLUSH_ROWS)], charges=charges)
    )
    landed = "SELECT (SELECT count() FROM ledger) > 0 AND (SELECT count() FROM runs) > 0"
    eventually(lambda: migrated.command(landed) == 1, 60, "the flushes of both feeds")
    loaded = Path(f"/proc/{process.pid}/maps").read_text()
    assert "/pyarrow/" in loaded
    assert "/pandas/" not in loaded


def test_settings_that_cannot_be_used_end_it_at_once() -> None:
    """Exit code 2, and one message with every fault."""
    environment = {
        **os.environ,
        "METERSTREAM_SINK_FLUSH_MS": "soon",
        "METERSTREAM_CLICKHOUSE_URL": "nowhere",
    }
    done = subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "METERSTREAM_SINK_FLUSH_MS" in done.stderr
    assert "METERSTREAM_CLICKHOUSE_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """All settings are variables."""
    assert app.main(["--fast"]) == 2
    assert "--help" in capsys.readouterr().err


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """Who wants to set the sink up finds the variables, and no secret in them."""
    assert app.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in SinkSettings.model_fields:
        assert f"METERSTREAM_{name.upper()} [" in text


def test_a_feed_that_fails_gives_exit_code_1(
    kafka: str,
    prefix: str,
    environment: dict[str, str],
    process: subprocess.Popen[str],
) -> None:
    """The others go on, /healthz says so, and the process ends with 1 when it is told to."""
    create_topics(kafka, prefix, "journal", "events", "catalog")
    eventually(lambda: status(environment, "/readyz") == 200, 60, "the sink is ready")
    writer = Writer()
    writer.genesis(NOW_US)
    JournalTopic(kafka, prefix).write(writer.step([cell(NOW_US)]), check=False)
    eventually(lambda: status(environment, "/healthz") == 503, 60, "the failure")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1
