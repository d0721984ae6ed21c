"""What stands in for the SDK in the tests of services, in memory.

Events are validated as in production, and kept:

```python
publisher = InMemoryPublisher()
handle_request(Meter(publisher, source="/chat"))
(run,) = publisher.of_type(RunCompleted)
assert run.data.input_tokens == 12
```

A gate knows the limits that it is told:

```python
gate = InMemoryGate()
gate.set_limit("daily", "team-1", amount=0)
assert not gate.check("team-1")
```
"""

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from .encode import Encoded, Event, encode
from .exceptions import DeliveryProblem, NotAccepted, PublisherClosed
from .gate.memory import InMemoryGate

__all__ = ["AsyncInMemoryPublisher", "InMemoryGate", "InMemoryPublisher"]

_E = TypeVar("_E", bound=Event)


class _Memory:
    """What both test publishers keep, and what a test asks of them. May be used by any thread."""

    def __init__(self, *, source: str | None = None) -> None:
        self._source: Final = source
        self._lock = threading.Lock()
        self._encoded: list[Encoded] = []
        self._failure: NotAccepted | None = None
        self._undelivered: DeliveryProblem | None = None
        self._closed = False

    @property
    def events(self) -> list[Event]:
        """The accepted events, in order, repeats included."""
        with self._lock:
            return [encoded.event for encoded in self._encoded]

    @property
    def messages(self) -> list[tuple[bytes, bytes]]:
        """Key and value of each accepted event, as they would go to Kafka."""
        with self._lock:
            return [(encoded.key, encoded.value) for encoded in self._encoded]

    def of_type(self, model: type[_E]) -> list[_E]:
        """Return the accepted events of one model, in order."""
        return [event for event in self.events if isinstance(event, model)]

    def clear(self) -> None:
        """Forget all events."""
        with self._lock:
            self._encoded.clear()

    def fail_with(self, error: NotAccepted | None) -> None:
        """Have each `publish` raise `error` from now on; None mends it."""
        self._failure = error

    def fail_flush_with(self, error: DeliveryProblem | None) -> None:
        """Have each `flush` raise `error` from now on; None mends it."""
        self._undelivered = error

    def _accept(self, event: Event | Mapping[str, Any]) -> None:
        encoded = encode(event, self._source)
        if self._closed:
            raise PublisherClosed("the publisher is closed; make a new one to publish")
        if self._failure is not None:
            raise self._failure
        with self._lock:
            self._encoded.append(encoded)

    def _flush(self) -> None:
        if self._undelivered is not None:
            raise self._undelivered

    def _close(self) -> int:
        self._closed = True
        return 0


class InMemoryPublisher(_Memory):
    """Stands in for `Publisher`."""

    def publish(self, event: Event | Mapping[str, Any]) -> None:
        """Keep the event; raises as `Publisher.publish` does."""
        self._accept(event)

    def flush(self, timeout_s: float) -> None:
        """Return at once, or raise what `fail_flush_with` was given."""
        self._flush()

    def close(self, timeout_s: float | None = None) -> int:
        """Take no more events; they stay to be looked at."""
        return self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncInMemoryPublisher(_Memory):
    """Stands in for `AsyncPublisher`."""

    async def publish(self, event: Event | Mapping[str, Any]) -> None:
        """Keep the event; raises as `AsyncPublisher.publish` does."""
        self._accept(event)

    async def flush(self, timeout_s: float) -> None:
        """Return at once, or raise what `fail_flush_with` was given."""
        self._flush()

    async def close(self, timeout_s: float | None = None) -> int:
        """Take no more events; they stay to be looked at."""
        return self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
