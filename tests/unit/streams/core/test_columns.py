"""Completed runs as columns: times, latencies, sketch buckets, keys and rules between fields."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from tests.support.craft import DAY, MINUTE, NOW, SECOND, Json, encode, run, session, text_of

from meterstream.schemas.fields import MAX_DURATION_US
from meterstream.schemas.sketch import BUCKETS, UPPER, bucket_of
from meterstream.schemas.times import from_us
from meterstream.streams.core.columns import (
    YEAR_2_US,
    YEAR_9999_US,
    RunColumns,
    cell_keys,
    holds_control_characters,
    may_hold_control_characters,
    run_columns,
    times_to_us,
)
from meterstream.streams.core.decode import Completed, decode_event


def completed(**data: Any) -> Completed:
    """Return a decoded run."""
    event = decode_event(encode(run(**data)))
    assert isinstance(event, Completed)
    return event


def columns(*runs: Completed) -> RunColumns:
    """Return the columns of runs at their own times."""
    return run_columns(runs, times_to_us([one.time for one in runs]))


def test_times_are_exact_microseconds_of_utc() -> None:
    """Any offset and any year of the calendar gives whole microseconds since 1970."""
    times = [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 1, 1, 5, 30, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(2025, 12, 31, 16, 0, tzinfo=timezone(-timedelta(hours=8))),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ]
    assert times_to_us(times).tolist() == [
        0, -1, NOW + 1, NOW, -62_135_596_800_000_000, 253_402_300_799_999_999,
    ]  # fmt: skip
    assert times_to_us([]).tolist() == []


def test_what_a_run_names_comes_as_it_is() -> None:
    """Each amount has its own column; what is absent is 0, or -1 where 0 says something."""
    full = columns(
        completed(
            input_tokens=1, output_tokens=2, cached_tokens=1, reasoning_tokens=2, request_bytes=3,
            response_bytes=4, credits_micro=0, latency_us=0, time_to_first_token_us=0,
            status="failed",
        ),
        completed(),
    )  # fmt: skip
    assert full.input_tokens.tolist() == [1, 0]
    assert full.output_tokens.tolist() == [2, 0]
    assert full.cached_tokens.tolist() == [1, 0]
    assert full.reasoning_tokens.tolist() == [2, 0]
    assert full.request_bytes.tolist() == [3, 0]
    assert full.response_bytes.tolist() == [4, 0]
    assert full.explicit_micro.tolist() == [0, -1]
    assert full.latency_us.tolist() == [0, SECOND]
    assert full.first_token_us.tolist() == [0, -1]
    assert full.failed.tolist() == [1, 0]
    assert full.inconsistent.tolist() == [False, False]


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_only_failed_runs_are_errors(status: str) -> None:
    """A run that was cancelled is no error."""
    assert columns(completed(status=status)).failed.tolist() == [0]


def test_a_run_lasts_from_its_start_to_its_end() -> None:
    """The end is the event's time and the latency the duration, unless the run names them."""
    found = columns(
        completed(started_us=NOW - 5),
        completed(started_us=NOW - 5, ended_at="2025-12-31T23:59:59.999998Z"),
        completed(started_us=NOW - 5, latency_us=99),
    )
    assert found.duration_us.tolist() == [5, 3, 5]
    assert found.latency_us.tolist() == [5, 3, 99]


@pytest.mark.parametrize(
    ("data", "inconsistent"),
    [
        ({"input_tokens": 5, "cached_tokens": 5}, False),
        ({"input_tokens": 5, "cached_tokens": 6}, True),
        ({"output_tokens": 5, "reasoning_tokens": 5}, False),
        ({"output_tokens": 5, "reasoning_tokens": 6}, True),
        ({"input_tokens": 9, "reasoning_tokens": 6}, True),
        ({"started_us": NOW}, False),
        ({"started_us": NOW + 1}, True),
        ({"started_us": NOW - 7 * DAY}, False),
        ({"started_us": NOW - 7 * DAY - 1}, True),
        ({"latency_us": 5, "time_to_first_token_us": 5}, False),
        ({"latency_us": 5, "time_to_first_token_us": 6}, True),
        ({"latency_us": 0, "time_to_first_token_us": 1}, True),
        ({"time_to_first_token_us": 2 * SECOND}, False),
        ({"started_us": NOW - DAY, "ended_at": text_of(NOW - 5 * MINUTE)}, False),
        ({"started_us": NOW - DAY, "ended_at": text_of(NOW - 5 * MINUTE - 1)}, True),
        ({"ended_at": text_of(NOW + 5 * MINUTE)}, False),
        ({"ended_at": text_of(NOW + 5 * MINUTE + 1)}, True),
    ],
)
def test_contradictions_are_found(data: dict[str, Any], inconsistent: bool) -> None:
    """Parts above their wholes, ends before starts or at other times, long runs: each is seen."""
    assert MAX_DURATION_US == 7 * DAY
    assert columns(completed(), completed(**data)).inconsistent.tolist() == [False, inconsistent]


