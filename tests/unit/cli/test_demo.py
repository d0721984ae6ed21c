"""The demo finds a directory of its own, and prices runs apart from the meter."""

import json
import os
from pathlib import Path

import pytest

from meterstream.cli.commands.demo import DUPLICATES_PPM, INVALID_PPM, demo
from meterstream.cli.demo.place import DEFAULT, fresh_place
from meterstream.cli.demo.prices import price_micro
from meterstream.cli.errors import BadInput
from meterstream.cli.traffic.messages import Kind, Message
from meterstream.local.locking import take_lock


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _message(kind: Kind, **data: int) -> Message:
    return Message(kind, 0, "team", json.dumps({"data": data}).encode(), 0, 0)


def test_what_it_sends_if_nothing_is_said() -> None:
    """50,000 runs, 2 % of them twice, and 0.5 % broken events."""
    (events,) = (option.default for option in demo.params if option.name == "events")
    assert events == 50_000
    assert (DUPLICATES_PPM, INVALID_PPM) == (20_000, 5_000)


def test_what_an_earlier_demo_left_is_removed() -> None:
    """A second demo begins with an empty directory."""
    left = Path(DEFAULT) / "kafka"
    left.mkdir(parents=True)
    (left / "log").touch()
    (Path(DEFAULT) / "stack.json").touch()
    assert fresh_place(None) == Path(DEFAULT)
    assert [entry.name for entry in Path(DEFAULT).iterdir()] == ["lock"]


def test_a_demo_that_still_runs_is_left_alone() -> None:
    """Where a kept demo runs, the next one takes another directory and touches nothing of it."""
    (Path(DEFAULT)).mkdir()
    (Path(DEFAULT) / "stack.json").touch()
    lock = take_lock(Path(DEFAULT) / "lock", "test")
    try:
        assert fresh_place(None) == Path(f"{DEFAULT}-2")
        assert (Path(DEFAULT) / "stack.json").exists()
    finally:
        os.close(lock)


def test_a_given_directory_is_never_emptied(tmp_path: Path) -> None:
    """A directory of the user's with anything in it is refused."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").touch()
    with pytest.raises(BadInput, match="is not empty"):
        fresh_place(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis").exists()


def test_prices_by_hand() -> None:
    """1,000 input tokens of which 400 cached and 101 output tokens cost what paper says."""
    run = _message(Kind.RUN, input_tokens=1000, cached_tokens=400, output_tokens=101)
    # 500 + 600 x 250.5 + 400 x 25 + 101 x 1250.75 = 500 + 150,300 + 10,000 + 126,325.75
    assert price_micro(run) == 500 + 150_300 + 10_000 + 126_326


def test_each_component_is_rounded_on_its_own() -> None:
    """Plain output and reasoning are rounded apart, half up: 1250.75 each, not 2501.5 together."""
    assert price_micro(_message(Kind.RUN, output_tokens=2, reasoning_tokens=1)) == 500 + 2 * 1251


def test_only_runs_cost() -> None:
    """Resends and broken events cost nothing, and explicit credits are taken as they are."""
    assert price_micro(_message(Kind.DUPLICATE, input_tokens=1000)) == 0
    assert price_micro(_message(Kind.INVALID, input_tokens=1000)) == 0
    assert price_micro(_message(Kind.RUN, input_tokens=1000, credits_micro=7)) == 7
