"""What must hold within the records of a block, whatever ClickHouse says.

Each check takes a block and yields what is wrong with it, by journal offset.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from meterstream.schemas.journal import Section
from meterstream.schemas.rows import CHARGE_COMPONENTS
from meterstream.schemas.verdicts import DEAD_LETTERED, Verdict

from .block import Block
from .columns import KEYS, SUMS

Wrong = tuple[int, str]
"""A journal offset, and what is wrong there."""

_DEAD: Final = np.zeros(256, np.bool_)
_DEAD[[int(verdict) for verdict in DEAD_LETTERED]] = True
_MINUTE_US: Final = 60_000_000
_GRAINS: Final = (
    (Section.CELLS, 60),
    (Section.LATE_MINUTES, 60),
    (Section.LATE_QUARTERS, 900),
    (Section.LATE_DAYS, 86_400),
)


def _first(
    block: Block, frame: pl.DataFrame, wrong: NDArray[np.bool_], text: str
) -> Iterator[Wrong]:
    """Yield the first wrong row of each record."""
    if wrong.any():
        records = frame["record"].to_numpy()[wrong]
        for record, count in Counter(records.tolist()).items():
            yield int(block.offsets[record]), f"{count} {text}"


def check_cell_numbers(block: Block) -> Iterator[Wrong]:
    """Each charge and each correction points to a cell of its own record."""
    rows = sum(
        np.bincount(block.frames[section]["record"], minlength=len(block.records))
        for section in (Section.CELLS, Section.LATE_MINUTES)
    )
    for section in (Section.CHARGES, Section.CORRECTIONS):
        frame = block.frames[section]
        cell = frame["cell"].to_numpy()
        wrong = (cell < 0) | (cell >= np.asarray(rows)[frame["record"].to_numpy()])
        name = section.name.lower()
        yield from _first(block, frame, wrong, f"{name} point to a cell that the record has not")


def check_accounts(block: Block) -> Iterator[Wrong]:
    """Of every account granted + overdrawn = drawn + expired + rolled over + left."""
    accounts = block.frames[Section.ACCOUNTS]
    if not len(accounts):
        return
    column = {name: accounts[f"{name}_micro"].to_numpy() for name in _BOOKED}
    came = column["granted"] + column["overdrawn"]
    went = column["drawn"] + column["expired"] + column["rolled_over"] + column["left"]
    yield from _first(block, accounts, came != went, "accounts do not add up")
    apart = column["left"] - column["overdrawn"] != column["balance"]
    yield from _first(block, accounts, apart, "accounts have another balance than what is left")


_BOOKED: Final = (
    "granted", "overdrawn", "drawn", "expired", "rolled_over", "left", "balance",
)  # fmt: skip


def check_draws(block: Block) -> Iterator[Wrong]:
    """The draws of a charge, or of a correction, add up to its credits."""
    draws = block.frames[Section.DRAWS]
    if not len(draws):
        return
    record, number = draws["record"].to_numpy(), draws["charge"].to_numpy()
    first: list[NDArray[np.int64]] = []
    credits_micro: list[NDArray[np.int64]] = []
    counts = []
    for section in (Section.CHARGES, Section.CORRECTIONS):
        frame = block.frames[section]
        counts.append(np.bincount(frame["record"], minlength=len(block.records)))
        first.append(np.cumsum(counts[-1]) - counts[-1])
        credits_micro.append(frame["credits_micro"].to_numpy())
    outside = (number < -1) | (number >= (counts[0] + counts[1])[record])
    yield from _first(block, draws, outside, "draws are of charges that the record has not")
    of_charge = (number >= 0) & ~outside
    record, number = record[of_charge], number[of_charge].astype(np.int64)
    corrected = number >= counts[0][record]
    at = np.where(
        corrected,
        len(credits_micro[0]) + first[1][record] + number - counts[0][record],
        first[0][record] + number,
    )
    every = np.concatenate(credits_micro)
    drawn = np.zeros(len(every), np.int64)
    np.add.at(drawn, at, draws["amount_micro"].to_numpy()[of_charge])
    wrong = np.zeros(len(draws), np.bool_)
    wrong[np.flatnonzero(of_charge)] = drawn[at] != every[at]
    yield from _first(block, draws, wrong, "draws do not add up to the credits of their charges")


def check_charges(block: Block) -> Iterator[Wrong]:
    """Charges ascend, are of counted offsets of their record, and are sums of components."""
    charges = block.frames[Section.CHARGES]
    if not len(charges):
        return
    offset = charges["event_offset"].to_numpy()
    record = charges["record"].to_numpy()
    first = np.array([one.header.events_from for one in block.records], np.int64)
    last = np.array([one.header.events_to for one in block.records], np.int64)
    outside = (offset < first[record]) | (offset >= last[record])
    yield from _first(block, charges, outside, "charges lie outside the record's events")
    repeated = np.zeros(len(offset), np.bool_)
    repeated[1:] = offset[1:] <= offset[:-1]
    yield from _first(block, charges, repeated & ~outside, "charges do not ascend by event offset")
    at = np.where(outside, 0, offset - block.events_from)
    uncounted = ~outside & (block.verdicts[at] != Verdict.COUNTED)
    yield from _first(block, charges, uncounted, "charges are of offsets that were not counted")
    components = charges.select(pl.sum_horizontal(c.name for c in CHARGE_COMPONENTS)).to_series()
    unequal = (components != charges["credits_micro"]).to_numpy()
    yield from _first(block, charges, unequal, "charges are not the sum of their components")


def check_rejects(block: Block) -> Iterator[Wrong]:
    """REJECTS names exactly the dead-lettered offsets of the record, with their verdicts."""
    at = np.flatnonzero(_DEAD[block.verdicts])
    ends = np.cumsum(block.verdict_counts)
    journal_offsets = block.offsets[np.searchsorted(ends, at, side="right")]
    by_verdict = zip(
        journal_offsets.tolist(),
        (at + block.events_from).tolist(),
        block.verdicts[at].tolist(),
        strict=True,
    )
    named = Counter(
        (one.journal_offset, one.offset, one.verdict)
        for one in block.rejects
        if one.topic == "events"
    )
    decided = Counter(by_verdict)
    for journal_offset, offset, verdict in decided - named:
        name = Verdict(verdict).name.lower()
        yield journal_offset, f"event offset {offset} is {name}, and REJECTS does not say so"
    for journal_offset, offset, verdict in named - decided:
        name = Verdict(verdict).name.lower()
        yield journal_offset, f"REJECTS says {name} of event offset {offset}, its verdict does not"


def check_ids(block: Block) -> Iterator[Wrong]:
    """Each counted event enters one identity, and nothing else does."""
    counted = np.add.reduceat(
        np.append((block.verdicts == Verdict.COUNTED).astype(np.int64), 0),
        np.cumsum(block.verdict_counts) - block.verdict_counts,
    )
    counted[block.verdict_counts == 0] = 0
    steps = np.array([one.header.kind.name == "STEP" for one in block.records])
    for record in np.flatnonzero(steps & (counted != block.ids)).tolist():
        yield (
            int(block.offsets[record]),
            f"{counted[record]} events are counted, and {block.ids[record]} identities are new",
        )


def check_windows(block: Block) -> Iterator[Wrong]:
    """Cells start at whole windows, and none stands twice in a record."""
    for section, seconds in _GRAINS:
        frame = block.frames[section]
        if not len(frame):
            continue
        off = (frame["window_start"] % seconds != 0).to_numpy()
        name = section.name.lower()
        yield from _first(block, frame, off, f"{name} do not start at a whole window")
        twice = frame.select("record", *KEYS).is_duplicated().to_numpy()
        yield from _first(block, frame, twice, f"{name} stand more than once in their record")


def check_late_sums(block: Block) -> Iterator[Wrong]:
    """Late rows of all grains add up to the same."""
    minutes = _sums(block, Section.LATE_MINUTES)
    for section in (Section.LATE_QUARTERS, Section.LATE_DAYS):
        unequal = (minutes != _sums(block, section)).any(axis=1)
        for record in np.flatnonzero(unequal).tolist():
            yield (
                int(block.offsets[record]),
                f"{section.name.lower()} do not add up to the record's late minutes",
            )


def _sums(block: Block, section: Section) -> NDArray[np.int64]:
    frame = block.frames[section]
    sums = np.zeros((len(block.records), len(SUMS)), np.int64)
    if len(frame):
        np.add.at(sums, frame["record"].to_numpy(), frame.select(SUMS).to_numpy())
    return sums


CHECKS: Final[tuple[Callable[[Block], Iterator[Wrong]], ...]] = (
    check_charges,
    check_rejects,
    check_ids,
    check_windows,
    check_late_sums,
    check_accounts,
    check_draws,
)
"""Checks that need no other to have passed."""
