"""Corrections: what they change, and which of them are taken."""

import pytest
from tests.support.craft import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Json,
    Partition,
    adjustment,
    cells,
    charges,
    entries,
    rejects,
    run,
    void,
)

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.schemas.sketch import bucket_of
from meterstream.schemas.times import to_us
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core.arrow import CORRECTION_SCHEMA, decode_cells, decode_rows
from meterstream.streams.core.corrections import CORRECTED_BYTES, Corrected
from meterstream.streams.core.restore import apply_record, begin, genesis_step
from meterstream.streams.core.step import Step

RUN = run(
    "e-1",
    NOW,
    user_id="u",
    model="m",
    credits_micro=700,
    input_tokens=30,
    latency_us=5_000,
    time_to_first_token_us=400,
    status="failed",
)
VOID = void(RUN, first_token_us=-400)
LATE = (Section.LATE_MINUTES, Section.LATE_QUARTERS, Section.LATE_DAYS)


def corrections(step: Step) -> list[Json]:
    """Return the rows of the corrections of a step."""
    section = unpack_sections(step.value).get(Section.CORRECTIONS)
    return [] if section is None else decode_rows(section, CORRECTION_SCHEMA)


def started() -> Partition:
    """Return a partition that has counted the run."""
    partition = Partition()
    partition.take(RUN)
    return partition


def used_by_team(partition: Partition) -> set[tuple[int, ...]]:
    """Return what the team used, by day and by month."""
    totals = partition.state.totals
    team = totals.subjects.number(("team", "team", ""))
    return {
        tuple(used.amounts[used.subjects.tolist().index(team)].tolist())
        for _, used in totals.items()
        if team in used.subjects
    }


def test_a_void_takes_a_run_back_whole() -> None:
    """Sums, sketches and totals are as if the run had not been counted."""
    partition = started()
    step = partition.take(control=entries(VOID))
    for section in LATE:
        values = decode_cells(unpack_sections(step.value)[section])
        assert cells(step, section) == [
            (
                0,
                {
                    "runs": -1,
                    "errors": -1,
                    "input_tokens": -30,
                    "credits_micro": -700,
                    "duration_us": -SECOND,
                    "latency_us": -5_000,
                    "first_token_us": -400,
                },
            )
        ]
        assert list(values.latency) == [{bucket_of(5_000): -1}]
        assert list(values.first_token) == [{bucket_of(400): -1}]
        assert values.keys[0][1:3] == ("team", "u")
    assert used_by_team(partition) == set()
    assert charges(step) == []
    (row,) = corrections(step)
    assert (row["control_offset"], row["number"], row["cell"], row["card"]) == (0, 0, 0, "explicit")
    assert (row["original_source"], row["original_id"], row["run_id"]) == ("/tests", "e-1", "run")
    assert (row["runs"], row["credits_micro"], to_us(row["event_time"])) == (-1, -700, NOW)


def test_an_adjustment_leaves_the_run_counted() -> None:
    """Its amounts are added, whatever their sign; runs and sketches stay as they are."""
    partition = started()
    changes = adjustment(RUN, credits_micro=-200, output_tokens=5, unpriced_runs=-1)
    step = partition.take(control=entries(changes))
    sums = {"credits_micro": -200, "output_tokens": 5, "unpriced_runs": -1}
    assert cells(step, Section.LATE_DAYS) == [(0, sums)]
    assert list(decode_cells(unpack_sections(step.value)[LATE[0]]).latency) == [{}]
    assert used_by_team(partition) == {(500, 35, 1, 0, 0)}


def test_corrections_are_folded_with_late_runs_of_their_record() -> None:
    """A cell stands once among late rows, whatever it is made of, and all grains agree."""
    partition = started()
    partition.take(run("e-2", NOW + HOUR), at_us=NOW + HOUR)
    late = run("e-3", NOW + 5, user_id="u", model="m", credits_micro=1, latency_us=5_000)
    other = run("e-4", NOW + MINUTE, user_id="v")
    step = partition.take(late, other, control=entries(VOID, adjustment(RUN, credits_micro=1)))
    assert [detail for *_, detail in rejects(step)] == [
        "data.original_id: this run was voided, nothing of it is left"
    ]
    minutes = decode_cells(unpack_sections(step.value)[Section.LATE_MINUTES])
    assert [key[2] for key in minutes.keys] == ["u", "v"]
    assert minutes.latency[0] == {}, "one run in, one out of the same bucket"
    assert cells(step, Section.LATE_MINUTES)[0][1]["credits_micro"] == -699
    assert [row["cell"] for row in charges(step)] == [0, 1]
    assert [row["cell"] for row in corrections(step)] == [0]


