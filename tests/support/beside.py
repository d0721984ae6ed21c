"""Processes that follow what the pipeline makes public, and are killed beside it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_END_S = 120


class Beside:
    """A module of tests.support as a process that writes lines of JSON to a file of its own."""

    def __init__(self, module: str, file: Path, *arguments: str) -> None:
        self._command = [sys.executable, "-m", module, str(file), *arguments]
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again."""
        clean = {key: value for key, value in os.environ.items() if "METERSTREAM_" not in key}
        self._process = subprocess.Popen(self._command, cwd=ROOT, env=clean)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_END_S)
            self._process = None

    def lines(self) -> list[Any]:
        """Return what it has written in all of its lives; it must not have ended by itself."""
        assert self._process is None or self._process.poll() is None, "it has ended"
        if not self._file.exists():
            return []
        whole, _, _ = self._file.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]
