"""A broker with two doors: one for the tests' own clients, and one that asks who is there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meterstream.local.kafka import KafkaBroker
from meterstream.local.ports import free_ports

_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@dataclass(frozen=True)
class GuardedBroker:
    """The addresses of both doors."""

    open_bootstrap: str
    guarded_bootstrap: str


@contextmanager
def guarded_broker(
    directory: Path, protocol: str, passwords: Mapping[str, str], **settings: str
) -> Iterator[GuardedBroker]:
    """Run a broker in `directory`; by its guarded door users come in, who may do nothing yet.

    `protocol` is SASL_PLAINTEXT or SASL_SSL, `passwords` are those of each user, and `settings` the
    guarded door's own, with `_` for `.`.
    """
    port, controller_port, guarded_port = free_ports(3)
    doors = f"PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guarded_port}"
    users = " ".join(f'user_{user}="{password}"' for user, password in passwords.items())
    own = {
        "sasl.enabled.mechanisms": "PLAIN",
        "plain.sasl.jaas.config": f"{_LOGIN} {users};",
        **{name.replace("_", "."): value for name, value in settings.items()},
    }
    broker = KafkaBroker(
        directory,
        port,
        controller_port=controller_port,
        settings={
            "listeners": f"{doors},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": doors,
            "listener.security.protocol.map": (
                f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:{protocol}"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            **{f"listener.name.guarded.{name}": value for name, value in own.items()},
        },
    )
    try:
        broker.start()
        yield GuardedBroker(broker.bootstrap, f"127.0.0.1:{guarded_port}")
    finally:
        broker.kill()
