"""One metered run: what is recorded while it lasts, and the event it ends in."""

import concurrent.futures
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NotRequired, TypedDict, TypeGuard

from meterstream.schemas.fields import (
    CONTROL_CHARACTERS,
    MAX_BYTES,
    MAX_CREDITS_MICRO,
    MAX_QUANTITIES,
    MAX_QUANTITY,
    MAX_TAGS,
    MAX_TOKENS,
    Caller,
    Operation,
    Status,
)
from meterstream.schemas.run import RUN_COMPLETED, RUN_STARTED

from .delivery import AsyncDelivery, Delivery
from .guard import Guard
from .ids import derived_id, new_id
from .texts import fitting

_PARTS: Final = {"cached_tokens": "input_tokens", "reasoning_tokens": "output_tokens"}
_MAX_CODE: Final = 64
_MAX_KEY: Final = 64
_MAX_TAG_VALUE: Final = 256


class RunAbout(TypedDict):
    """Whose run it is and what it runs; lengths as in meterstream.schemas."""

    team_id: str
    run_id: NotRequired[str]
    """Fresh if absent. The same run_id gives the same event id, so that a repeat is harmless."""
    operation: NotRequired[Operation]
    """`agent_run` if absent."""
    user_id: NotRequired[str | None]
    agent_id: NotRequired[str | None]
    project_id: NotRequired[str | None]
    feature_id: NotRequired[str | None]
    product: NotRequired[str | None]
    session_id: NotRequired[str | None]
    model: NotRequired[str | None]
    provider: NotRequired[str | None]
    caller: NotRequired[Caller | None]
    input: NotRequired[str | None]


