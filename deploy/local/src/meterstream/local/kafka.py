"""One Apache Kafka node in KRaft mode on loopback, on the machine's Java."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from meterstream.local.deadlines import Deadlines
from meterstream.local.errors import LocalStackError, StartError
from meterstream.local.jars import Progress, kafka_jars
from meterstream.local.java import find_java
from meterstream.local.kafka_settings import broker_settings, new_cluster_id, properties_text
from meterstream.local.locking import Lock
from meterstream.local.ports import LOOPBACK, free_ports, is_listening, why_closed
from meterstream.local.process import ManagedProcess, tail_lines

_FORMAT_TIMEOUT_S = 60
_ASK_TIMEOUT_S = 2.0


class KafkaBroker:
    """A broker whose topics live in `data_dir`.

    Usage: `with KafkaBroker(path) as broker: client(broker.bootstrap)`. The
    port stays the same when the same object is stopped or killed and started
    again. The broker ends when the process that started it does.
    """

    name = "kafka"

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        controller_port: int | None = None,
        heap_mb: int = 512,
        settings: Mapping[str, str] | None = None,
        deadlines: Deadlines | None = None,
        progress: Progress = lambda _line: None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._port = port
        self._controller_port = controller_port
        self._heap_mb = heap_mb
        self._settings = dict(settings or {})
        self._deadlines = deadlines or Deadlines()
        self._progress = progress
        self._process: ManagedProcess | None = None
        self._log_start = 0

    @property
    def bootstrap(self) -> str:
        """The address for clients: `127.0.0.1:PORT`."""
        if self._port is None:
            raise StartError("the Kafka broker has no port before its first start")
        return f"{LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the Java virtual machine."""
        if self._process is None:
            raise StartError("the Kafka broker was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the broker's process lives."""
        return self._process is not None and self._process.running

    @property
    def log_file(self) -> Path:
        """The broker's own log."""
        return self.data_dir / "log" / "kafka.log"

    def start(self) -> Self:
        """Start the broker and return when it answers.

        Raises MissingToolError (no Java, no Maven), StartError (with the
        broker's last log lines), LocalStackError (the directory is not writable).
        """
        if self.running:
            raise StartError("the Kafka broker runs already")
        java, jars = find_java(), kafka_jars(self._progress)
        port, controller_port = self._choose_ports()
        config = self._write_config(port, controller_port)
        cluster_id = self._format(java, jars, config)
        self._log_start = self.log_file.stat().st_size if self.log_file.is_file() else 0
        self._progress(f"starting Kafka on {self.bootstrap}")
        process = ManagedProcess(
            "Kafka",
            [
                str(java),
                f"-Xmx{self._heap_mb}m",
                f"-Xms{min(self._heap_mb, 128)}m",
                "-XX:+UseG1GC",
                "-XX:+ExitOnOutOfMemoryError",
                "-Djava.awt.headless=true",
                *self._log_options(),
                "-cp",
                f"{jars}/libs/*",
                "kafka.Kafka",
                str(config),
            ],
            log_path=self.data_dir / "log" / "kafka.out",
            lock=Lock(self.data_dir / "lock", self._deadlines.lock_s),
            cwd=self.data_dir,
            env=_environment(),
            grace_s=self._deadlines.stop_s,
        )
        self._process = process
        process.start()
        try:
            process.wait_ready(
                lambda: self._answers(port, cluster_id), timeout_s=self._deadlines.start_s
            )
        except StartError as error:
            process.kill()
            raise StartError(self._with_own_log(str(error))) from None
        except BaseException:
            process.kill()
            raise
        return self

    def restart(self) -> Self:
        """Start again after a failure."""
        return self.start()

    def stop(self) -> None:
        """Stop in order (SIGTERM), or with SIGKILL when the deadline is over."""
        if self._process is not None:
            self._process.stop(timeout_s=self._deadlines.stop_s)

    def kill(self) -> None:
        """End the broker with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()

    def describe_failure(self, what: str) -> str:
        """Say what happened, with the broker's last log lines."""
        message = self._process.describe_failure(what) if self._process else f"Kafka {what}"
        return self._with_own_log(message)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _choose_ports(self) -> tuple[int, int]:
        for port in (self._port, self._controller_port):
            if port is not None and (reason := why_closed(port)) is not None:
                raise StartError(
                    f"port {port} on {LOOPBACK} {reason}, or give another port for Kafka"
                )
        free = free_ports(2)
        self._port = self._port or free[0]
        self._controller_port = self._controller_port or free[1]
        return self._port, self._controller_port

    def _write_config(self, port: int, controller_port: int) -> Path:
        config = self.data_dir / "server.properties"
        topics = self.data_dir / "topics"
        if "," in str(topics):
            raise LocalStackError(
                f"Kafka reads a comma in a path as the end of it: choose a data directory other "
                f"than {self.data_dir}"
            )
        settings = broker_settings(
            port=port, controller_port=controller_port, log_dir=topics, extra=self._settings
        )
        try:
            (self.data_dir / "log").mkdir(parents=True, exist_ok=True)
            topics.mkdir(exist_ok=True)
            config.write_text(properties_text(settings), encoding="ascii")
            logging = resources.files("meterstream.local").joinpath("log4j2.properties")
            (self.data_dir / "log4j2.properties").write_bytes(logging.read_bytes())
        except OSError as error:
            raise LocalStackError(
                f"cannot write Kafka's data directory {self.data_dir}: {error.strerror or error}; "
                "choose a directory that you may write to"
            ) from error
        return config

    def _log_options(self) -> list[str]:
        return [
            f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.properties'}",
            f"-Dmeterstream.log.file={self.log_file}",
        ]

    def _format(self, java: Path, jars: Path, config: Path) -> str:
        """Format the directory unless that was done before; return its cluster id."""
        topics = self.data_dir / "topics"
        done = topics / "meta.properties"
        if not done.is_file():
            self._progress("formatting Kafka's data directory")
            # What lies there without this file was left by a format that died.
            shutil.rmtree(topics)
            topics.mkdir()
            self._run_format(java, jars, config)
        for line in done.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "cluster.id":
                return value.strip()
        raise StartError(f"{done} names no cluster id: restore it from a copy, or remove {topics}")

    def _run_format(self, java: Path, jars: Path, config: Path) -> None:
        command = [str(java), "-Xmx128m", *self._log_options(), "-cp", f"{jars}/libs/*"]
        arguments = ["kafka.tools.StorageTool", "format", "-t", new_cluster_id(), "-c", str(config)]
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=_FORMAT_TIMEOUT_S,
            check=False,
            env=_environment(),
        )
        if done.returncode != 0:
            said = (done.stderr + done.stdout).strip()
            raise StartError(
                f"Kafka's data directory {self.data_dir} could not be formatted: {said}"
            )

    def _answers(self, port: int, cluster_id: str) -> bool:
        """Ask for the topics, and check that it is this broker that answers."""
        if not is_listening(port):
            return False
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        try:
            metadata = admin.list_topics(timeout=_ASK_TIMEOUT_S)
        except KafkaException:
            return False
        found = str(metadata.cluster_id)
        if found != cluster_id:
            raise StartError(
                f"another Kafka broker (cluster {found}) listens on {self.bootstrap}: "
                "stop it, or give another port"
            )
        return bool(metadata.brokers)

    def _with_own_log(self, message: str) -> str:
        own = tail_lines(self.log_file, lines=20, start=self._log_start)
        if not own:
            return message
        shown = "\n".join(f"  | {line}" for line in own)
        return f"{message}\nand of {self.log_file}:\n{shown}"


def _environment() -> dict[str, str]:
    # Without a UTF-8 locale Java cannot open paths that are not ASCII.
    return os.environ | {"LC_ALL": "C.UTF-8"}


def wait_for_broker(bootstrap: str, *, timeout_s: float) -> None:
    """Return when a broker answers at this address; raise LocalStackError when none does."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            admin.list_topics(timeout=_ASK_TIMEOUT_S)
        except KafkaException as error:
            if time.monotonic() >= deadline_s:
                reason = error.args[0].str() if error.args else str(error)
                raise LocalStackError(
                    f"no Kafka broker answers at {bootstrap} after {timeout_s:.0f} s: {reason}"
                ) from error
        else:
            return