@pytest.mark.parametrize(
    ("last_us", "first_us", "inconsistent"),
    [
        (YEAR_2_US - 1, YEAR_2_US, [True, True, False]),
        (YEAR_9999_US - 1, YEAR_9999_US, [False, True, True]),
    ],
)
def test_times_at_the_calendars_ends_are_shown_to_the_models(
    last_us: int, first_us: int, inconsistent: list[bool]
) -> None:
    """A start or an end in the first or the last year is seen, to the microsecond."""
    spans = [(last_us, last_us), (last_us, first_us), (first_us, first_us)]
    runs = [completed(started_us=NOW, ended_at=text_of(NOW)) for _ in spans]
    for one, (started_us, ended_us) in zip(runs, spans, strict=True):
        one.data.started_at, one.data.ended_at = from_us(started_us), from_us(ended_us)
    ended = np.array([ended_us for _, ended_us in spans], np.int64)
    assert run_columns(runs, ended).inconsistent.tolist() == inconsistent


@pytest.mark.parametrize(
    "value",
    [
        0, 1, 2, 98, 99, 100, 101, *UPPER[100:110], *(u + 1 for u in UPPER[100:110]),
        UPPER[-2], UPPER[-2] + 1, MAX_DURATION_US,
    ],
)  # fmt: skip
def test_buckets_are_those_of_the_contract(value: int) -> None:
    """At each edge the fast search finds the bucket that the shared table defines."""
    found = columns(completed(latency_us=value, time_to_first_token_us=value), completed())
    assert found.latency_bucket().tolist() == [bucket_of(value), bucket_of(SECOND)]
    assert found.first_token_bucket().tolist() == [bucket_of(value), -1]
    assert BUCKETS < 2**11, "a bucket fits into the bits that it is folded with"


def test_no_runs_have_no_columns() -> None:
    """An empty batch is no special case."""
    none = columns()
    assert (
        len(none.latency_bucket()) == len(none.first_token_bucket()) == len(none.inconsistent) == 0
    )


def test_a_cell_is_a_minute_and_nine_dimensions() -> None:
    """The key holds the minute of the event time in seconds, then each dimension or nothing."""
    names = ["user_id", "project_id", "agent_id", "model", "provider", "feature_id", "product"]
    datas = [
        completed(**{name: name.upper() for name in names}, operation="feature", team_id="t").data,
        completed().data,
    ]
    keys = cell_keys(datas, np.array([NOW + MINUTE - 1, NOW + MINUTE]))
    assert keys == [
        (NOW // SECOND, "t", *(name.upper() for name in names), "feature"),
        (NOW // SECOND + 60, "team", "", "", "", "", "", "", "", "agent_run"),
    ]
    assert cell_keys(datas[:1], np.array([-1]))[0][0] == -60


@pytest.mark.parametrize(
    ("value", "may"),
    [
        (b"plain", False), (b"a\\nb", True), (b"a\x7fb", True), (b"a\xc2\xa0b", True),
        (b"a\xc3\xa4b", False), (b"", False),
    ],
)  # fmt: skip
def test_bytes_are_looked_at_before_texts(value: bytes, may: bool) -> None:
    """Only an escape, U+007F or the lead byte of U+0080 can bring a control character."""
    assert may_hold_control_characters(value) is may


def test_names_are_looked_at_and_free_texts_are_not() -> None:
    """The first and last names of an event are looked at, in sessions too, and not its prompts."""
    assert not holds_control_characters(completed(input="\n", output="\x00", error_message="\x7f"))
    assert holds_control_characters(completed(event_id="a\n"))
    assert holds_control_characters(completed(quantities={"\n": 1}))
    assert not holds_control_characters(completed(quantities={"a": 1}, tags={"a": "b"}))
    started = session("started", application="a\x85")
    assert holds_control_characters(decode_event(encode(started)))


@pytest.mark.parametrize(
    "event",
    [
        run(tags={"a": "b"}, quantities={"a": 1}, caller="ui"),
        session("started", application="x", launch_parameters={"a": "b"}),
        session("heartbeat", machine_size="m"),
        session("ended", error_code="e"),
    ],
)
def test_every_name_of_every_type_is_looked_at(event: Json) -> None:
    """A control character in any text but a prompt is found, in the keys of maps too."""
    data: Json = event["data"]
    chosen = ("status", "operation", "caller", "started_at", "quantities")
    for name, value in data.items():
        if name in chosen:
            continue
        for bad in [{"a\n": "b"}, {"a": "b\n"}] if isinstance(value, dict) else ["x\x80"]:
            other = {**event, "data": {**data, name: bad}}
            assert holds_control_characters(decode_event(encode(other))), name
    for name in ("id", "source", "subject", "dataschema"):
        assert holds_control_characters(decode_event(encode({**event, name: "x\x1f"}))), name
    assert not holds_control_characters(decode_event(encode(event)))
