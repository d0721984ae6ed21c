"""Rows made from a seed alone: what a day at an AI platform might look like, in small."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from .trace import TraceRow, Value


@dataclass(frozen=True, slots=True)
class Synthetic:
    """So many runs, evenly spread with some jitter over a span that starts at time 0.

    Iterating gives the same rows each time.
    """

    events: int
    span_us: int
    seed: int

    @property
    def last_us(self) -> int:
        """The end of the span: no row is later."""
        return self.span_us

    def __iter__(self) -> Iterator[TraceRow]:
        """Make the rows, in the order of their times."""
        random = Random(f"{self.seed}:rows")
        step_us = max(self.span_us // self.events, 1)
        for number in range(self.events):
            bits = random.getrandbits(64)
            start_us = self.span_us * number // self.events
            yield TraceRow(number + 1, start_us + (bits & 0xFFFF) * step_us // 0x10000, _run(bits))


def _run(bits: int) -> dict[str, Value]:
    # The product of two even draws is skewed: most prompts are short, some are long.
    input_tokens = 20 + (bits >> 16 & 127) * (bits >> 23 & 127)
    output_tokens = 5 + (bits >> 30 & 31) * (bits >> 35 & 63)
    fields: dict[str, Value] = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    if bits >> 41 & 3 == 0:
        fields["cached_tokens"] = input_tokens // 2
    if bits >> 43 & 7 == 0:
        fields["reasoning_tokens"] = output_tokens // 3
    fate = bits >> 46 & 255
    if fate < 5:
        fields["status"] = "failed"
        fields["error_code"] = ("timeout", "rate_limited", "tool_error", "overloaded")[fate & 3]
    elif fate == 5:
        fields["status"] = "cancelled"
    return fields
