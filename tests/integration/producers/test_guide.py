"""The guide for service developers can be followed word by word."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.limit_states import StatesTopic, heartbeats, limit
from tests.support.publishing import PARTITIONS, create_events_topic, read_topic

from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import parse_event

GUIDE = Path(__file__).parents[3] / "docs" / "producers.md"


def test_the_guides_examples_run(
    kafka: str,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its Python blocks run one after the other, and what they publish is what the meter reads."""
    topic = create_events_topic(kafka, prefix)
    states = StatesTopic(kafka, prefix)
    states.create()
    states.write(limit("team-7", used=10), heartbeats(0))
    monkeypatch.setenv("METERSTREAM_KAFKA_BOOTSTRAP", kafka)
    monkeypatch.setenv("METERSTREAM_SPOOL_DIR", str(tmp_path))
    monkeypatch.setenv("METERSTREAM_TOPIC_PREFIX", prefix)
    monkeypatch.setenv("METERSTREAM_PUBLISH_TIMEOUT_MS", "20000")
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 10
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{GUIDE.name}, example {number + 1}", "exec"), names)  # noqa: S102
    said = capsys.readouterr().out
    assert "cap: 10 of 10 runs, until " in said
    assert "completed:run-1 acknowledged" in said
    assert names["left"] == 0
    found = read_topic(kafka, topic)
    for partition, key, value in found:
        assert partition == partition_of(key.decode(), PARTITIONS)
        parse_event(value)
    kinds = sorted(json.loads(value)["type"].removeprefix("meterstream.") for _, _, value in found)
    assert kinds == [
        "run.completed.v1",
        "run.completed.v1",
        "run.completed.v1",
        "run.completed.v1",
        "session.ended.v1",
        "session.started.v1",
    ]
