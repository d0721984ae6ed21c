"""Limits on balances: which levels they have reached, and where they stand."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from meterstream.schemas.control import CREDITS_LIMIT

from .accounts import NEVER, Account
from .limit_index import Limits
from .limits import Limit


class BalanceLimit:
    """A limit on a balance: a level is reached when so much of its amount is no longer there."""

    def __init__(self, limit: Limit) -> None:
        self.data = limit.data
        self._limit = limit

    def balance_of(self, level: int) -> int:
        """Return the highest balance that reaches a level."""
        return self.data.amount - self._limit.amount_of(level)

    def level_at(self, balance: int) -> int:
        """Return the highest level that a balance reaches, 0 if none."""
        levels = self.data.alert_levels_permille
        return max((level for level in levels if balance <= self.balance_of(level)), default=0)

    def between(self, was: int, now: int) -> list[int]:
        """Return the levels above the first up to the second."""
        return [level for level in self.data.alert_levels_permille if was < level <= now]


def balance_states(
    untold: Iterable[Account], changed: Sequence[Account], limits: Limits
) -> dict[str, Any]:
    """Return where balances stand, as columns with the names of `rows.LIMIT_STATE`.

    They are those of accounts that nothing was told of yet and of those that have changed.

    A team's balance stands under the limit `credits`: its amount is the overdraft, and what is used
    of it is the balance with its sign turned round; then come the limits that are set on it.
    """
    accounts = {one.team_id: one for one in (*untold, *changed)}
    limits_of = limits.on_balances
    rows: list[tuple[Any, ...]] = []
    for account in accounts.values():
        if not account.has_begun:
            continue
        team_id, balance = account.team_id, account.balance
        shared = "team", "", "credits", "balance", account.refilled_us, NEVER
        rows.append(
            (team_id, CREDITS_LIMIT, 1, *shared, account.overdraft, "hard", -balance, 0,
             account.is_exhausted, False)
        )  # fmt: skip
        for limit in limits_of.get(team_id, ()):
            data = limit.data
            _, level = account.levels.get(data.limit_id, (0, 0))
            rows.append(
                (team_id, data.limit_id, data.version, *shared, data.amount, data.enforcement,
                 data.amount - balance, level, False, False)
            )  # fmt: skip
    return _columns(rows)


def gone_from_balances(changed: Sequence[Account], before: Limits, after: Limits) -> dict[str, Any]:
    """Return the limits that are on balances no more, as rows that say so, likewise.

    `changed` are the accounts that the record changes; those of such limits are among them. A limit
    that goes on in another window has rows there.
    """
    if before is after:
        return {}
    rows: list[tuple[Any, ...]] = []
    were, are = before.on_balances, after.on_balances
    for account in changed:
        if not account.has_begun:
            continue
        still = {limit.key for limit in are.get(account.team_id, ())}
        for limit in were.get(account.team_id, ()):
            if limit.key not in still:
                data = limit.data
                rows.append(
                    (account.team_id, data.limit_id, data.version, "team", "", "credits", "balance",
                     account.refilled_us, NEVER, data.amount, data.enforcement,
                     data.amount - account.balance, 0, False, True)
                )  # fmt: skip
    return _columns(rows)


def _columns(rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    if not rows:
        return {}
    names = (
        "team_id", "limit_id", "limit_version", "subject", "subject_id", "measure", "window",
        "window_start", "window_end", "amount", "enforcement", "used", "reached_permille",
        "blocked", "removed",
    )  # fmt: skip
    columns: dict[str, Any] = {
        name: pa.array(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
    for name in ("window_start", "window_end"):
        columns[name] = columns[name].cast(pa.timestamp("us", tz="UTC"))
    for name in ("blocked", "removed"):
        columns[name] = columns[name].cast(pa.uint8())
    return columns
