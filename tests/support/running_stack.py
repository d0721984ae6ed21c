"""`meterstream stack` as a process of its own, and commands that find it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import psutil
import pytest
from tests.support.command import Ran, call_command, run_command
from tests.support.waiting import eventually

_START_S = 300.0
_STOP_S = 120.0
_LAND_S = 240.0


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
        eventually(self._ready, _START_S, f"a stack in {self.data}")

    def _ready(self) -> bool:
        text = self._log.read_text()
        if self._process is None or self._process.poll() is not None:
            pytest.fail(f"the stack has ended: {text}")
        return "Ready." in text

    @property
    def is_up(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

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
        code = self._process.wait(_STOP_S)
        _, left = psutil.wait_procs(family, _STOP_S)
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
        told = {"METERSTREAM_DATA": str(self.data)}
        ran = call_command("usage", "--json", "--limit", "1000", env=told)
        assert ran.exit_code == 0, ran.stderr
        rows = ran.json["rows"]
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

        return eventually(landed, _LAND_S, f"{runs} runs in ClickHouse") or (0, 0, 0)


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
