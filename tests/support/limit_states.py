"""Records of `limit-states`, written by the contract's own models, for tests of the gate."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import CollectorRegistry

from meterstream.producers import Gate, GateSettings
from meterstream.schemas.catalog import (
    OrganisationRegistered,
    OrganisationRegisteredData,
    TeamRegistered,
    TeamRegisteredData,
    catalog_key,
)
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.thresholds import (
    AsOf,
    LimitHeartbeat,
    LimitState,
    Owners,
    heartbeat_key,
    state_key,
)

TOPIC_ID = UUID(int=7)
USAGE_TOPIC_ID = UUID(int=70)
"""Of the topic whose events the meter of organisations counts."""
PARTITIONS = 4
_TIMEOUT_S = 60


class Record(NamedTuple):
    """One record, where it belongs."""

    partition: int
    key: bytes
    value: bytes | None


class Entry(NamedTuple):
    """One record of the catalog."""

    key: bytes
    value: bytes | None


def as_of(
    partition: int,
    offset: int,
    *,
    position: int | None = None,
    generation: int = 1,
    topic_id: UUID = TOPIC_ID,
) -> AsOf:
    """Return how far was counted; the events position is the journal offset unless it is told."""
    return AsOf(
        events_topic_id=topic_id,
        generation=generation,
        partition=partition,
        journal_offset=offset,
        events_position=offset if position is None else position,
    )


def limit(team: str = "team-1", limit_id: str = "cap", offset: int = 1, **told: Any) -> Record:
    """Return the state of a limit: hard, 10 runs a day, nothing used, unless told."""
    place = {
        name: told.pop(name) for name in ("position", "generation", "topic_id") if name in told
    }
    partition = partition_of(team, told.pop("partitions", PARTITIONS))
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    fields: dict[str, Any] = {
        "team_id": team,
        "organisation_id": None,
        "limit_id": limit_id,
        "limit_version": 1,
        "subject": "team",
        "subject_id": None,
        "measure": "runs",
        "window": "day",
        "window_start": today,
        "window_end": today + timedelta(days=1),
        "amount": 10,
        "enforcement": "hard",
        "used": 0,
        "reached_permille": 0,
    } | told
    if "state" not in fields:
        full = fields["enforcement"] == "hard" and fields["used"] >= fields["amount"]
        fields["state"] = "blocked" if full else "admitting"
    state = LimitState(as_of=as_of(partition, offset, **place), **fields)
    return Record(partition, state_key(state).encode(), state.model_dump_json().encode())


def organisation_limit(organisation: str = "acme", limit_id: str = "cap", **told: Any) -> Record:
    """Return the state of an organisation's limit, as `limit` does for a team."""
    names = {"team_id": None, "organisation_id": organisation, "subject": "organisation"}
    return limit(organisation, limit_id, **names | {"topic_id": USAGE_TOPIC_ID} | told)


def removed(record: Record) -> Record:
    """Return the record that removes a limit."""
    return record._replace(value=None)


def heartbeat(
    partition: int,
    offset: int,
    *,
    age_s: float = 0.0,
    clock: datetime | None = None,
    owners: Owners = "teams",
    counted: tuple[AsOf, ...] = (),
    all_told: bool = True,
    **place: Any,
) -> Record:
    """Return a heartbeat: counted up to `age_s` seconds ago."""
    beat = LimitHeartbeat(
        partition=partition,
        owners=owners,
        as_of=as_of(partition, offset, **place),
        clock=clock or datetime.now(UTC) - timedelta(seconds=age_s),
        counted=counted,
        all_told=all_told,
    )
    key = heartbeat_key(partition, owners).encode()
    return Record(partition, key, beat.model_dump_json().encode())


def heartbeats(offset: int, **told: Any) -> list[Record]:
    """Return a heartbeat of each partition."""
    return [heartbeat(partition, offset, **told) for partition in range(PARTITIONS)]


