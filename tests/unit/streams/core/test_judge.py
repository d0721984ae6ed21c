"""The verdict on each identity: new, seen before with the same content, or with another one."""

import numpy as np
import pytest

from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core.dedup import Dedup, Ids
from meterstream.streams.core.judge import (
    Candidates,
    Judged,
    judge_identities,
    judge_in_order,
)

HOUR = 3_600_000_000
HORIZON = 24 * HOUR
COUNTED, DUPLICATE, CONFLICT = Verdict.COUNTED, Verdict.DUPLICATE, Verdict.CONFLICT
TOO_LATE, AHEAD, LARGE = Verdict.TOO_LATE, Verdict.TIME_AHEAD, Verdict.AMOUNT_TOO_LARGE


Row = tuple[tuple[int, int], int, int, int, Verdict]
"""Identity, content, hour of event time, hour of the clock, and the verdict if it is new."""


def candidates(*events: Row) -> Candidates:
    """Return events to judge."""
    identity, content, hours, clock_hours, unless = zip(*events, strict=True)
    hi, lo = zip(*identity, strict=True)
    return Candidates(
        np.array(hi, np.uint64),
        np.array(lo, np.uint64),
        np.array(content, np.uint32),
        np.array(hours, np.int64) * HOUR + HOUR - 1,
        np.array(clock_hours, np.int64) * HOUR,
        np.array(unless, np.uint8),
    )


def judge(*events: Row, known: Dedup | None = None) -> Judged:
    """Judge events at once, and one after the other, which must be the same."""
    known = known or Dedup(HORIZON)
    judged = judge_identities(known, HORIZON, candidates(*events))
    in_order = judge_in_order(known, HORIZON, candidates(*events), lambda _: True)
    assert in_order.verdicts.tolist() == judged.verdicts.tolist()
    assert in_order.verdicts.dtype == judged.verdicts.dtype == np.uint8
    assert in_order.ids.to_bytes() == judged.ids.to_bytes()
    return judged


def dedup(*rows: tuple[tuple[int, int], int, int]) -> Dedup:
    """Return a memory of (identity, content, hour)."""
    known = Dedup(HORIZON)
    for (hi, lo), content, hour in rows:
        known.add(
            Ids.of(
                np.array([hi], np.uint64),
                np.array([lo], np.uint64),
                np.array([content], np.uint32),
                np.array([hour], np.uint32),
            )
        )
    return known


A, B = (5, 1), (5, 2)
"""Two identities that share their high half."""
C = (4, 1)


def test_new_identities_are_counted_and_kept() -> None:
    """Events that nobody has seen are counted; their ids come out sorted, with their hours."""
    judged = judge((A, 70, 3, 3, COUNTED), (C, 71, 4, 4, COUNTED))
    assert judged.verdicts.tolist() == [COUNTED, COUNTED]
    assert judged.ids.hi.tolist() == [4, 5]
    assert judged.ids.lo.tolist() == [1, 1]
    assert judged.ids.content.tolist() == [71, 70]
    assert judged.ids.hour.tolist() == [4, 3]
    assert judged.ids.hour.dtype == np.uint32


def test_known_identities_are_duplicates_or_conflicts() -> None:
    """The same content is a duplicate, another one a conflict; neither is kept again."""
    known = dedup((A, 70, 3))
    judged = judge(
        (A, 70, 3, 4, COUNTED), (A, 71, 3, 4, COUNTED), (B, 70, 3, 4, COUNTED), known=known
    )
    assert judged.verdicts.tolist() == [DUPLICATE, CONFLICT, COUNTED]
    assert judged.ids.lo.tolist() == [2]


@pytest.mark.parametrize("unless", [TOO_LATE, AHEAD, LARGE])
def test_an_event_that_cannot_be_counted_is_not_kept(unless: Verdict) -> None:
    """Whatever the reason, a refused identity may come again and be counted then."""
    judged = judge((A, 70, 3, 3, unless), (A, 70, 3, 3, COUNTED), (A, 70, 3, 3, unless))
    assert judged.verdicts.tolist() == [unless, COUNTED, DUPLICATE]
    assert len(judged.ids) == 1


@pytest.mark.parametrize("unless", [TOO_LATE, AHEAD, LARGE])
def test_a_known_identity_is_a_duplicate_whatever_else_is_wrong(unless: Verdict) -> None:
    """A resend that is too late by now is a duplicate, and a conflict is a conflict."""
    judged = judge((A, 70, 3, 3, unless), (A, 71, 3, 3, unless), known=dedup((A, 70, 3)))
    assert judged.verdicts.tolist() == [DUPLICATE, CONFLICT]


