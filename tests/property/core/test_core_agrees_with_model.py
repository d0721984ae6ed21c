"""The core and the slow model give every event the same verdict, and count the same."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.support import model
from tests.support.budget import share
from tests.support.core_runner import CoreMeter, run_core
from tests.support.events import (
    START_US,
    VALID_ONLY,
    agent,
    encode,
    feature,
    make_records,
    rate_card,
)
from tests.support.model import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    Counted,
    Record,
    Rules,
    Usage,
    dimensions_of,
    fold,
    run_model,
)

from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.run import RunCompleted
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import Policy, room
from meterstream.streams.core.decode import Refused, content_of, decode_event, decode_slowly

NOW_US = START_US + 6 * HOUR_US
SETTINGS = {
    "defaults": {},
    "a short horizon": {
        "horizon_us": 20 * MINUTE_US,
        "grace_us": 3 * MINUTE_US,
        "ahead_us": 0,
    },
    "no grace": {"grace_us": 0, "ahead_us": 30 * MINUTE_US, "clock_skew_us": 0},
    "a long grace": {"grace_us": 5 * HOUR_US, "horizon_us": 2 * DAY_US},
}


def count_both_ways(
    records: Sequence[Record], settings: dict[str, Any], *, seed: int, mean_batch: int = 500
) -> tuple[Counted, CoreMeter]:
    """Return what the model counts, and the meter that has counted the same records."""
    middle = records[len(records) // 2]
    cards = {
        records[0].offset: [
            rate_card(1, START_US - MINUTE_US),
            agent(1, "researcher"),
            agent(2, "assistant"),
            feature(1, premium=True),
        ],
        middle.offset: [
            rate_card(2, START_US + 2 * HOUR_US, run_micro=3),
            agent(1, "assistant"),
            feature(0, premium=True),
            feature(1, premium=False),
        ],
    }
    expected = run_model(
        records, Rules(4, **settings), 0, now_us=NOW_US, log_start=5, clock_us=START_US, cards=cards
    )
    meter = run_core(
        records,
        Policy(4, **settings),
        0,
        now_us=NOW_US,
        log_start=5,
        clock_us=START_US,
        cards=cards,
        seed=seed,
        mean_batch=mean_batch,
    )
    return expected, meter


def assert_same(expected: Counted, meter: CoreMeter, records: Sequence[Record]) -> None:
    """Assert that the meter's journal says what the model counted."""
    counted = meter.reader.counted
    values = {record.offset: record.value for record in records}
    different = {
        offset: (verdict.name, counted.verdicts[offset].name, values.get(offset))
        for offset, verdict in expected.verdicts.items()
        if counted.verdicts[offset] is not verdict
    }
    assert not different
    assert counted.ledger == expected.ledger
    assert counted.clock_us == expected.clock_us
    assert counted.charges == expected.charges
    assert counted.cells == expected.cells
    late = {key: usage for key, usage in expected.cells.items() if key[0]}
    assert meter.reader.late_quarters == fold(late, 900)
    assert meter.reader.late_days == fold(late, 86_400)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("step_us", [50_000, 2_000_000])
def test_generated_and_broken_events(settings: dict[str, int], step_us: int) -> None:
    """Of 20,000 events, 2,500 under each setting, core and model agree on every single one."""
    seed = 100 + step_us // 50_000
    records = list(make_records(seed, share(2_500), step_us=step_us))
    expected, meter = count_both_ways(records, settings, seed=seed)
    assert_same(expected, meter, records)


@pytest.mark.parametrize("mean_batch", [1, 7, 2_000])
def test_batches_of_any_size(mean_batch: int) -> None:
    """One event at a time, a few, or all at once: the core counts what the model counts."""
    records = make_records(7, share(120), step_us=4_000_000)
    expected, meter = count_both_ways(records, {}, seed=mean_batch, mean_batch=mean_batch)
    assert_same(expected, meter, records)


def test_charges_add_up_to_cells() -> None:
    """The charges of a cell's runs are the cell's credits, and each run names its own cell."""
    records = make_records(11, share(2_000), step_us=1_000_000)
    _, meter = count_both_ways(records, {}, seed=11)
    counted, keys = meter.reader.counted, meter.reader.charge_keys
    values = {record.offset: record.value for record in records}
    charged: dict[object, Usage] = {}
    for offset, charge in counted.charges.items():
        usage = charged.setdefault(keys[offset], Usage())
        usage.runs += 1
        usage.credits_micro += charge.credits_micro
        event = parse_event(values[offset])
        assert isinstance(event, RunCompleted)
        assert keys[offset][2] == dimensions_of(event.data)
    assert {key: (usage.runs, usage.credits_micro) for key, usage in charged.items()} == {
        key: (usage.runs, usage.credits_micro) for key, usage in counted.cells.items()
    }


