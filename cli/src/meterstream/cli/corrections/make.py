"""Makes the entries that correct a run."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

from pydantic import ValidationError

from meterstream.cli.entries.write import SOURCE
from meterstream.cli.errors import BadInput
from meterstream.schemas.control import UsageAdjusted, UsageVoided
from meterstream.schemas.rejections import describe
from meterstream.schemas.times import from_us

from .known import Made, amounts_now
from .runs import AMOUNTS, CountedRun

_OPTIONAL: Final = (
    "session_id", "user_id", "project_id", "agent_id", "model", "provider", "feature_id", "product",
)  # fmt: skip

C = TypeVar("C", UsageAdjusted, UsageVoided)


def void(run: CountedRun, made: Made, reason: str | None, now: datetime) -> UsageVoided:
    """Return the entry that takes a run back as a whole, its adjustments included."""
    taken: dict[str, Any] = {name: -value for name, value in amounts_now(run, made).items()}
    taken["latency_us"] = -run.latency_us
    taken["first_token_us"] = None if run.first_token_us is None else -run.first_token_us
    card = made.card or run.card
    return _event(UsageVoided, run, "void", {**taken, "card": card, "reason": reason}, now)


def adjust(
    run: CountedRun,
    number: int,
    changes: Mapping[str, int],
    card: str,
    reason: str | None,
    now: datetime,
    *,
    kind: Literal["adjustment", "rerating"] = "adjustment",
) -> UsageAdjusted:
    """Return the entry that adds `changes` (by the names in AMOUNTS) to what a run amounts to.

    The entry's id begins with `kind`, so that what was adjusted by hand can be told apart.
    """
    data = {**changes, "number": number, "card": card, "reason": reason}
    return _event(UsageAdjusted, run, str(number), data, now, kind)


def check_result(run: CountedRun, made: Made, changes: Mapping[str, int]) -> None:
    """Raise BadInput where an adjustment would leave less than nothing, or a part above a whole."""
    after = amounts_now(run, made)
    after = {name: after[name] + changes.get(name, 0) for name in AMOUNTS}
    for name, value in after.items():
        if value < 0:
            raise BadInput(f"the run would be left with {name.replace('_', ' ')} of {value}")
    for part, whole in (("cached_tokens", "input_tokens"), ("reasoning_tokens", "output_tokens")):
        if after[part] > after[whole]:
            raise BadInput(f"the run would be left with more {part} than {whole}")


def _event(
    kind: type[C],
    run: CountedRun,
    number: str,
    data: dict[str, Any],
    now: datetime,
    prefix: str = "void",
) -> C:
    if run.event_missing:
        raise BadInput(
            "the event of this run was gone before it was stored, so its id and amounts are not"
            " known here: it cannot be corrected"
        )
    said = {
        "team_id": run.team_id,
        "original_source": run.source,
        "original_id": run.event_id,
        "original_time": from_us(run.time_us),
        "run_id": run.run_id,
        "operation": run.operation,
        **{name: getattr(run, name) or None for name in _OPTIONAL},
        **data,
    }
    name = hashlib.sha256("\n".join((*run.identity, number)).encode()).hexdigest()[:32]
    try:
        return kind.model_validate(
            {"id": f"{prefix}/{name}", "source": SOURCE, "time": now, "data": said}
        )
    except ValidationError as error:
        why = describe(kind, error)[1].removeprefix("data.")
        raise BadInput(f"this correction cannot be made: {why}") from error