def test_repeats_within_a_batch_are_judged_in_order() -> None:
    """The first of a batch is counted, the same again a duplicate, anything else a conflict."""
    judged = judge(
        (A, 70, 3, 3, COUNTED),
        (B, 70, 3, 3, COUNTED),
        (A, 71, 3, 3, COUNTED),
        (A, 70, 3, 3, COUNTED),
        (B, 70, 3, 3, COUNTED),
        (C, 70, 3, 3, COUNTED),
    )
    assert judged.verdicts.tolist() == [COUNTED, COUNTED, CONFLICT, DUPLICATE, DUPLICATE, COUNTED]
    assert sorted(zip(judged.ids.hi.tolist(), judged.ids.lo.tolist(), strict=True)) == [C, A, B]


def test_an_identity_is_known_until_the_clock_reaches_its_expiry() -> None:
    """Between expiry and forgetting, which waits for the record's end, an id counts as forgotten.

    The id of hour 3 expires at hour 3 + 1 + 24 + 1 = 29.
    """
    known = dedup((A, 70, 3))
    judged = judge(
        (A, 70, 28, 28, COUNTED),
        (A, 70, 29, 29, COUNTED),
        (A, 70, 29, 29, COUNTED),
        (A, 71, 30, 30, COUNTED),
        known=known,
    )
    assert judged.verdicts.tolist() == [DUPLICATE, COUNTED, DUPLICATE, CONFLICT]
    assert judged.ids.hour.tolist() == [29]


def test_an_expired_identity_alone_in_its_batch_is_new() -> None:
    """The same holds for an id that the batch holds once."""
    judged = judge((A, 71, 29, 29, COUNTED), known=dedup((A, 70, 3)))
    assert judged.verdicts.tolist() == [COUNTED]
    assert judged.ids.content.tolist() == [71]


def test_an_identity_that_came_back_is_known_by_its_last_content() -> None:
    """Of an id that was counted, forgotten and counted again, the second time is remembered."""
    known = dedup((A, 70, 3), (A, 71, 29))
    judged = judge((A, 71, 29, 31, COUNTED), (A, 70, 3, 31, TOO_LATE), known=known)
    assert judged.verdicts.tolist() == [DUPLICATE, CONFLICT]


def test_an_identity_may_expire_within_a_batch() -> None:
    """A batch that spans more than the horizon judges each event by the clock at its own offset."""
    judged = judge(
        (A, 70, 3, 3, COUNTED),
        (A, 70, 3, 28, TOO_LATE),
        (A, 70, 3, 29, TOO_LATE),
        (A, 71, 29, 29, COUNTED),
        (A, 71, 29, 54, COUNTED),
        (A, 70, 55, 55, COUNTED),
    )
    assert judged.verdicts.tolist() == [COUNTED, DUPLICATE, TOO_LATE, COUNTED, DUPLICATE, COUNTED]


def test_no_events_give_no_verdicts() -> None:
    """An empty batch is judged at once."""
    none = Candidates(*(np.zeros(0, t) for t in ("u8", "u8", "u4", "i8", "i8", "u1")))
    judged = judge_identities(Dedup(HORIZON), HORIZON, none)
    assert len(judged.verdicts) == len(judged.ids) == 0


def test_what_does_not_fit_is_refused_in_order() -> None:
    """Only events that would be counted are asked, in order; a refused one is as if never sent."""
    asked: list[int] = []

    def fits(i: int) -> bool:
        asked.append(i)
        return i not in (1, 4)

    events = candidates(
        (A, 70, 3, 4, COUNTED),
        (B, 70, 3, 4, COUNTED),
        (A, 70, 3, 4, COUNTED),
        (C, 70, 3, 4, TOO_LATE),
        (B, 70, 3, 4, COUNTED),
        (B, 71, 3, 4, COUNTED),
        (B, 70, 3, 4, COUNTED),
        ((9, 9), 70, 3, 4, COUNTED),
    )
    known = dedup(((9, 9), 70, 3))
    judged = judge_in_order(known, HORIZON, events, fits)
    assert asked == [0, 1, 4, 5]
    assert judged.verdicts.tolist() == [
        COUNTED, LARGE, DUPLICATE, TOO_LATE, LARGE, COUNTED, CONFLICT, DUPLICATE,
    ]  # fmt: skip
    assert judged.ids.content.tolist() == [70, 71]
