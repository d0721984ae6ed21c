"""What has landed in ClickHouse, to be held against what was sent."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_USAGE: Final = """
SELECT sum(runs), sum(input_tokens), sum(output_tokens), sum(credits_micro)
FROM usage_by_team(window = '1d', zone = 'UTC', since = '', until = '')
"""
_LEDGER: Final = """
SELECT sum(counted), sum(duplicate), sum(rejected), sum(conflict + too_late + unread)
FROM ledger FINAL
"""


@dataclass(frozen=True, slots=True)
class Landed:
    """Sums over all that is stored: usage from the views, verdicts from the loss ledger."""

    runs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    credits_micro: int = 0
    counted: int = 0
    duplicates: int = 0
    invalid: int = 0
    other: int = 0

    @property
    def decided(self) -> int:
        """How many events have a verdict."""
        return self.counted + self.duplicates + self.invalid + self.other


def ask_landed(client: "Client") -> Landed:
    """Ask ClickHouse for what has landed so far."""
    usage = client.query(_USAGE).result_rows[0]
    ledger = client.query(_LEDGER).result_rows[0]
    return Landed(*(int(value or 0) for value in (*usage, *ledger)))
