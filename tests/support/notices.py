"""Threshold events as the publisher writes them, and where the notifier sends them in tests."""

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.waiting import eventually

from meterstream.schemas.topics import BY_NAME, NOTIFICATIONS_DLQ, THRESHOLDS

NOTIFIER = "meterstream.notifier.app"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRET_VARIABLE = "TEST_NOTIFIER_SECRET"

LIMIT = {
    "team_id": "team-1",
    "limit_id": "monthly-cap",
    "limit_version": 3,
    "subject": "team",
    "measure": "credits",
    "window": "month",
    "window_start": "2026-11-01T00:00:00Z",
    "window_end": "2026-12-01T00:00:00Z",
    "amount": 1_000_000_000,
}
AS_OF = {
    "events_topic_id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "generation": 1,
    "partition": 0,
    "journal_offset": 17,
    "events_position": 4711,
}
CAUSE = {"source": "/services/chat", "id": "run-4711", "offset": 4710}
REACHED = {**LIMIT, "level_permille": 800, "used": 800_000_001, "cause": CAUSE}


def threshold_event(
    kind: str = "usage.threshold.reached", event_id: str = "e-1", **data: Any
) -> dict[str, Any]:
    """Return a threshold event: one of a level that is reached, unless its data say otherwise."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/meterstream",
        "type": f"meterstream.{kind}.v1",
        "time": datetime.now(UTC).isoformat(),
        "data": {**(data or REACHED), "as_of": AS_OF},
    }


@dataclass(frozen=True)
class Taken:
    """A request that a receiver got."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def delivery_id(self) -> str:
        """Its webhook-id."""
        return self.headers["webhook-id"]

    @property
    def event_id(self) -> str:
        """The id of the event that it carries."""
        return str(json.loads(self.body)["id"])


Answer = Callable[[Taken], tuple[int, Mapping[str, str]]]


@dataclass
class Receiver:
    """A web server that takes webhooks; what it answers can be changed while it runs."""

    answer: Answer = lambda _: (204, {})
    taken: list[Taken] = field(default_factory=list)
    port: int = 0
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Its address; the query must reach it as it stands."""
        return f"http://127.0.0.1:{self.port}/hook?for=tests"

    def start(self) -> "Receiver":
        """Listen, on the port of before if it did already."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                taken = Taken({**headers, ":path": self.path}, body)
                receiver.taken.append(taken)
                status, extra = receiver.answer(taken)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in {"content-length": "0", **extra}.items():
                        self.send_header(name, value)
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def serve_tls(self, context: ssl.SSLContext) -> None:
        """Speak TLS from the next connection on."""
        assert self._server is not None
        # The handshake in the thread of the request: one that fails harms no other.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )

    def stop(self) -> None:
        """Stop listening: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def wait_for(self, count: int, timeout_s: float = 60) -> list[Taken]:
        """Wait until it has got so many requests; return them all."""
        eventually(lambda: len(self.taken) >= count, timeout_s, f"{count} requests")
        return list(self.taken)


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a receiver."""
    running = Receiver().start()
    try:
        yield running
    finally:
        running.stop()


def webhook(url: str, **more: Any) -> dict[str, Any]:
    """Return a destination of the file: a webhook whose secret stands in SECRET_VARIABLE."""
    return {"webhook": {"url": url, "secrets": [{"env": SECRET_VARIABLE}]}, **more}


def write_file(path: Path, destinations: Mapping[str, Any], *routes: Mapping[str, Any]) -> Path:
    """Write a file of destinations; without routes all events go to all of them."""
    everything = [{"to": list(destinations)}]
    document = {"destinations": dict(destinations), "routes": list(routes) or everything}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


class Thresholds:
    """The topics that the notifier works with, and a publisher of threshold events."""

    def __init__(self, kafka: str, prefix: str, partitions: int = 1) -> None:
        self._topic = prefix + THRESHOLDS
        admin = AdminClient({"bootstrap.servers": kafka})
        new = [
            NewTopic(self._topic, partitions, 1, config=BY_NAME[THRESHOLDS].config()),
            NewTopic(prefix + NOTIFICATIONS_DLQ, 1, 1, config=BY_NAME[NOTIFICATIONS_DLQ].config()),
        ]
        there = admin.list_topics(timeout=30).topics
        missing = [topic for topic in new if topic.topic not in there]
        for made in admin.create_topics(missing).values():
            made.result(30)
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 0})

    def write(self, *events: dict[str, Any] | bytes, partition: int = 0) -> None:
        """Write events, and return when the broker has them."""
        for event in events:
            value = event if isinstance(event, bytes) else json.dumps(event).encode()
            self._producer.produce(self._topic, value, partition=partition)
        assert self._producer.flush(30) == 0
