"""The whole pipeline on a broker that wants TLS, a client's certificate and a password.

Each service has a user of its own, with the rights that docs/operations.md gives it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trustme
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from cryptography.hazmat.primitives import serialization
from tests.support.command import run_command
from tests.support.guarded import guarded_broker
from tests.support.notices import NOTIFIER, SECRET, SECRET_VARIABLE, webhook, write_file
from tests.support.rights import grant_documented_rights
from tests.support.services import METER, PUBLISHER, Service, create_topics, run_of, services
from tests.support.stack import ClickHouseAddress
from tests.support.waiting import eventually

from meterstream.producers import Publisher, PublisherSettings

SINK = "meterstream.sinks.app"
ORGANISATIONS = ("--organisations",)
PREFIX = "guarded."
PASSWORD = "correct horse"
RUNS = 200
USERS = ("admin", "producer", "meter", "publisher", "sink", "notifier", "commands")


@dataclass(frozen=True)
class Guarded:
    """A broker's open door, for the tests alone, and how to come in by the other one."""

    open_bootstrap: str
    settings: dict[str, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Return a broker whose guarded door takes neither strangers nor plain text."""
    directory = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(directory / "ca.pem"))
    server, client = ca.issue_cert("127.0.0.1"), ca.issue_cert("services@example.test")
    # Kafka takes keys in PKCS 8 only.
    key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
    (directory / "server.pem").write_bytes(pkcs8 + chain)
    client.private_key_pem.write_to_path(str(directory / "client.key"))
    client.cert_chain_pems[0].write_to_path(str(directory / "client.pem"))
    with guarded_broker(
        directory / "kafka",
        "SASL_SSL",
        dict.fromkeys(USERS, PASSWORD),
        ssl_client_auth="required",
        ssl_keystore_type="PEM",
        ssl_keystore_location=str(directory / "server.pem"),
        ssl_truststore_type="PEM",
        ssl_truststore_location=str(directory / "ca.pem"),
    ) as broker:
        grant_documented_rights(broker.open_bootstrap, PREFIX)
        create_topics(broker.open_bootstrap, PREFIX, 2)
        yield Guarded(
            broker.open_bootstrap,
            {
                "KAFKA_BOOTSTRAP": broker.guarded_bootstrap,
                "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_USERNAME": "commands",
                "KAFKA_SASL_PASSWORD": PASSWORD,
                "KAFKA_SSL_CA_FILE": str(directory / "ca.pem"),
                "KAFKA_SSL_CERTIFICATE_FILE": str(directory / "client.pem"),
                "KAFKA_SSL_KEY_FILE": str(directory / "client.key"),
                "TOPIC_PREFIX": PREFIX,
            },
        )


@pytest.fixture
def told(guarded: Guarded, clickhouse: ClickHouseAddress, database: str) -> dict[str, str]:
    """Return the settings of a service that comes in by the guarded door."""
    return guarded.settings | {
        "CLICKHOUSE_URL": clickhouse.url,
        "CLICKHOUSE_USER": clickhouse.user,
        "CLICKHOUSE_PASSWORD": clickhouse.password,
        "CLICKHOUSE_DATABASE": database,
        "SINK_METRICS_PORT": "0",
        "NOTIFIER_METRICS_PORT": "0",
    }


def environment_of(told: dict[str, str]) -> dict[str, str]:
    """Return the settings as the variables that tell them to a command."""
    return {f"METERSTREAM_{name}": value for name, value in told.items()}


def test_everything_comes_in_by_the_guarded_door(
    guarded: Guarded,
    told: dict[str, str],
    ch_client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All work over TLS with certificate and password, each with its documented rights alone."""
    environment = environment_of(told)
    admin, producer = (
        environment | {"METERSTREAM_KAFKA_SASL_USERNAME": user} for user in ("admin", "producer")
    )
    checked = run_command("topics", "--check", env=admin, cwd=tmp_path)
    assert checked.exit_code == 0, checked.stderr
    migrated = run_command("migrate", env=environment, cwd=tmp_path)
    assert migrated.exit_code == 0, migrated.stderr
    team = ("teams", "register", "team-1", "--organisation", "acme", "--no-wait")
    registered = run_command(*team, env=admin, cwd=tmp_path)
    assert registered.exit_code == 0, registered.stderr
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    file = write_file(tmp_path / "notifier.yaml", {"hook": webhook("http://127.0.0.1:9/")})
    told["NOTIFIER_FILE"] = str(file)
    with services(told["KAFKA_BOOTSTRAP"], PREFIX) as start:
        started = [
            start(module, arguments=arguments, **told | {"KAFKA_SASL_USERNAME": user})
            for user, module, arguments in (
                ("meter", METER, ()),
                ("meter", METER, ORGANISATIONS),
                ("sink", SINK, ()),
                ("publisher", PUBLISHER, ()),
                ("publisher", PUBLISHER, ORGANISATIONS),
                ("notifier", NOTIFIER, ()),
            )
        ]
        settings = PublisherSettings.from_environment(
            producer, spool_dir=tmp_path / "spool", publish_timeout_ms=10_000
        )
        with Publisher(settings) as publisher:
            for number in range(RUNS):
                publisher.publish(json.loads(run_of(number)[1]))
            publisher.flush(60)
        for service in started:
            service.wait_ready()
        limit = ("limits", "set", "--measure", "runs", "--window", "day", "--team", "team-1")
        for words in (limit, (*limit[:-2], "--organisation", "acme")):
            governed = run_command(*words, "--amount", "5", "--json", env=admin, cwd=tmp_path)
            assert governed.exit_code == 0, governed.stderr
            assert governed.json["in_force"]
        refused = run_command(*limit, "--amount", "9", env=producer, cwd=tmp_path)
        assert (refused.exit_code, "this user may not" in refused.stderr) == (3, True)
        stranger = Producer({"bootstrap.servers": guarded.open_bootstrap})
        stranger.produce(f"{PREFIX}events", key=b"team-1", value=b"{broken")
        assert stranger.flush(30) == 0

        def stored() -> bool:
            sums = "(SELECT sum(runs) FROM usage_minutes FINAL), (SELECT count() FROM runs FINAL)"
            return ch_client.query(f"SELECT {sums}").result_rows == [(RUNS, RUNS)]

        eventually(stored, 90, "all runs are in ClickHouse")

        def told_of_both() -> bool:
            used = "SELECT team_id, organisation_id, used FROM limits ORDER BY team_id"
            return ch_client.query(used).result_rows == [("", "acme", 10), ("team-1", "", 10)]

        eventually(told_of_both, 90, "both limits are in ClickHouse")
        audit = run_command("audit", "--json", "--timeout", "60", env=environment, cwd=tmp_path)
        assert audit.exit_code == 0, audit.stdout + audit.stderr
        assert audit.json["total"]["counted"] == RUNS
        letters = run_command("dlq", "list", "--json", env=environment, cwd=tmp_path)
        assert letters.json["counts"] == {"not_json": 1}
        dead = run_command("notifier", "dead", "list", "--json", env=environment, cwd=tmp_path)
        assert dead.json == []
        assert not any("authorization" in service.log.lower() for service in started)
        for service in started:
            assert PASSWORD not in service.log
            assert service.stop() == 0


def test_a_wrong_password_is_said_and_not_shown(told: dict[str, str], tmp_path: Path) -> None:
    """A service that is not let in says that the credentials are refused, and never shows them."""
    told["KAFKA_SASL_PASSWORD"] = "wrong horse"
    assert run_command("migrate", env=environment_of(told), cwd=tmp_path).exit_code == 0
    with services(told["KAFKA_BOOTSTRAP"], PREFIX) as start:
        for service in [start(module, **told) for module in (METER, SINK, PUBLISHER)]:
            said = partial(contains, service, "refuses the connection")
            eventually(said, 60, "the refusal is told")
            assert "Authentication failed" in service.log
            assert "wrong horse" not in service.log


def contains(service: Service, text: str) -> bool:
    """Tell whether a service has logged a text."""
    return text in service.log


@pytest.mark.parametrize("command", ["topics", "dlq list"])
def test_a_command_that_is_not_let_in_says_why(
    guarded: Guarded, tmp_path: Path, command: str
) -> None:
    """One line names the broker, what it said and the settings to check."""
    told = guarded.settings | {"KAFKA_SASL_PASSWORD": "wrong horse"}
    ran = run_command(*command.split(), env=environment_of(told), cwd=tmp_path)
    assert ran.exit_code == 3
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("meterstream: ")]
    assert f"Kafka at {told['KAFKA_BOOTSTRAP']} refuses the connection" in line
    assert "Authentication failed" in line
    assert line.endswith("check METERSTREAM_KAFKA_SECURITY_PROTOCOL, _SASL_* and _SSL_*")