def test_every_counted_event_enters_the_identities_once() -> None:
    """The ids in the journal are as many as the events that were counted, whatever their type."""
    records = make_records(13, share(2_000))
    expected, meter = count_both_ways(records, {}, seed=13)
    assert meter.reader.ids == list(expected.verdicts.values()).count(Verdict.COUNTED)


def test_the_fast_reader_reads_what_the_models_read() -> None:
    """An event that both readers accept has the same content, type and time in both."""
    compared = 0
    for record in make_records(17, share(5_000)):
        try:
            slow = decode_slowly(record.value)
        except (Refused, InvalidEvent):
            continue
        fast = decode_event(record.value)
        assert type(fast) is type(slow)
        assert (fast.id, fast.source, fast.time) == (slow.id, slow.source, slow.time)
        assert content_of(fast) == content_of(slow)
        compared += 1
    assert compared > share(4_000)


def test_all_verdicts_occur() -> None:
    """The generated events reach every verdict that an event's own bytes can get."""
    records = make_records(6, 2_500, step_us=2_000_000)
    found = set(run_model(records, Rules(4), 0, now_us=NOW_US).verdicts.values())
    of_other_causes = {
        Verdict.UNREAD,
        Verdict.AMOUNT_TOO_LARGE,
        Verdict.NOT_ALLOWED,
        Verdict.INTERNAL,
    }
    assert set(Verdict) - found == of_other_causes


def test_a_run_that_costs_too_much_is_refused() -> None:
    """A run whose price exceeds a million credits is refused, and its neighbours are counted."""
    dear = {"model": "model-1", "provider": "provider-1", "response_bytes": 10**12}
    records = make_records(19, 300, step_us=1_000, mix=VALID_ONLY)
    for i in range(0, 300, 10):
        event = json.loads(records[i].value or b"")
        event["data"] = {**event["data"], **dear, "operation": "agent_run"}
        event["data"].pop("credits_micro", None)
        records[i] = replace(records[i], value=encode(event))
    expected, meter = count_both_ways(records, {}, seed=19)
    assert_same(expected, meter, records)
    assert expected.ledger["rejected"] > 10  # the others took place before there was a card
    assert expected.ledger["counted"] == 300 - expected.ledger["rejected"]


@pytest.mark.parametrize("mean_batch", [3, 1_000])
def test_a_run_that_no_longer_fits_its_cell_is_refused(
    monkeypatch: pytest.MonkeyPatch, mean_batch: int
) -> None:
    """Where a sum would pass its bound the run is refused, on the same offset in any batches."""
    for module in (model, room):
        monkeypatch.setattr(module, "MAX_CELL_SUM", 3_000_000_000)
    records = make_records(31, 100, step_us=1_000)
    records = [replace(record, value=_in_one_cell(record.value)) for record in records]
    expected, meter = count_both_ways(records, {}, seed=31, mean_batch=mean_batch)
    assert_same(expected, meter, records)
    refused = list(expected.verdicts.values()).count(Verdict.AMOUNT_TOO_LARGE)
    assert 0 < refused < expected.ledger["counted"]


def _in_one_cell(value: bytes | None) -> bytes | None:
    """Return an event with the team's name as its only dimension, where it is one."""
    try:
        event = json.loads(value or b"")
        for name in ("user_id", "agent_id", "project_id", "model", "provider", "feature_id"):
            event["data"].pop(name, None)
    except (ValueError, TypeError, AttributeError, KeyError):
        return value
    return encode(event)


def test_offsets_without_records() -> None:
    """A missing offset is a gap, and below the log's start unread; neither is ever silent."""
    records = make_records(23, 50, mix=replace(VALID_ONLY, gaps=500))
    records = [record for record in records if record.offset not in (0, 2)]
    expected, meter = count_both_ways(records, {}, seed=23)
    assert_same(expected, meter, records)
    assert expected.verdicts[0] is Verdict.UNREAD
    assert sum(expected.ledger.values()) == records[-1].offset + 1
