"""`meterstream demo` proves its numbers, can be broken off, and can be run again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.support.command import run_command
from tests.support.waiting import eventually

DEMO_S = 300.0

TRACE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:17:03.9799600,4808,10\n"
    "2023-11-16 18:17:04.0319605,3180,8\n"
    "2023-11-16 19:15:41.7710000,110,27\n"
)


def _line(text: str, name: str) -> list[str]:
    """Return the cells of the line of the totals that begins with a name."""
    (line,) = (
        line
        for line in text.splitlines()
        if line.strip().startswith(name) and line.strip().endswith(("equal", "DIFFERENT"))
    )
    return line.strip().removeprefix(name).split()


@pytest.mark.timeout(400)
def test_made_up_runs(tmp_path: Path) -> None:
    """Sent and stored totals are equal, the audit's difference is 0, and the exit code too."""
    ran = run_command("demo", "--events", "3000", env={}, cwd=tmp_path, timeout_s=DEMO_S)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    runs = _line(ran.stdout, "runs")
    assert runs == ["3,000", "3,000", "equal"]
    for name in (
        "input tokens",
        "output tokens",
        "micro-credits",
        "resends, not counted twice",
        "broken events, refused",
        "events in all",
    ):
        sent, stored, verdict = _line(ran.stdout, name)
        assert sent == stored != "0"
        assert verdict == "equal"
    assert "DIFFERENT" not in ran.stdout
    assert "difference 0" in ran.stdout
    assert "Usage by team" in ran.stdout
    assert "Usage by agent" in ran.stdout
    _, _, after = ran.stdout.partition("\nNext, on what the demo left:\n")
    assert [line.split()[1] for line in after.splitlines()[:3]] == ["stack", "usage", "sql"]
    usage = run_command(
        "usage", "--json", "--data", ".meterstream-demo", env={}, cwd=tmp_path
    ).json["rows"]
    assert sum(row["runs"] for row in usage) == 3000, "the data is there after the demo"


@pytest.mark.timeout(600)
def test_broken_off_and_run_again_with_a_trace(tmp_path: Path) -> None:
    """Ctrl-C in the middle leaves nothing running, and the next demo counts its trace alone."""
    (tmp_path / "trace.csv").write_text(TRACE)
    clean = {key: value for key, value in os.environ.items() if "METERSTREAM_" not in key}
    log = tmp_path / "demo.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "meterstream.cli", "demo", "--events", "1000000"],
            cwd=tmp_path,
            env=clean,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    eventually(lambda: "runs   stored" in log.read_text(), 150, "events that land")
    family = psutil.Process(process.pid).children(recursive=True)
    assert family, "a demo runs processes"
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    _, left = psutil.wait_procs(family, 60)
    assert not left
    ran = run_command("demo", "--trace", "trace.csv", env={}, cwd=tmp_path, timeout_s=DEMO_S)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    assert _line(ran.stdout, "runs") == ["3", "3", "equal"]
    assert _line(ran.stdout, "input tokens") == ["8,098", "8,098", "equal"]
    assert _line(ran.stdout, "output tokens") == ["45", "45", "equal"]
