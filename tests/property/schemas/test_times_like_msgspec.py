"""The readers of times, Python's and the hot path's, agree, and so do their writers."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tests.support.strategies import RFC3339_LIKE

from meterstream.schemas.fields import Time
from meterstream.schemas.times import EPOCH, format_rfc3339, from_us, parse_rfc3339, to_us

FIRST_US = to_us(datetime.min.replace(tzinfo=UTC))
LAST_US = to_us(datetime.max.replace(tzinfo=UTC))
_decoder = msgspec.json.Decoder(datetime)
_TIMES: TypeAdapter[datetime] = TypeAdapter(Time)
_ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def fast_us(text: str) -> int | None:
    """Return what msgspec reads, in microseconds since 1970; None for what it refuses."""
    try:
        moment = _decoder.decode(msgspec.json.encode(text))
    except msgspec.ValidationError:
        return None
    if moment.tzinfo is None:
        return None
    us = (moment - EPOCH) // timedelta(microseconds=1)
    return us if FIRST_US <= us <= LAST_US else None


def slow_us(text: str) -> int | None:
    """Return what the contract reads; None for what it refuses."""
    try:
        return to_us(parse_rfc3339(text))
    except ValueError:
        return None


@given(st.from_regex(RFC3339_LIKE, fullmatch=True))
@settings(max_examples=400)
@example("2026-01-01T00:00:00.1234565Z")
@example("2026-01-01T00:00:00.1234564999Z")
@example("2026-12-31T23:59:59.9999995+00:00")
@example("9999-12-31T23:59:59.9999999Z")
@example("9999-12-31T23:59:59-00:01")
@example("0001-01-01T00:00:00+00:01")
@example("0001-01-01T00:00:00.9999999+00:00")
@example("0000-01-01T00:00:00Z")
@example("2024-02-29T23:59:59t")
@example("2026-01-01t00:00:00z")
@example("2026-01-01 00:00:00Z")
@example("2026-01-01T00:00:00-00:00")
@example("2026-01-01T00:00:00+24:00")
@example("2026-01-01T00:00:00+23:60")
@example("2026-01-01T24:00:00Z")
@example("2026-01-01T00:00:60Z")
@example("2026-01-01T00:00:00")
@example("2026-01-01T00:00:00+0530")
def test_both_readers_name_the_same_moment(text: str) -> None:
    """What one reader of times accepts the other accepts, as the same microsecond."""
    assert slow_us(text) == fast_us(text)


@given(st.text(alphabet="0123456789-+:.TtZz ", max_size=40) | st.text(max_size=30))
@settings(max_examples=400)
def test_both_readers_refuse_what_is_no_time(text: str) -> None:
    """Text that only looks a little like a time is read by both readers or by none."""
    assert slow_us(text) == fast_us(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_written_time_reads_back(moment: datetime) -> None:
    """A time that was written as text, or as microseconds, reads back as the same moment."""
    assert parse_rfc3339(format_rfc3339(moment)) == moment
    assert from_us(to_us(moment)) == moment


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=_ZONES))  # noqa: DTZ001
@example(datetime(2026, 1, 1, 0, 0, 0, 100_000, UTC))
def test_models_write_times_in_utc_with_microseconds_where_there_are_any(moment: datetime) -> None:
    """The form of a time on the wire is the same whoever writes it."""
    assert _TIMES.dump_json(_TIMES.validate_python(moment)) == b'"%b"' % (
        format_rfc3339(moment).encode()
    )