def organisation_heartbeats(
    offset: int, counted: dict[int, int] | None = None, *, topic_id: UUID = TOPIC_ID, **told: Any
) -> list[Record]:
    """Return a heartbeat of organisations of each partition.

    `counted` is up to where usage of teams is part of it, by partition of the topic of events.
    """
    parts = tuple(
        as_of(partition, position, topic_id=topic_id)
        for partition, position in (counted or {}).items()
    )
    told |= {"owners": "organisations", "counted": parts, "topic_id": USAGE_TOPIC_ID}
    return heartbeats(offset, **told)


def team_entry(team: str, organisation: str) -> Entry:
    """Return the catalog's entry of a team."""
    return _entry(
        TeamRegistered,
        TeamRegisteredData(team_id=team, organisation_id=organisation, name=team, zone="UTC"),
    )


def organisation_entry(organisation: str, parent: str | None = None) -> Entry:
    """Return the catalog's entry of an organisation."""
    return _entry(
        OrganisationRegistered,
        OrganisationRegisteredData(
            organisation_id=organisation, name=organisation, parent_id=parent
        ),
    )


def _entry(kind: Any, data: Any) -> Entry:
    event = kind(id="1", source="/tests", time=datetime.now(UTC), data=data)
    return Entry(catalog_key(event).encode(), event.model_dump_json(exclude_none=True).encode())


class FedGate(Gate):
    """A gate that is handed records, in place of a topic."""

    def __init__(self, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        super().__init__(GateSettings.make(kafka_bootstrap="none", **settings), self.registry)
        self._known.set_partitions(PARTITIONS)

    def take(self, *records: Record | Entry | Iterable[Record | Entry]) -> None:
        """Take records of either topic, or lists of them."""
        for one in records:
            for record in [one] if isinstance(one, Record | Entry) else one:
                if isinstance(record, Entry):
                    self._known.organisations.take_entry(*record)
                else:
                    self._known.take(*record)

    def reach_end(self) -> None:
        """Note that the catalog and all partitions were read to their ends."""
        self._known.organisations.catalog_reached_end()
        for partition in range(PARTITIONS):
            self._known.reached_end(partition)

    def begin_anew(self) -> None:
        """Read both logs from their beginnings once more."""
        self._known.organisations.catalog.begins_anew()
        for partition in range(PARTITIONS):
            self._known.begins_anew(partition)

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric of this gate."""
        full = f"meterstream_producer_gate_{name}"
        value = self.registry.get_sample_value(full, {"gate": "meterstream"} | labels)
        return 0.0 if value is None else value


def loaded_gate(*records: Record | Entry | Iterable[Record | Entry], **settings: Any) -> FedGate:
    """Return a gate that has read these records, and a heartbeat of each partition."""
    gate = FedGate(**settings)
    gate.take(*records)
    gate.take(heartbeats(1))
    gate.reach_end()
    return gate


class StatesTopic:
    """The topic of limit states, and a writer that commits as the publisher does."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.name = f"{prefix}limit-states"
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "transactional.id": f"{prefix}states"}
        )
        self._producer.init_transactions(_TIMEOUT_S)

    def create(self) -> None:
        """Make the topic."""
        new = NewTopic(self.name, PARTITIONS, 1, config={"cleanup.policy": "compact"})
        self._admin.create_topics([new])[self.name].result(_TIMEOUT_S)

    def delete(self) -> None:
        """Delete the topic."""
        self._admin.delete_topics([self.name])[self.name].result(_TIMEOUT_S)

    def write(self, *records: Record | Iterable[Record], commit: bool = True) -> None:
        """Write records, or lists of them, in one transaction."""
        self._producer.begin_transaction()
        for one in records:
            for record in [one] if isinstance(one, Record) else one:
                self._producer.produce(
                    self.name, record.value, record.key, partition=record.partition
                )
        self._producer.flush(_TIMEOUT_S)
        if commit:
            self._producer.commit_transaction(_TIMEOUT_S)
        else:
            self._producer.abort_transaction(_TIMEOUT_S)
