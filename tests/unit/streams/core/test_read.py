"""Reading a batch: each record is an event, or is refused with the reason that the models name."""

import json

import pytest
from tests.support.craft import NOW, Json, encode, envelope, run, session

from meterstream.schemas.fields import MAX_EVENT_BYTES
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import MAX_DEPTH
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core.decode import Completed, decode_event
from meterstream.streams.core.read import PartitionOf, ReadBatch, read_batch


def read(*values: Json | bytes | None) -> ReadBatch:
    """Read values as a batch of the only partition there is."""
    return read_batch([encode(value) for value in values], 0, PartitionOf(1))


def verdict(value: Json | bytes | None) -> Verdict | None:
    """Return why a value is refused, or None. Its neighbours must not matter."""
    alone = [v for _, v, _ in read(value).refused]
    among = [v for i, v, _ in read(run("a"), value, b"", run("b")).refused if i == 1]
    assert alone == among
    return alone[0] if alone else None


def test_events_keep_their_order_and_positions() -> None:
    """Events and refusals come with their positions, and make up the batch."""
    found = read(run("a"), b"", run("b"), None, session("started", application="x"))
    assert [event.id for event in found.events] == ["a", "b", "s-1"]
    assert found.at == [0, 2, 4]
    assert [(i, v) for i, v, _ in found.refused] == [(1, Verdict.EMPTY), (3, Verdict.NULL_VALUE)]
    assert all(detail for _, _, detail in found.refused)


def test_an_empty_batch_is_read() -> None:
    """No values give no events."""
    assert read() == ReadBatch([], [], [])


def with_control(field: str, text: str) -> Json:
    """Return a run in which one text holds another text."""
    event = run()
    target: Json = event if field in ("id", "source", "subject", "dataschema") else event["data"]
    match field:
        case "tag":
            target["tags"] = {text: "v"}
        case "tag value":
            target["tags"] = {"k": text}
        case "quantity":
            target["quantities"] = {text: 1}
        case _:
            target[field] = text
    return event


NAMES = [
    "id", "source", "subject", "dataschema", "team_id", "run_id", "user_id", "agent_id",
    "project_id", "feature_id", "product", "session_id", "model", "provider", "error_code",
    "tag", "tag value", "quantity",
]  # fmt: skip
CONTROL = ["\x00", "\x01", "\t", "\n", "\x1f", "\x7f", "\x80", "\x85", "\x9f"]


@pytest.mark.parametrize("field", NAMES)
def test_names_hold_no_control_characters(field: str) -> None:
    """Every control character is refused in every name, escaped or raw."""
    for character in CONTROL:
        event = with_control(field, f"a{character}b")
        assert verdict(event) is Verdict.INVALID_TEXT
        if character >= "\x7f":
            raw = json.dumps(event, ensure_ascii=False).encode()
            assert verdict(raw) is Verdict.INVALID_TEXT


@pytest.mark.parametrize("field", NAMES)
def test_names_hold_any_other_character(field: str) -> None:
    """The neighbours of control characters, quotes and backslashes are letters like others."""
    for character in (" ", "~", "\xa0", "\xc2", "°", "€", "😀", '"', "\\", "/", "\u2028", "\ufeff"):
        event = with_control(field, f"a{character}b")
        assert verdict(event) is None
        assert verdict(json.dumps(event, ensure_ascii=False).encode()) is None


@pytest.mark.parametrize("field", ["input", "output", "error_message"])
def test_free_texts_hold_control_characters(field: str) -> None:
    """A prompt may have lines; a name beside it may not."""
    for character in CONTROL:
        event = with_control(field, f"a{character}b")
        assert verdict(event) is None
        event["data"]["model"] = "m\n"
        assert verdict(event) is Verdict.INVALID_TEXT


def test_one_bad_name_refuses_only_its_event() -> None:
    """A control character makes the reader look at all events closely, and refuse one."""
    found = read(run("a", input="x\ny"), run("b", model="x\ny"), run("c"))
    assert [event.id for event in found.events] == ["a", "c"]
    assert found.refused == [(1, Verdict.INVALID_TEXT, "data.model: holds a control character")]


def nested(depth: int) -> bytes:
    """Return a run with an extension attribute, nested so deeply that the whole is `depth`."""
    raw = encode(run())
    assert raw is not None
    return raw[:-1] + b',"ext":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_deep_nesting_is_refused_whatever_stands_beside_it() -> None:
    """64 levels are read and 65 are not, alone or in a batch of hundreds of empty values."""
    assert verdict(nested(MAX_DEPTH)) is None
    assert verdict(nested(MAX_DEPTH + 1)) is Verdict.NOT_JSON
    assert verdict(nested(40_000)) is Verdict.NOT_JSON
    for other in (b"", None, b"{}", b"[]", b'"x"', run()):
        found = read(*[other] * 300, nested(MAX_DEPTH + 1))
        assert (300, Verdict.NOT_JSON) in [(i, v) for i, v, _ in found.refused]


def test_many_brackets_are_no_deep_nesting() -> None:
    """Thousands of arrays beside each other are as deep as one of them."""
    raw = encode(run())
    assert raw is not None
    assert verdict(raw[:-1] + b',"ext":[' + b"[{}]," * 5_000 + b"0]}") is None
    flat = b"[" * (MAX_DEPTH - 2) + b"[],[]" + b"]" * (MAX_DEPTH - 2)
    assert verdict(raw[:-1] + b',"ext":' + flat + b"}") is None
    assert (
        verdict(raw[:-1] + b',"ext":' + flat.replace(b"[],", b"[[]],") + b"}") is Verdict.NOT_JSON
    )


