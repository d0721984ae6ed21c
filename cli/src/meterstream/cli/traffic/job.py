"""One job of sending: which rows, under which source, moved to which end, at which pace."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from meterstream.cli.connection import Connection
from meterstream.cli.errors import BadInput, Unreachable
from meterstream.cli.output import Progress, note
from meterstream.schemas.times import format_rfc3339, from_us, to_us
from meterstream.schemas.topics import EVENTS
from meterstream.streams.refusal import Refusal

from .ends import keep_end
from .messages import Message, messages
from .population import Sizes
from .runs import RunMaker
from .sender import Totals, send
from .trace import TraceRow

ANSWER_TIMEOUT_S: Final = 10
HORIZON_US: Final = 24 * 3600 * 1_000_000
SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """What to send.

    `source` names the set: the same set has the same identities, whenever it is sent.
    `last_us` is the last time of the rows as they are, `span_us` how long they last.
    """

    source: str
    rows: Iterable[TraceRow]
    count: int
    last_us: int
    span_us: int
    sizes: Sizes
    seed: int
    duplicates_ppm: int = 0
    invalid_ppm: int = 0
    rate: int | None = None
    realtime: bool = False
    keep_times: bool = False
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent, and what a second run needs to be the same."""

    source: str
    seed: int
    end_at: str
    totals: Totals

    def as_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        return {**asdict(self), "totals": self.totals.as_dict()}


def source_name(kind: str, seed: int, *of: object) -> str:
    """Return the CloudEvents source of a set: its kind, its seed, and a digest of what made it."""
    digest = hashlib.sha256(repr(of).encode()).hexdigest()[:16]
    return f"urn:meterstream:{kind}:{seed}:{digest}"


def topic_id(connection: Connection) -> str:
    """Return the id of the events topic; it changes when the topic is made again.

    Raises Unreachable where no broker answers, or where there is no such topic.
    """
    topic = connection.topic(EVENTS)
    refusal = Refusal(connection.bootstrap)
    settings: dict[str, Any] = {**connection.kafka(), "log_level": 0, "error_cb": refusal.hear}
    admin = AdminClient(settings)
    try:
        described = admin.describe_topics(
            TopicCollection([topic]), request_timeout=ANSWER_TIMEOUT_S
        )
        return str(described[topic].result(ANSWER_TIMEOUT_S).topic_id)
    except (KafkaException, TimeoutError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer"
        admin.poll(0)
        raise Unreachable(
            refusal.or_else(
                f"topic {topic} at {connection.bootstrap}: {reason}. `meterstream topics` makes it,"
                " `meterstream stack` starts a broker"
            )
        ) from error


def run_job(
    connection: Connection,
    job: Job,
    what: str,
    *,
    watch: Callable[[Message], None] | None = None,
    progress: Callable[[Totals], None] | None = None,
) -> Sent:
    """Send a job and return what the broker acknowledged.

    `watch` sees each message before it is sent; what it raises ends the job. `progress` is called
    now and then with the totals so far; without it a line on stderr tells how it goes.
    """
    shift_us = 0 if job.keep_times else _end_us(connection, job) - job.last_us
    end_us = job.last_us + shift_us
    now_us = to_us(datetime.now(UTC))
    if end_us - job.span_us < now_us - HORIZON_US:
        note(
            f"note: the oldest of these runs ended {_ago(now_us - end_us + job.span_us)} ago; what "
            "is older than the meter's horizon (24 h by default) is refused as too late"
        )
    maker = RunMaker(job.sizes, job.seed, job.source)
    batch = messages(maker.make(job.rows, shift_us), job.duplicates_ppm, job.invalid_ppm, job.seed)
    with Progress(what, job.count) as line:
        totals = send(
            connection.kafka(),
            connection.topic(EVENTS),
            _watched(batch, watch) if watch else batch,
            due=_pace(job),
            progress=progress or (lambda now: line.update(now.unique_runs)),
        )
    return Sent(job.source, job.seed, format_rfc3339(from_us(end_us)), totals)


def _end_us(connection: Connection, job: Job) -> int:
    """Return when the rows are to end: as given, as kept from the first time, else now."""
    if job.end_at is not None:
        wanted_us = to_us(job.end_at)
    else:
        wanted_us = to_us(datetime.now(UTC)) // SECOND_US * SECOND_US
        if job.realtime:
            wanted_us += job.span_us
    kept_us = keep_end(connection.data, topic_id(connection), job.source, wanted_us)
    if kept_us == wanted_us:
        return kept_us
    kept = format_rfc3339(from_us(kept_us))
    if job.end_at is not None:
        raise BadInput(
            f"this set was sent before with --end-at {kept}: sent with another end its runs would "
            "be conflicts. Leave --end-at out to send it again, or take another --seed"
        )
    note(f"note: this set was sent before, so it ends at {kept} as then: each run counts once")
    return kept_us


def _pace(job: Job) -> Callable[[int, Message], float] | None:
    """Return when each message is due, by time.monotonic: by its own time, by rate, or at once."""
    started_s, now_us = time.monotonic(), to_us(datetime.now(UTC))
    if job.realtime:
        return lambda _, message: started_s + (message.time_us - now_us) / SECOND_US
    rate = job.rate
    if rate is not None:
        return lambda number, _: started_s + number / rate
    return None


def _watched(batch: Iterable[Message], watch: Callable[[Message], None]) -> Iterator[Message]:
    for message in batch:
        watch(message)
        yield message


def _ago(length_us: int) -> str:
    hours = length_us // (3600 * SECOND_US)
    return f"{hours // 24} days" if hours >= 72 else f"{hours} hours"
