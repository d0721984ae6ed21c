"""A service that installs the SDK gets the SDK and three dependencies, and it works."""

import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIRECT = {"confluent-kafka", "prometheus-client", "pydantic"}
OF_PYDANTIC = {"annotated-types", "pydantic-core", "typing-extensions", "typing-inspection"}
OURS = {"meterstream-producers", "meterstream-schemas"}

_USE = """
import sys, tempfile
from meterstream.producers import Meter, Publisher, PublisherSettings
from meterstream.producers.testing import InMemoryPublisher
memory = InMemoryPublisher()
with Meter(memory, source="/alone", raise_errors=True).run(team_id="t") as run:
    run.tokens(input=3)
with tempfile.TemporaryDirectory() as spool:
    settings = PublisherSettings.make(
        kafka_bootstrap="127.0.0.1:9", spool_dir=spool, publish_timeout_ms=20_000
    )
    publisher = Publisher(settings)
    delivery = publisher.publish(memory.events[0])
    print(delivery.state, publisher.close(0))
"""


def _locked(names: set[str]) -> str:
    """Return the lines of the lock for these packages, hashes included."""
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements.lock").read_text())
    chosen = [entry for entry in entries if re.split(r"[=\[ ]", entry, maxsplit=1)[0] in names]
    assert len(chosen) == len(names)
    return "\n".join(chosen)


def test_the_sdk_installs_alone(tmp_path: Path) -> None:
    """In an empty environment, the wheels and the locked dependencies are all that it takes."""
    wheels = tmp_path / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    parts = [str(ROOT / "schemas"), str(ROOT / "producers")]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), *parts], check=True
    )
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    into = [*pip, "--python", str(python), "install"]
    lock = tmp_path / "requirements.txt"
    lock.write_text(_locked(DIRECT | OF_PYDANTIC))
    subprocess.run([*into, "--require-hashes", "--no-deps", "-r", str(lock)], check=True)
    # Our wheels bring no dependency that the lock's lines have not brought already.
    subprocess.run(
        [*into, "--no-index", "--find-links", str(wheels), "meterstream-producers"], check=True
    )
    listed = subprocess.run(
        [*pip, "--python", str(python), "list", "--format=freeze"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    installed = {line.partition("==")[0] for line in listed.splitlines()}
    normal = {re.sub(r"[-_.]+", "-", name).lower() for name in installed}
    assert normal == DIRECT | OF_PYDANTIC | OURS
    used = subprocess.run(
        [str(python), "-I", "-c", _USE], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert used.stdout == "spooled 1\n"
