"""Computing a step of the meter of organisations: what their teams used, and their limits.

The same verdicts, identities and decisions as for teams, on events that tell amounts: nothing is
priced, no cells are kept, and nobody pays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.journal import Section
from meterstream.schemas.organisations import MEASURES as FIELDS
from meterstream.schemas.verdicts import Verdict

from .batch import EventBatch
from .cells import CellKey
from .clock import run_clock
from .columns import times_to_us
from .context import Context, Verdicts, candidates_of, cause_of, decided_step
from .crossings import Decided
from .deciding import Decision, Spent
from .judge import judge_identities
from .limit_rows import CauseOf, encode_limits
from .organisation_events import OrganisationUsed, read_usage, until_corrections
from .organisation_rows import (
    UpTo,
    encode_counted,
    encode_organisation_usage,
    folded,
    key_of,
)
from .running import Uses
from .state import Changes
from .step import Step
from .telling import Side
from .totals import MEASURES, Totals, Used, ZoneOf
from .valid import Valid
from .windows import Window

_I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Amounts:
    """What events tell, one row a quarter of an hour. Arrays and lists of one length."""

    keys: list[CellKey]
    amounts: _I64
    """Shape (rows, MEASURES)."""
    at: _I64
    """Which of the valid events tells it."""

    @classmethod
    def of(cls, events: Sequence[OrganisationUsed], at: Sequence[int]) -> "_Amounts":
        """Return what those of the events tell that stand at some positions, in their order."""
        uses = [(i, use) for i in at for use in events[i].data.uses]
        quarters_us = times_to_us([use.quarter_start for _, use in uses]).tolist()
        return cls(
            [
                key_of(events[i].data.organisation_id, quarter_us)
                for (i, _), quarter_us in zip(uses, quarters_us, strict=True)
            ],
            np.array(
                [[getattr(use, name) for name in FIELDS] for _, use in uses], np.int64
            ).reshape(-1, len(MEASURES)),
            np.array([i for i, _ in uses], np.int64),
        )

    def uses(self) -> Uses:
        """Return it as uses of an organisation's cells."""
        index: dict[CellKey, int] = {}
        cell = np.array([index.setdefault(key, len(index)) for key in self.keys], np.int64)
        return Uses(list(index), cell, self.amounts)

    def by_window(self, totals: Totals, zone_of: ZoneOf, over_us: int) -> dict[Window, Used]:
        """Add it up by window and organisation; windows that ended at `over_us` are left out."""
        if not self.keys:
            return {}
        every = totals.by_window(self.keys, self.amounts, zone_of)
        return {window: used for window, used in every.items() if window.end_us > over_us}


def compute_organisations(
    context: Context, batch: EventBatch, quarantined: Mapping[int, str]
) -> Step:
    """Decide a batch in which no correction comes after usage: see `until_corrections`."""
    state, policy = context.state, context.policy
    if until_corrections(batch)[1] is not None:
        raise ValueError("a correction comes after usage: the batch is to be divided there")
    log_times_us = np.array(batch.log_times_us, np.int64)
    clocks_us = run_clock(state.clock_us, log_times_us, context.now_us, policy.clock_skew_us)
    clock_us = int(clocks_us[-1]) if len(clocks_us) else state.clock_us
    verdicts = Verdicts(np.zeros(len(batch.offsets), np.uint8), {})

    # 1. Read: each record is an event or refused.
    read = read_usage(batch.values, state.partition, state.partition_of_team, quarantined)
    for position, verdict, detail in read.refused:
        verdicts.of_records[position], verdicts.details[position] = verdict, detail

    # 2. Judge: when, and whether it was counted before.
    valid = Valid.of(read.events, np.array(read.at, np.int64), clocks_us)
    owners = [event.data.organisation_id for event in valid.events]
    unless = np.full(len(valid.events), Verdict.COUNTED, np.uint8)
    judged = judge_identities(
        state.dedup, policy.horizon_us, candidates_of(context, valid, owners, unless)
    )
    verdicts.of_records[valid.at] = judged.verdicts

    # 3. What was used, and what corrections took back before.
    counted = np.flatnonzero(judged.verdicts == Verdict.COUNTED).tolist()
    corrects = [valid.events[i].data.corrects for i in counted]
    corrected = _Amounts.of(
        valid.events, [i for i, one in zip(counted, corrects, strict=True) if one]
    )
    used = _Amounts.of(
        valid.events, [i for i, one in zip(counted, corrects, strict=True) if not one]
    )

    # 4. Where limits stand after it.
    decided, causes = _decide(context, batch, valid, corrected, used, clock_us)

    sections = encode_limits(decided, causes)
    usage = folded([*corrected.keys, *used.keys], np.concatenate((corrected.amounts, used.amounts)))
    up_to = _up_to([valid.events[i] for i in counted])
    if usage.keys:
        sections[Section.ORGANISATION_USAGE] = encode_organisation_usage(usage)
    if up_to:
        sections[Section.COUNTED] = encode_counted(up_to)
    return decided_step(
        context,
        batch,
        verdicts,
        judged.ids.to_bytes(),
        sections,
        Changes(
            ids=judged.ids,
            catalog=context.catalog,
            control=context.control,
            stands=decided.stands,
            governed=context.governed,
            telling=decided.telling,
            organisation_usage=usage,
            counted=up_to,
        ),
        clock_us=clock_us,
        skewed_log_times=int(np.count_nonzero(log_times_us > clocks_us)),
    )


def _decide(
    context: Context,
    batch: EventBatch,
    valid: "Valid[OrganisationUsed]",
    corrected: _Amounts,
    used: _Amounts,
    clock_us: int,
) -> tuple[Decided, CauseOf]:
    """Return where limits stand after this step, and the causes of their crossings."""
    state, limits = context.state, context.governed.limits
    zone_of = context.entries.zone_of_organisation
    anew = context.governed.limits_named_by(context.control)
    if not (len(limits) or anew or state.is_untold or state.telling):
        return Decided(), {}
    # By the clock before the events of the record: some may be of windows that end with it.
    over_us = state.clock_us - context.policy.horizon_us
    decision = Decision(
        state.totals,
        state.reached,
        Side(state.control.limits, state.zone_of, state.told_us, state.telling),
        Side(limits, zone_of, clock_us),
        Spent(
            used.uses(),
            used.by_window(state.totals, zone_of, over_us),
            corrected.by_window(state.totals, zone_of, over_us),
        ),
        anew,
    )
    decided = decision.decide(state.clock_us, is_untold=state.is_untold, portion=context.portion)
    return decided, {
        one.at: _cause_of(batch, valid, int(used.at[one.at]))
        for one in decided.crossings
        if one.at is not None
    }


def _cause_of(batch: EventBatch, valid: "Valid[OrganisationUsed]", i: int) -> dict[str, object]:
    """Return how a crossing names the event that caused it, and the team that it tells of."""
    found = cause_of(batch, valid, i)
    found["cause"]["team_id"] = valid.events[i].data.team_id
    return found


def _up_to(events: Sequence[OrganisationUsed]) -> tuple[UpTo, ...]:
    """Return up to where teams are counted: by the last whole record of each of their partitions.

    Where a batch ends between the events of a record, the rest is counted with the next one.
    """
    found: dict[int, UpTo] = {}
    for event in events:
        if event.data.more:
            continue
        as_of = event.data.as_of
        found[as_of.partition] = UpTo(
            str(as_of.events_topic_id),
            as_of.generation,
            as_of.partition,
            as_of.journal_offset,
            as_of.events_position,
        )
    return tuple(found[partition] for partition in sorted(found))