def test_brackets_in_a_text_are_no_nesting() -> None:
    """Hundreds of brackets within a string nest nothing."""
    assert verdict(run(input="[{" * 300)) is None
    assert verdict(run(model="[" * 100)) is None


def test_an_event_of_another_partition_is_refused() -> None:
    """An event on a partition that is not its team's is refused, however well it is formed."""
    home = partition_of("team", 5)
    for partition in range(5):
        found = read_batch([encode(run()), b""], partition, PartitionOf(5))
        if partition == home:
            assert found.at == [0]
        else:
            detail = "data.team_id: belongs to another partition"
            assert found.refused[0] == (0, Verdict.WRONG_PARTITION, detail)
            assert found.refused[1][:2] == (1, Verdict.EMPTY)


def test_a_malformed_event_of_another_partition_is_malformed() -> None:
    """What is wrong with the event itself is the reason, before where it stands."""
    elsewhere = 1 - partition_of("team", 2)
    sick, well = run(model="m\n"), run()
    events: list[Json | bytes] = [sick, well, session("ended"), run(cached_tokens=1), b"", well]
    found = read_batch([encode(event) for event in events], elsewhere, PartitionOf(2))
    assert [(i, v) for i, v, _ in found.refused] == [
        (0, Verdict.INVALID_TEXT),
        (1, Verdict.WRONG_PARTITION),
        (2, Verdict.WRONG_PARTITION),
        (3, Verdict.INCONSISTENT),
        (4, Verdict.EMPTY),
        (5, Verdict.WRONG_PARTITION),
    ]
    assert found.refused[3][2] == "data: cached_tokens exceed input_tokens"


def test_a_quarantined_event_is_not_read() -> None:
    """A position on which the meter failed is refused as internal, with what was raised."""
    found = read_batch([encode(run("a")), encode(run("b"))], 0, PartitionOf(1), {1: "KeyError"})
    assert [event.id for event in found.events] == ["a"]
    assert found.refused == [
        (
            1,
            Verdict.INTERNAL,
            "the meter failed on this event (KeyError); replay it after an upgrade",
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    "time",
    ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:00-00:01", "9999-12-31T23:59:59.9999999Z"],
)
@pytest.mark.parametrize("escaped", [False, True])
def test_times_outside_the_calendar_are_refused(time: str, escaped: bool) -> None:
    """A time that leaves the years 1 to 9999 in UTC is none, in any field and however written."""
    started = envelope(
        "run.started", "e", NOW,
        {"team_id": "team", "run_id": "r", "operation": "feature", "started_at": time},
    )  # fmt: skip
    events = [
        {**run(), "time": time},
        {**session("heartbeat"), "time": time},
        started,
        run(ended_at=time),
    ]
    for event in events:
        raw = json.dumps(event)
        if escaped:
            raw = raw.replace(time, f"\\u{ord(time[0]):04x}{time[1:]}")
        assert verdict(raw.encode()) is Verdict.INVALID_TIME


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_times_at_the_calendars_ends_are_read(time: str) -> None:
    """The first and the last microsecond are times like others."""
    assert verdict({**session("heartbeat"), "time": time}) is None
    assert verdict(run(started_at=time, ended_at=time) | {"time": time}) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Verdict.NULL_VALUE),
        (b"", Verdict.EMPTY),
        (b" ", Verdict.NOT_JSON),
        (b"x" * (MAX_EVENT_BYTES + 1), Verdict.TOO_LARGE),
        (b"\xff", Verdict.NOT_UTF8),
        (b"[]", Verdict.NOT_AN_OBJECT),
        (b"{}", Verdict.MISSING_FIELD),
        ({**run(), "specversion": "0.3"}, Verdict.UNKNOWN_SPECVERSION),
        ({**run(), "type": "meterstream.run.completed.v2"}, Verdict.UNKNOWN_TYPE),
        (run(cost=1), Verdict.UNKNOWN_FIELD),
        (run(input_tokens="1"), Verdict.WRONG_TYPE),
        (run(input_tokens=-1), Verdict.OUT_OF_RANGE),
        ({**run(), "time": "today"}, Verdict.INVALID_TIME),
    ],
    ids=str,
)
def test_each_fault_has_its_reason(value: Json | bytes | None, expected: Verdict) -> None:
    """A value that is no event is refused with one reason."""
    assert verdict(value) is expected


def test_an_event_may_be_as_large_as_the_bound() -> None:
    """Exactly the largest size is read, with white space; one byte more is not."""
    raw = encode(run())
    assert raw is not None
    padded = raw + b" " * (MAX_EVENT_BYTES - len(raw))
    assert verdict(padded) is None
    assert verdict(padded + b" ") is Verdict.TOO_LARGE
    assert isinstance(decode_event(padded), Completed)


def test_partitions_are_remembered_and_the_memory_is_bounded() -> None:
    """Each team gets its own partition, however many there are, and as many as may be are kept."""
    of_team = PartitionOf(7, limit=3)
    kept = set()
    for _ in range(2):
        for i in range(20):
            assert of_team(f"team-{i}") == partition_of(f"team-{i}", 7)
            kept.add(len(of_team._known))
    assert kept == {1, 2, 3}