class Run:
    """What is recorded of a run while it lasts.

    All methods may be called any number of times, by any thread, and none raises unless the meter
    was told to.

    A value that cannot be recorded is reported and left out, so that the rest of the run counts.
    """

    def __init__(self, about: RunAbout, source: str, guard: Guard) -> None:
        self._guard: Final = guard
        self._lock: Final = threading.RLock()
        self._source: Final = source
        self.run_id: Final = about.get("run_id") or new_id()
        self._about: Final[dict[str, Any]] = {
            "operation": "agent_run",
            **about,
            "run_id": self.run_id,
        }
        if _is_text(text := about.get("input")):
            self._about["input"] = fitting(text)
        self._totals: Final[dict[str, int]] = {}
        self._tags: Final[dict[str, str]] = {}
        self._quantities: Final[dict[str, int]] = {}
        self._credits_micro: int | None = None
        self._output: str | None = None
        self._first_token_us: int | None = None
        self._status: Status | None = None
        self._error_code: str | None = None
        self._error_message: str | None = None
        self.delivery: Delivery | AsyncDelivery | None = None
        """The receipt of the run's event: None before the run has ended, and where the event was
        not accepted."""
        self._started_at = datetime.now(UTC)
        self._started_ns = time.perf_counter_ns()

    def begin(self) -> None:
        """Start to measure: what was done before, such as publishing the start, does not count."""
        self._started_ns = time.perf_counter_ns()

    def tokens(
        self,
        *,
        input: int | None = None,  # noqa: A002 - the field's own word
        output: int | None = None,
        cached: int | None = None,
        reasoning: int | None = None,
    ) -> None:
        """Add tokens. `cached` are part of `input`, `reasoning` of `output`. None adds nothing."""
        self._add("input_tokens", input, MAX_TOKENS)
        self._add("output_tokens", output, MAX_TOKENS)
        self._add("cached_tokens", cached, MAX_TOKENS)
        self._add("reasoning_tokens", reasoning, MAX_TOKENS)

    def traffic(
        self, *, request_bytes: int | None = None, response_bytes: int | None = None
    ) -> None:
        """Add bytes received with the request and sent with the response."""
        self._add("request_bytes", request_bytes, MAX_BYTES)
        self._add("response_bytes", response_bytes, MAX_BYTES)

    def first_token(self) -> None:
        """Note that the first token is there now; later calls change nothing."""
        if self._first_token_us is None:
            self._first_token_us = self._elapsed_us()

    def tag(self, **tags: str) -> None:
        """Set tags: ten at most."""
        for key, value in tags.items():
            with self._lock:
                room = key in self._tags or len(self._tags) < MAX_TAGS
                fits = room and _is_tag(key, value)
                if fits:
                    self._tags[key] = value
            if not fits:
                self._guard.leave_out(
                    f"tag {key[:_MAX_KEY]} is left out: a run has {MAX_TAGS} tags at most, with"
                    f" keys of {_MAX_KEY} and texts of {_MAX_TAG_VALUE} characters at most and no"
                    " control characters"
                )

    def quantity(self, **quantities: int) -> None:
        """Add to named quantities, such as images=2: five names at most, whole numbers."""
        for key, value in quantities.items():
            with self._lock:
                room = key in self._quantities or len(self._quantities) < MAX_QUANTITIES
                fits = room and _is_tag(key, "") and _is_whole(value)
                if fits:
                    total = self._quantities.get(key, 0) + value
                    fits = abs(total) <= MAX_QUANTITY
                if fits:
                    self._quantities[key] = total
            if not fits:
                self._guard.leave_out(
                    f"quantity {key[:_MAX_KEY]} is left out: a run has {MAX_QUANTITIES} at most,"
                    f" with keys of {_MAX_KEY} characters at most and whole numbers below 2^53"
                )

    def credits(self, *, micro: int) -> None:
        """Charge exactly this many micro-credits, whatever the rate card says."""
        if _is_whole(micro) and 0 <= micro <= MAX_CREDITS_MICRO:
            self._credits_micro = micro
        else:
            self._guard.leave_out(
                f"credits are left out: micro is a whole number from 0 to {MAX_CREDITS_MICRO:,}"
            )

    def output(self, text: str) -> None:
        """Keep the run's output with it, cut at 16,384 characters. It is stored as it is."""
        if _is_text(text):
            self._output = fitting(text)
        else:
            self._guard.leave_out("output is left out: it is no text")

    def fail(self, code: str, message: str | None = None) -> None:
        """Note that the run failed, with an error code of your own; an exception does it by itself.

        The message is stored as it is: keep persons and secrets out of it.
        """
        self._status = "failed"
        self._error_code = str(code)[:_MAX_CODE]
        self._error_message = fitting(message) if _is_text(message) else None

    def cancel(self) -> None:
        """Note that the run was cancelled."""
        self._status = "cancelled"

    def ended_by(self, error: BaseException | None) -> None:
        """Note how the block ended: an exception fails the run, a cancellation cancels it."""
        if error is None:
            return
        if not isinstance(error, Exception) or isinstance(error, concurrent.futures.CancelledError):
            self._status = "cancelled"
        elif self._status is None:
            self.fail(type(error).__name__)

    def started_event(self) -> dict[str, Any]:
        """Return the CloudEvent that says the run has begun."""
        data = self._about | {"started_at": self._started_at}
        return self._envelope(RUN_STARTED, "started", self._started_at, data)

    def completed_event(self) -> dict[str, Any]:
        """Return the CloudEvent that says what the run used, as of now."""
        latency_us = self._elapsed_us()
        ended_at = self._started_at + timedelta(microseconds=latency_us)
        data = {
            **self._about,
            **self._consistent_totals(),
            "started_at": self._started_at,
            "ended_at": ended_at,
            "status": self._status or "completed",
            "latency_us": latency_us,
            "time_to_first_token_us": self._first_token_us,
            "credits_micro": self._credits_micro,
            "error_code": self._error_code,
            "error_message": self._error_message,
            "output": self._output,
            "tags": dict(self._tags) or None,
            "quantities": dict(self._quantities) or None,
        }
        return self._envelope(RUN_COMPLETED, "completed", ended_at, data)

    def _envelope(
        self, kind: str, prefix: str, moment: datetime, data: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "type": kind,
            "id": derived_id(prefix, self.run_id),
            "source": self._source,
            "time": moment,
            "data": data,
        }

    def _consistent_totals(self) -> dict[str, int]:
        totals = dict(self._totals)
        for part, whole in _PARTS.items():
            if totals.get(part, 0) > totals.get(whole, 0):
                del totals[part]
                self._guard.leave_out(
                    f"{part} are left out: they are part of {whole} and exceed them; add them to"
                    f" {whole} if your provider reports them apart"
                )
        return totals

    def _add(self, field: str, amount: int | None, most: int) -> None:
        if amount is None:
            return
        with self._lock:
            known = self._totals.get(field, 0)
            fits = _is_whole(amount) and 0 <= amount <= most - known
            if fits:
                self._totals[field] = known + amount
        if not fits:
            self._guard.leave_out(
                f"an amount of {field} is left out: it is a whole number, 0 or more, and the total"
                f" is {most:,} at most"
            )

    def _elapsed_us(self) -> int:
        return (time.perf_counter_ns() - self._started_ns) // 1000


def _is_whole(value: object) -> bool:
    return type(value) is int  # a bool is none


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)


def _is_tag(key: str, value: object) -> bool:
    return (
        0 < len(key) <= _MAX_KEY
        and isinstance(value, str)
        and len(value) <= _MAX_TAG_VALUE
        and not CONTROL_CHARACTERS.search(key + value)
    )
