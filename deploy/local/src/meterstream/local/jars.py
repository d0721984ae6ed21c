"""Brings the broker's jars from Maven Central into the cache, once."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from meterstream.local.cache import cache_dir, cached_directory
from meterstream.local.errors import MissingToolError, StartError
from meterstream.local.process import ManagedProcess

KAFKA_VERSION = "4.1.1"
_KAFKA_JAR = f"kafka_2.13-{KAFKA_VERSION}.jar"
_ERROR_LINES = 12
_LAST_OUTPUT_LINES = 200

Progress = Callable[[str], None]


def kafka_jars(progress: Progress = lambda _line: None) -> Path:
    """Return the directory with the Kafka server's jars; download them if it is not there.

    Maven does the download, so its settings (mirrors, proxies, credentials)
    hold; checksums that do not match are refused. `progress` gets one line for
    each step. Raises MissingToolError without Maven, StartError when the
    download fails.
    """
    pom = resources.files("meterstream.local").joinpath("kafka.pom.xml").read_bytes()
    return cached_directory(_cache_name(pom), lambda into: _download(pom, into, progress))


def kafka_jars_cached() -> bool:
    """Tell whether the jars are in the cache, so that neither Maven nor a network is needed."""
    pom = resources.files("meterstream.local").joinpath("kafka.pom.xml").read_bytes()
    return (cache_dir() / _cache_name(pom)).is_dir()


def _cache_name(pom: bytes) -> str:
    return f"kafka-{KAFKA_VERSION}-{hashlib.sha256(pom).hexdigest()[:12]}"


def _download(pom: bytes, into: Path, progress: Progress) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError(
            "the Kafka jars are not in the cache yet and Maven (mvn) is not on PATH: install it "
            "(Debian: apt-get install maven; macOS: brew install maven), or use Docker, or give "
            "the address of a running broker"
        )
    project = into / "pom.xml"
    project.write_bytes(pom)
    progress(f"fetching Apache Kafka {KAFKA_VERSION} through Maven (about 45 MB)")
    run = ManagedProcess(
        "maven",
        [
            maven,
            "--batch-mode",
            "--strict-checksums",
            f"--file={project}",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={into / 'libs'}",
        ],
        stdout=subprocess.PIPE,
        cwd=into,
    )
    run.start()
    output = _follow(run, progress)
    code = run.wait(timeout_s=30)
    if code != 0 or not (into / "libs" / _KAFKA_JAR).is_file():
        errors = [line for line in output if "ERROR" in line] or output
        shown = "\n".join(f"  | {line}" for line in errors[:_ERROR_LINES])
        raise StartError(
            f"Maven could not fetch Apache Kafka {KAFKA_VERSION} (exit code {code}); "
            f"check the network and Maven's mirrors (~/.m2/settings.xml):\n{shown}"
        )
    progress(f"Apache Kafka {KAFKA_VERSION} is in the cache")


def _follow(run: ManagedProcess, progress: Progress) -> list[str]:
    assert run.output is not None, "Maven was started with a pipe"
    lines: list[str] = []
    for raw in run.output:
        line = raw.decode(errors="replace").strip()
        lines.append(line)
        del lines[:-_LAST_OUTPUT_LINES]
        if line.startswith(("[INFO] Downloaded from", "Downloaded from")):
            # "Downloaded from NAME: URL (1.2 MB at 3 MB/s)"
            address, _, size = line.rpartition(" (")
            progress(f"fetched {address.rsplit('/', 1)[-1]} ({size}")
    return lines
