"""What a run uses, or is expected to, by what limits count."""

from dataclasses import dataclass, fields
from typing import Final

from meterstream.producers.exceptions import InvalidAmounts
from meterstream.schemas.control import Measure
from meterstream.schemas.fields import MAX_CREDITS_MICRO, MAX_QUANTITY, MAX_TOKENS

_MOST: Final = {"credits_micro": MAX_CREDITS_MICRO, "tokens": 2 * MAX_TOKENS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Whole numbers, 0 or more; else InvalidAmounts is raised.

    As the meter counts them: a run that completes is one of `runs`, and one of `api_calls` too if
    its operation is `api_call`; `tokens` are those of input and output; a session that starts is
    one of `sessions`.
    """

    credits_micro: int = 0
    tokens: int = 0
    runs: int = 0
    api_calls: int = 0
    sessions: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            amount = getattr(self, field.name)
            most = _MOST.get(field.name, MAX_QUANTITY)
            if type(amount) is not int or not 0 <= amount <= most:
                raise InvalidAmounts(f"{field.name} is a whole number from 0 to {most:,}")

    def of(self, measure: Measure) -> int:
        """Return the amount that a limit on `measure` counts."""
        name = "credits_micro" if measure == "credits" else measure
        amount: int = getattr(self, name)
        return amount
