"""What a run or a session would cost, as the meter's facades answer it."""

from datetime import datetime
from typing import TypedDict

from meterstream.schemas.pricing import Price, RunToPrice

from .exceptions import PricesUnknown
from .prices import Prices, PriceSource, utc_now


class EstimateAbout(TypedDict, total=False):
    """What the price of a run depends on; what is left out is not named, or 0."""

    operation: str
    provider: str
    model: str
    feature_id: str
    agent_id: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    request_bytes: int
    response_bytes: int


class Estimates:
    """Estimates from a source of prices, for a meter that has one."""

    def __init__(self, source: PriceSource | None) -> None:
        self._source = source

    def run(self, moment: datetime | None, about: EstimateAbout) -> Price:
        """Return what a run would cost."""
        of_agent = about.get("agent_id", "")
        rest = {name: value for name, value in about.items() if name != "agent_id"}
        run = RunToPrice(**{"operation": "agent_run", **rest})  # type: ignore[arg-type]
        return self._prices().of_run(run, of_agent, moment or utc_now())

    def session(
        self, machine_size: str, seconds: int, agent_id: str, moment: datetime | None
    ) -> Price:
        """Return what session time would cost."""
        elapsed_us = seconds * 1_000_000
        return self._prices().of_session(machine_size, elapsed_us, agent_id, moment or utc_now())

    def _prices(self) -> Prices:
        if self._source is None:
            raise PricesUnknown(
                "this meter knows no rate card: make it with prices=Prices.from_file(...) or"
                " prices=PriceFollower(settings)"
            )
        return self._source.prices()
