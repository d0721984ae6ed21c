"""The configuration of a broker that is alone on one machine."""

import base64
import uuid
from collections.abc import Mapping
from pathlib import Path

from meterstream.local.ports import LOOPBACK

MESSAGE_BYTES_MAX = 32 * 1024 * 1024
"""Journal records of a large step fit into one message."""


def broker_settings(
    *, port: int, controller_port: int, log_dir: Path | str, extra: Mapping[str, str]
) -> dict[str, str]:
    """Return the server properties; `extra` wins over what stands here."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(log_dir),
        # One node: nothing can be replicated.
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # Few internal partitions: the first group and the first transaction come up fast.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "4",
        # A topic with the wrong settings must be seen, not made up.
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "group.consumer.min.session.timeout.ms": "1000",
        "group.consumer.min.heartbeat.interval.ms": "500",
        # After a kill the controller lets the broker back in when this time is over.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
        "message.max.bytes": str(MESSAGE_BYTES_MAX),
        "replica.fetch.max.bytes": str(MESSAGE_BYTES_MAX),
        # The defaults are for big machines; the cleaner's buffer alone would be 128 MB of heap.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "4",
    } | dict(extra)


def properties_text(settings: Mapping[str, str]) -> str:
    """Write settings in the format of Java properties files."""
    lines = (f"{name}={_escape(value)}" for name, value in sorted(settings.items()))
    return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    # UTF-16 code units, since that is what the format's \uXXXX means.
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    return "".join(chr(code) if code < 0x80 else f"\\u{code:04x}" for code in codes)


def new_cluster_id() -> str:
    """Return a random id in Kafka's form: 16 bytes, base64 for URLs, unpadded."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # A leading dash would read as an option of the format command.
        if not text.startswith("-"):
            return text
