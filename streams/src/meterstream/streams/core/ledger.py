"""The ledger: the accounts of a partition's teams, and what a record does to them."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .accounts import NEVER, Account
from .book import Closed, Note
from .draws import Draws

SUMS: Final = ("granted", "overdrawn", "drawn", "expired", "rolled_over", "left", "difference")
"""What is added up over accounts; of the difference between them nothing may ever come."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What a record does to accounts."""

    accounts: Sequence[Account] = ()
    """Those that changed, as they are after it."""
    closed: Mapping[str, Sequence[Closed]] = field(default_factory=dict)
    """By team, the grants that have left its account."""
    draws: Draws = field(default_factory=Draws)
    notes: Sequence[Note] = ()
    ahead: Mapping[str, int] = field(default_factory=dict)
    """By team without an account, the latest event time that the clock has not passed."""


class Ledger:
    """The accounts of one partition. Only `apply` changes it."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self.sums = dict.fromkeys(SUMS, 0)
        """Micro-credits of all accounts together."""
        self.ahead: dict[str, int] = {}
        """By team, the latest event time that was counted before it had an account, until the clock
        has passed it."""
        self._due: list[tuple[int, str]] = []
        """A heap; what an account itself does not say any more is passed over."""

    def __len__(self) -> int:
        return len(self._accounts)

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def get(self, team_id: str) -> Account | None:
        """Return the account of a team, which must not be changed."""
        return self._accounts.get(team_id)

    @property
    def due_us(self) -> int:
        """When something happens to an account by time alone; NEVER if nothing does."""
        while self._due:
            due_us, team_id = self._due[0]
            if self._accounts[team_id].due_us == due_us:
                return due_us
            heapq.heappop(self._due)
        return NEVER

    def due_teams(self, to_us: int) -> list[str]:
        """Return the teams to whose accounts something happens up to a time, by their names."""
        if self.due_us > to_us:
            return []
        due = {team_id for due_us, team_id in self._due if due_us <= to_us}
        return sorted(team_id for team_id in due if self._accounts[team_id].due_us <= to_us)

    def apply(self, accounts: Iterable[Account]) -> None:
        """Put changed accounts in the place of what they were."""
        for account in accounts:
            before = self._accounts.get(account.team_id)
            self._accounts[account.team_id] = account
            for name in SUMS:
                self.sums[name] += getattr(account, name) - getattr(before, name, 0)
            if account.due_us != NEVER and (before is None or before.due_us != account.due_us):
                heapq.heappush(self._due, (account.due_us, account.team_id))

    def look_ahead(self, ahead: Mapping[str, int], clock_us: int) -> None:
        """Take in event times that lie ahead, and forget those that the clock has passed.

        Not those of an account whose beginning it has passed too, until the account has begun.
        """
        if self.ahead or ahead:
            known = self.ahead | dict(ahead)
            self.ahead = {
                team: at_us
                for team, at_us in known.items()
                if at_us >= clock_us or self._is_to_begin(team, clock_us)
            }

    def _is_to_begin(self, team_id: str, clock_us: int) -> bool:
        account = self._accounts.get(team_id)
        return account is not None and not account.has_begun and account.due_us <= clock_us
