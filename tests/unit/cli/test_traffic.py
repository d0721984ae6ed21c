"""What is sent is the same for the same seed, valid where it is to be, and broken where not."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

from meterstream.cli.errors import BadInput
from meterstream.cli.traffic.broken import BREAKS, break_run
from meterstream.cli.traffic.ends import keep_end
from meterstream.cli.traffic.messages import Kind, Message, messages
from meterstream.cli.traffic.population import Sizes
from meterstream.cli.traffic.runs import RunMaker
from meterstream.cli.traffic.sender import Totals
from meterstream.cli.traffic.synthetic import Synthetic
from meterstream.cli.traffic.trace import TraceRow
from meterstream.schemas.run import RunCompleted

SIZES = Sizes(teams=5, users=23, agents=11, models=3)
SHIFT_US = 1_769_860_800_000_000


def _messages(events: int = 2000, seed: int = 7, sizes: Sizes = SIZES) -> list[Message]:
    rows = Synthetic(events, 60_000_000, seed)
    runs = RunMaker(sizes, seed, "urn:test").make(rows, SHIFT_US)
    return list(messages(runs, duplicates_ppm=20_000, invalid_ppm=5_000, seed=seed))


def test_the_same_seed_gives_the_same_bytes() -> None:
    """Two makings with one seed are equal in every byte, and another seed's differ."""
    assert _messages() == _messages()
    assert _messages() != _messages(seed=8)


def test_every_run_is_valid() -> None:
    """Each run passes the contract, and its key is its team."""
    for message in _messages():
        if message.kind is not Kind.INVALID:
            event = RunCompleted.model_validate_json(message.value)
            assert event.data.team_id == message.key
            assert event.data.input_tokens == message.input_tokens
            assert event.data.output_tokens == message.output_tokens


def test_a_named_first_token_makes_the_run_last_as_long() -> None:
    """Where a trace names the time to first token alone, the made-up latency is no shorter."""
    rows = [TraceRow(2, 0, {"time_to_first_token_us": 90_000_000})]
    (run,) = RunMaker(SIZES, 1, "urn:test").make(rows, SHIFT_US)
    data = RunCompleted.model_validate_json(run.value).data
    assert (data.time_to_first_token_us, data.latency_us) == (90_000_000, 90_000_000)


def test_every_broken_event_is_refused() -> None:
    """Each way of breaking a run gives something that the contract refuses."""
    run = next(iter(RunMaker(SIZES, 1, "urn:test").make(Synthetic(1, 1000, 1), SHIFT_US)))
    for number in range(len(BREAKS)):
        with pytest.raises(ValidationError):
            RunCompleted.model_validate_json(break_run(run, number))


def test_duplicates_are_sent_runs_again() -> None:
    """A resend is byte for byte a run that was sent before, and no run is sent three times."""
    sent: Counter[bytes] = Counter()
    for message in _messages():
        if message.kind is Kind.DUPLICATE:
            assert sent[message.value] == 1
        if message.kind is not Kind.INVALID:
            sent[message.value] += 1
    assert max(sent.values()) == 2


def test_shares_are_kept() -> None:
    """Of 2,000 runs all are sent, and about 2 % twice and 0.5 % broken."""
    kinds = Counter(message.kind for message in _messages())
    assert kinds[Kind.RUN] == 2000
    assert 20 <= kinds[Kind.DUPLICATE] <= 60
    assert 3 <= kinds[Kind.INVALID] <= 20


def test_resends_and_broken_events_change_no_run() -> None:
    """The runs are the same with and without resends and broken events between them."""
    rows = Synthetic(500, 60_000_000, 3)
    plain = messages(RunMaker(SIZES, 3, "urn:test").make(rows, SHIFT_US), 0, 0, seed=3)
    mixed = messages(RunMaker(SIZES, 3, "urn:test").make(rows, SHIFT_US), 90_000, 90_000, seed=3)
    assert [m.value for m in plain] == [m.value for m in mixed if m.kind is Kind.RUN]


def test_users_and_agents_belong_to_one_team() -> None:
    """Users and agents never change teams, an agent never its model, and all teams are used."""
    homes: dict[str, str] = {}
    models: dict[str, str] = {}
    for message in _messages(5000):
        if message.kind is Kind.RUN:
            data = json.loads(message.value)["data"]
            for member in (data["user_id"], data["agent_id"]):
                assert homes.setdefault(member, data["team_id"]) == data["team_id"]
            assert models.setdefault(data["agent_id"], data["model"]) == data["model"]
    assert len(set(homes.values())) == SIZES.teams
    assert len({name for name in homes if name.startswith("user")}) <= SIZES.users
    assert len(models) <= SIZES.agents


def test_synthetic_times_lie_in_the_span_and_in_order() -> None:
    """Times rise and stay within the span, also where there are more runs than microseconds."""
    for events, span_us in ((1000, 60_000_000), (1000, 10)):
        times = [row.time_us for row in Synthetic(events, span_us, 1)]
        assert all(0 <= earlier <= later <= span_us for earlier, later in pairwise(times))


def test_totals_tell_unique_runs_from_resends() -> None:
    """Tokens are those of unique runs: what must come out at the other end."""
    totals = Totals()
    for kind in (Kind.RUN, Kind.RUN, Kind.DUPLICATE, Kind.INVALID):
        totals.add(Message(kind, 0, "team", b"", 10, 1))
    assert totals.as_dict() == {
        "messages": 4,
        "runs": 3,
        "unique_runs": 2,
        "duplicates": 1,
        "invalid": 1,
        "input_tokens": 20,
        "output_tokens": 2,
    }


def test_the_first_end_of_a_set_is_kept(tmp_path: Path) -> None:
    """A set that is sent again gets its first end; another topic or source begins anew."""
    data = tmp_path / "not there yet"
    assert keep_end(data, "topic-a", "urn:one", 1000) == 1000
    assert keep_end(data, "topic-a", "urn:one", 2000) == 1000
    assert keep_end(data, "topic-a", "urn:two", 2000) == 2000
    assert keep_end(data, "topic-b", "urn:one", 3000) == 3000


def test_sizes_that_leave_a_team_empty_are_refused() -> None:
    """All that is wrong with the sizes is said at once."""
    with pytest.raises(BadInput, match=r"--users .* --agents"):
        Sizes(teams=5, users=4, agents=4)
