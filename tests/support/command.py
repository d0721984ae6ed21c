"""Runs the meterstream command as a user does: as a process."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from meterstream.cli.main import main

TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command printed, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.stdout)


def call_command(*arguments: str, env: Mapping[str, str]) -> Ran:
    """Run `meterstream` within this process, which saves the start of one, with these settings.

    For tests of what a command does; how it is as a process others tell.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith("METERSTREAM_")}
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.dict(os.environ, clean | dict(env), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def run_command(
    *arguments: str, env: Mapping[str, str], cwd: Path, timeout_s: float = TIMEOUT_S
) -> Ran:
    """Run `meterstream` to its end, with no settings but those given."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("METERSTREAM_")}
    done = subprocess.run(
        [sys.executable, "-m", "meterstream.cli", *arguments],
        env=clean | dict(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