@pytest.mark.parametrize("together", [True, False])
def test_two_voids_of_one_run_are_one(together: bool) -> None:
    """The second says the same and is passed over, in the same record and in a later one."""
    partition = started()
    again = {**VOID, "id": "another", "data": {**VOID["data"], "reason": "again"}}
    if together:
        steps = [partition.take(control=entries(VOID, again))]
    else:
        steps = [
            partition.take(control=entries(VOID)),
            partition.take(control=entries(again, first=1)),
        ]
    assert [len(corrections(step)) for step in steps] == [1, 0][: len(steps)]
    assert all(rejects(step) == [] for step in steps)
    assert used_by_team(partition) == set()


@pytest.mark.parametrize(
    ("before", "event", "reason"),
    [
        ([VOID], void(RUN), "data.original_id: this run has such a correction already"),
        (
            [adjustment(RUN, errors=1)],
            adjustment(RUN, errors=-1),
            "data.number: this run has such a correction already",
        ),
        ([VOID], adjustment(RUN), "data.original_id: this run was voided"),
        ([], void({**RUN, "id": "e-9"}), "data.original_id: no event of this team, source and id"),
        ([], void({**RUN, "source": "/x"}), "data.original_id: no event of this team"),
        (
            [],
            {**VOID, "data": {**VOID["data"], "original_time": "2025-12-31T22:59:59Z"}},
            "data.original_time: the event of this team, source and id has another time",
        ),
    ],
)
def test_corrections_that_contradict_what_is_known_are_refused(
    before: list[Json], event: Json, reason: str
) -> None:
    """Nothing is corrected by them, and the dead letter says why."""
    partition = started()
    partition.take(control=entries(*before))
    known = used_by_team(partition)
    step = partition.take(control=entries(event, first=len(before)))
    ((topic, offset, verdict, detail),) = rejects(step)
    assert (topic, offset, verdict) == ("control", len(before), Verdict.NOT_ALLOWED)
    assert detail.startswith(reason)
    assert (corrections(step), used_by_team(partition)) == ([], known)


def test_adjustments_of_one_run_add_up() -> None:
    """Each number counts once, and a void may follow them."""
    partition = started()
    both = [adjustment(RUN, n, credits_micro=n) for n in (1, 2)]
    partition.take(control=entries(*both, both[0]))
    assert used_by_team(partition) == {(703, 30, 1, 0, 0)}
    partition.take(control=entries(void(RUN, credits_micro=-703), first=3))
    assert used_by_team(partition) == set()


def test_what_is_older_than_the_horizon_is_taken_on_trust() -> None:
    """Identities from before are forgotten, so nothing there can be looked up."""
    partition = started()
    partition.take(run("e-2", NOW + 3 * DAY), at_us=NOW + 3 * DAY)
    step = partition.take(control=entries(VOID))
    assert len(corrections(step)) == 1
    again = partition.take(control=entries(VOID, first=1))
    assert (corrections(again), rejects(again)) == ([], [])


def test_corrections_are_known_for_good() -> None:
    """A snapshot holds which ones were taken, and so does the genesis of a new generation."""
    partition = started()
    partition.take(control=entries(VOID))
    restarted = partition.restarted(partition.policy)
    assert len(restarted.state.control.corrected) == 1
    step = restarted.take(control=entries(VOID, first=1))
    assert (corrections(step), rejects(step)) == ([], [])
    state = partition.state
    genesis = genesis_step(
        grace_seconds=30,
        generation=2,
        events_topic_id=state.events_topic_id,
        journal_topic_id=state.journal_topic_id,
        control_topic_id=state.control_topic_id,
        catalog_topic_id=state.catalog_topic_id,
        events_from=1,
        corrected=state.control.corrected,
    )
    begun = begin(state.policy, 0, 9, NOW, genesis)
    read = apply_record(state.policy, 0, None, 9, NOW, genesis.header, genesis.value)
    for known in (begun, read):
        assert known.control.corrected.to_bytes() == state.control.corrected.to_bytes()


def test_they_are_found_among_many() -> None:
    """Of many corrections each run's own are found, in whatever order they came."""
    events = [void({**RUN, "id": f"e-{i}"}) for i in range(40)]
    partition = Partition()
    partition.take(*({**RUN, "id": f"e-{i}"} for i in range(40)))
    first = [adjustment({**RUN, "id": f"e-{i}"}) for i in range(40)]
    partition.take(control=entries(*first))
    partition.take(control=entries(*reversed(events), first=40))
    known = partition.state.control.corrected
    assert len(known) == 80
    data = known.to_bytes()
    assert len(data) == 80 * CORRECTED_BYTES
    halves = data[: 40 * CORRECTED_BYTES], data[40 * CORRECTED_BYTES :]
    joined = Corrected.from_bytes(halves[1]).with_all(Corrected.from_bytes(halves[0]))
    step = partition.take(control=entries(*first, *events, first=80))
    assert (corrections(step), rejects(step)) == ([], [])
    assert len(joined) == 80
