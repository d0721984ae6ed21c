"""A trace as a job of sending."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict, Unpack

from pydantic import ValidationError

from meterstream.cli.errors import BadInput
from meterstream.schemas.run import RunCompleted

from .job import Job, source_name
from .population import Sizes
from .runs import RunMaker
from .trace import Trace, TraceRow


class HowToSend(TypedDict, total=False):
    """Those fields of a job that the trace does not decide."""

    duplicates_ppm: int
    invalid_ppm: int
    rate: int | None
    realtime: bool
    keep_times: bool
    end_at: datetime | None


@dataclass(frozen=True, slots=True)
class Squeezed:
    """A trace whose times are scaled down to a span, in whole microseconds."""

    trace: Trace
    span_us: int

    def __iter__(self) -> Iterator[TraceRow]:
        """Give the rows with their new times, from 0 on."""
        whole_us = max(self.trace.last_us - self.trace.first_us, 1)
        for row in self.trace:
            yield row._replace(
                time_us=(row.time_us - self.trace.first_us) * self.span_us // whole_us
            )


def replay_job(
    trace: Trace,
    sizes: Sizes,
    seed: int,
    *,
    fit_us: int | None = None,
    **how: Unpack[HowToSend],
) -> Job:
    """Make the job of a trace; BadInput names the line of a row that is no valid run.

    With `fit_us` a trace that lasts longer than this many microseconds is squeezed into them.
    """
    source = source_name("replay", seed, sizes, trace.digest)
    span_us = trace.last_us - trace.first_us
    squeezed_us = fit_us if fit_us is not None and fit_us < span_us else None
    if trace.format.name == "own CSV":
        _check_runs(trace, RunMaker(sizes, seed, source))
    return Job(
        source=source,
        rows=trace if squeezed_us is None else Squeezed(trace, squeezed_us),
        count=trace.rows,
        last_us=trace.last_us if squeezed_us is None else squeezed_us,
        span_us=span_us if squeezed_us is None else squeezed_us,
        sizes=sizes,
        seed=seed,
        **how,
    )


def _check_runs(trace: Trace, maker: RunMaker) -> None:
    """Hold each run of an own CSV, which may name any field, against the contract."""
    seen: set[tuple[str, str]] = set()
    for run in maker.make(trace, 0):
        try:
            event = RunCompleted.model_validate_json(run.value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadInput(f"{trace.path}, line {run.line}: {where}: {first['msg']}") from error
        identity = (run.team_id, event.id)
        if identity in seen:
            raise BadInput(
                f"{trace.path}, line {run.line}: id {event.id!r} of team {run.team_id!r} stands "
                "there twice, and the second one would not be counted"
            )
        seen.add(identity)
