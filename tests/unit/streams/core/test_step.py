"""A step: one journal record, ready to be written."""

import json

from tests.support.craft import MINUTE, NOW, Partition, entries, run

from meterstream.schemas.journal.header import Kind
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import LastEvent, compute_step, idle_step
from meterstream.streams.core.entries import EntryReject
from meterstream.streams.core.state import Changes
from meterstream.streams.core.step import build_step, encode_rejects


def test_a_step_continues_the_state_it_was_built_on() -> None:
    """The header names what the state knows, and each part that it is given in its own field."""
    state = Partition().state
    step = build_step(
        state, Kind.STEP, {}, Changes(), events_to=2, control_to=3, catalog_to=4, clock_us=5,
        clock_limit_us=6, last_event=LastEvent(7, 8, 9, 10), counts={"counted": 2},
        reasons={"empty": 1}, rows=11, skewed_log_times=12,
    )  # fmt: skip
    header = step.header
    assert (header.kind, header.generation, header.prev, header.events_from) == (Kind.STEP, 1, 0, 0)
    assert (header.events_topic_id, header.journal_topic_id) == (
        state.events_topic_id,
        state.journal_topic_id,
    )
    assert (header.events_to, header.control_to, header.catalog_to) == (2, 3, 4)
    assert (header.clock_us, header.clock_limit_us) == (5, 6)
    assert (header.last_event_offset, header.last_event_time_us) == (7, 8)
    assert (header.last_event_hash, header.last_event_epoch) == (9, 10)
    assert (step.counts, step.reasons, step.rows, step.skewed_log_times) == (
        {"counted": 2},
        {"empty": 1},
        11,
        12,
    )


def test_an_idle_record_has_no_rows() -> None:
    """What holds no events has neither cell rows nor log times that the clock did not follow."""
    step = idle_step(Partition().state, NOW + 5)
    assert (step.rows, step.skewed_log_times, step.counts, step.reasons) == (0, 0, {}, {})


def test_a_step_is_empty_only_if_nothing_would_be_lost() -> None:
    """An event, an entry or a refusal makes a step worth writing; a removed entry does not."""
    state = Partition().state
    assert compute_step(state, None, now_us=NOW + MINUTE).is_empty
    assert compute_step(state, None, catalog=entries(None), now_us=NOW).is_empty
    assert not compute_step(state, None, catalog=entries(b""), now_us=NOW).is_empty
    assert not Partition().take(run()).is_empty


def test_refusals_are_listed_with_their_topics() -> None:
    """Events first, then entries, each as topic, offset, verdict and detail."""
    data = encode_rejects(
        [(5, 32, "naïve")], [EntryReject("control", 6, Verdict.NOT_JSON, "not JSON")]
    )
    assert json.loads(data) == [["events", 5, 32, "naïve"], ["control", 6, 36, "not JSON"]]
    assert data.isascii()
