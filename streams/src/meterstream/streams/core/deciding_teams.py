"""What a batch of teams' events used, and what their limits and organisations are told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.journal import Section

from .batch import EventBatch
from .cells import CellKey
from .context import Context, cause_of
from .counting import Counting
from .crossings import Decided
from .deciding import Decision, Spent
from .decode import (
    AnyEvent,
    SessionStarted,
)
from .limit_rows import CauseOf
from .running import NO_USES, Uses
from .sections import measures_of
from .sessions import Session
from .state import PartitionState
from .team_usage import encode_team_usage
from .telling import Side
from .totals import Used
from .using import Recorded, amounts_of_record, started, used_by_corrections, uses_of
from .valid import Valid
from .windows import Window


@dataclass(frozen=True, slots=True)
class Using:
    """What a batch used, where somebody asks: its limits, or the organisations of its teams."""

    keys: Sequence[CellKey]
    totals: NDArray[np.int64]
    """Shape (keys, MEASURES)."""
    uses: Uses = NO_USES
    """Only where limits ask."""
    at: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Which of the valid events each use is of."""


_NOT_ASKED: Final = Using((), NO_USES.amounts)


def uses_asked_for(
    context: Context, valid: Valid[AnyEvent], counting: Counting, counted: NDArray[np.bool_]
) -> Using:
    """Return what was used by those of the valid events that were counted, if somebody asks."""
    limits_ask = len(context.governed.limits) > 0 or bool(
        context.governed.limits_named_by(context.control)
    )
    if not limits_ask and not context.entries.organisations:
        return _NOT_ASKED
    if not limits_ask and not context.corrections:
        # The same from what the record says of cells, which takes less.
        usage, state = counting.usage, context.state
        recorded = Recorded(usage.cells, usage.late, counting.sessions)
        return Using(*amounts_of_record(recorded, state.cells, state.sessions.get))
    runs = counting.charged
    starts = _starts(context.state, valid, counted, counting.sessions)
    uses, at = uses_of(runs, measures_of(runs), runs.chosen(counted), starts)
    return Using(uses.keys, uses.totals() if len(at) else NO_USES.amounts, uses, at)


def told_to_organisations(context: Context, using: Using) -> dict[Section, bytes]:
    """Return what organisations are to be told of their teams."""
    entries = context.entries
    if not entries.organisations:
        return {}
    return encode_team_usage(
        using.keys, using.totals, context.corrections, entries.organisations_of
    )


def decide_limits(
    context: Context, batch: EventBatch, valid: Valid[AnyEvent], using: Using, clock_us: int
) -> tuple[Decided, CauseOf, Mapping[Window, Used] | None]:
    """Return where limits stand after this step, the causes of their crossings, and what was used.

    Limits that entries of this step set are in force for its events. `clock_us` is the clock after
    them.
    """
    state, limits, zone_of = context.state, context.governed.limits, context.entries.zone_of
    anew = context.governed.limits_named_by(context.control)
    used: Mapping[Window, Used] | None = None
    if using is not _NOT_ASKED:
        used = state.totals.by_window(using.keys, using.totals, zone_of) if using.keys else {}
    if not (len(limits) or anew or state.is_untold or state.telling):
        return Decided(), {}, used
    decision = Decision(
        state.totals,
        state.reached,
        Side(state.control.limits, state.entries.zone_of, state.told_us, state.telling),
        Side(limits, zone_of, clock_us),
        Spent(using.uses, used or {}, _corrected(context)),
        anew,
    )
    decided = decision.decide(
        state.clock_us,
        is_untold=state.is_untold,
        accounts=(account.team_id for account in state.ledger),
        portion=context.portion,
    )
    causes = {
        one.at: cause_of(batch, valid, int(using.at[one.at]))
        for one in decided.crossings
        if one.at is not None
    }
    return decided, causes, used


def _corrected(context: Context) -> dict[Window, Used]:
    # By the clock before the events of the record: they count in windows that end with it.
    over_us = context.state.clock_us - context.policy.horizon_us
    zone_of = context.entries.zone_of
    return used_by_corrections(context.corrections, context.state.totals, zone_of, over_us)


def _starts(
    state: PartitionState,
    valid: Valid[AnyEvent],
    counted: NDArray[np.bool_],
    sessions: tuple[Session, ...],
) -> list[tuple[int, Session]]:
    """Return which of the valid events started a session that had not started before."""
    new = {session.key: session for session in started(state.sessions.get, sessions)}
    found: list[tuple[int, Session]] = []
    for i, event in enumerate(valid.events if new else ()):
        if isinstance(event, SessionStarted) and counted[i]:
            session = new.pop((event.data.team_id, event.data.session_id), None)
            if session is not None:
                found.append((i, session))
    return found
