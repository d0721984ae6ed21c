"""What a gate answers."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from meterstream.schemas.control import Measure, SubjectKind, Window
from meterstream.schemas.times import from_us

from .index import Seen

Rule = Literal["within_limits", "blocked", "held", "share", "fail_open", "fail_closed"]
"""What decided.

`within_limits`: admitted; every limit that applies has room, or none applies.
`blocked`: refused; a hard limit is reached, by what was counted.
`held`: refused; what was counted, with what this process has reserved or used since, leaves no room
in a hard limit, or less than the estimate.
`share`: refused for the moment; there is room, but the other processes may have it in use.
`fail_open`: admitted; too little is known, and `gate_fail` admits then.
`fail_closed`: refused; too little is known, and `gate_fail` refuses then.
"""


@dataclass(frozen=True, slots=True)
class LimitLeft:
    """Where one limit stood when it was asked. Amounts in the measure's unit."""

    limit_id: str
    limit_version: int
    organisation_id: str | None
    """Whose limit it is, if it is that of an organisation above the team; else None."""
    subject: SubjectKind
    subject_id: str | None
    measure: Measure
    window: Window
    window_start: datetime
    resets_at: datetime | None
    """When the window ends; None for a balance. The limit admits again when the meter has told so,
    usually within a second after it, and never by this machine's clock."""
    hard: bool
    """Whether it refuses; a soft limit only tells."""
    amount: int
    used: int
    """As counted by the meter."""
    held: int
    """What this process has reserved, or used and not seen counted yet."""
    refuses: bool
    """Whether it is why the answer is no."""

    @property
    def left(self) -> int:
        """What is left of it; 0 if it is passed."""
        return max(0, self.amount - self.used - self.held)


class Decision:
    """Whether a run is admitted, by what rule, and what is known of the limits that apply.

    It is true if the run is admitted, so `if gate.check(...):` does what it reads as.
    """

    __slots__ = ("_clock_us", "_now_us", "_seen", "allowed", "rule")

    def __init__(self, rule: Rule, now_us: int, clock_us: int | None, seen: list[Seen]) -> None:
        self.rule: Final = rule
        self.allowed: Final = rule in ("within_limits", "fail_open")
        self._now_us: Final = now_us
        self._clock_us: Final = clock_us
        self._seen: Final = seen

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        age = "nothing known" if self.age_s is None else f"as of {self.age_s:.1f} s ago"
        return f"<Decision {self.rule}, {len(self._seen)} limits, {age}>"

    @property
    def age_s(self) -> float | None:
        """How old the knowledge is, in seconds: up to when usage was counted; None if unknown.

        Of the team's limits or of those of its organisations, whichever is older. By this machine's
        clock against the broker's; below 0 is told as 0.
        """
        if self._clock_us is None:
            return None
        return max(0, self._now_us - self._clock_us) / 1e6

    @property
    def limits(self) -> tuple[LimitLeft, ...]:
        """All limits that apply: of the team, user, agent, project and feature, by id.

        Then those of the team's organisation, and of what that is part of, upwards.
        """
        return tuple(_told(seen) for seen in self._seen)

    @property
    def refused_by(self) -> tuple[LimitLeft, ...]:
        """The limits that refuse, in the order of `limits`."""
        return tuple(_told(seen) for seen in self._seen if seen[2])

    @property
    def resets_at(self) -> datetime | None:
        """When the last of the refusing limits' windows ends.

        None where none refuses, or a balance does, for which no time is known.
        """
        ends = [limit.resets_at for limit in self.refused_by]
        known = [end for end in ends if end is not None]
        return max(known) if known and len(known) == len(ends) else None

    def left(self, measure: Measure) -> int | None:
        """Return what the tightest hard limit on `measure` leaves; None if there is none."""
        return min(
            (limit.left for limit in self.limits if limit.hard and limit.measure == measure),
            default=None,
        )


def _told(seen: Seen) -> LimitLeft:
    state, held, refuses = seen
    return LimitLeft(
        limit_id=state.limit_id,
        limit_version=state.limit_version,
        organisation_id=state.owner_id if state.subject == "organisation" else None,
        subject=state.subject,
        subject_id=state.subject_id,
        measure=state.measure,
        window=state.window,
        window_start=from_us(state.window_start_us),
        resets_at=None if state.window_end_us is None else from_us(state.window_end_us),
        hard=state.hard,
        amount=state.amount,
        used=state.used,
        held=held,
        refuses=refuses,
    )
