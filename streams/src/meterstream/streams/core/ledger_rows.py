"""The ledger sections of a record: changed accounts and grants, terms, and draws; and back."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.journal import MalformedRecord, Section
from meterstream.schemas.rows import ACCOUNT, DRAW, GRANT, Column
from meterstream.schemas.times import to_us

from .accounts import Account, Grant, Term, due_of
from .arrow import decode_rows, encode_columns
from .book import Closed
from .draws import Draws
from .ledger import Ledger, Posted

ACCOUNT_SCHEMA: Final = arrow_schema(ACCOUNT)
GRANT_SCHEMA: Final = arrow_schema(GRANT)
DRAW_SCHEMA: Final = arrow_schema(DRAW)

WAITING, OPEN, CLOSED = "waiting", "open", "closed"

_TYPES: Final[Mapping[str, Any]] = {
    "text": pa.string(),
    "int64": pa.int64(),
    "uint8": pa.bool_(),
    "microseconds": pa.int64(),
}
_CAST: Final = {"microseconds": pa.timestamp("us", tz="UTC"), "uint8": pa.uint8()}


def encode_ledger(ledger: Ledger, posted: Posted) -> dict[Section, bytes]:
    """Return the sections that tell what a record did to accounts; none where it did nothing."""
    if not posted.accounts:
        return {}
    grants: list[tuple[Any, ...]] = []
    terms: dict[str, Any] = {}
    for account in posted.accounts:
        before = ledger.get(account.team_id)
        closed = posted.closed.get(account.team_id, ())
        grants += _changed_grants(before, account, closed)
        if before is None or _terms_of(before) != _terms_of(account):
            terms[account.team_id] = _terms_to_json(account)
    return _encode(posted.accounts, grants, terms) | _encode_draws(posted.draws)


def encode_accounts(accounts: Sequence[Account]) -> dict[Section, bytes]:
    """Return sections that tell all of some accounts, for snapshots and for a new generation."""
    grants = [row for account in accounts for row in _changed_grants(None, account, ())]
    terms = {account.team_id: _terms_to_json(account) for account in accounts}
    return _encode(accounts, grants, terms)


def _encode(
    accounts: Sequence[Account], grants: Sequence[tuple[Any, ...]], terms: Mapping[str, Any]
) -> dict[Section, bytes]:
    rows = [
        (
            one.team_id,
            one.balance,
            one.left,
            one.overdrawn,
            one.overdraft,
            one.granted,
            one.drawn,
            one.expired,
            one.rolled_over,
            one.is_exhausted,
            "" if one.term is None else one.term.plan_id,
            0 if one.term is None else one.term.plan_version,
            one.period_start_us,
            one.period_end_us,
            one.since_us,
            one.refilled_us,
        )
        for one in accounts
    ]
    sections = {Section.ACCOUNTS: _table(rows, ACCOUNT, ACCOUNT_SCHEMA)}
    if grants:
        sections[Section.GRANTS] = _table(grants, GRANT, GRANT_SCHEMA)
    if terms:
        sections[Section.TERMS] = json.dumps(terms).encode()
    return sections


def _table(rows: Sequence[tuple[Any, ...]], kinds: Sequence[Column], schema: pa.Schema) -> bytes:
    columns: dict[str, Any] = {}
    for column, values in zip(kinds, zip(*rows, strict=True), strict=True):
        array = pa.array(values, _TYPES[column.kind])
        columns[column.name] = array.cast(_CAST[column.kind]) if column.kind in _CAST else array
    return encode_columns(columns, schema)


def _changed_grants(
    before: Account | None, after: Account, closed: Sequence[Closed]
) -> list[tuple[Any, ...]]:
    """Return the rows of the grants that are not what they were. Unchanged ones are the same."""
    known: set[int] = set()
    if before is not None:
        known = {id(grant) for grant in (*before.open, *before.spent, *before.waiting)}
    rows = [_row(after.team_id, one.grant, CLOSED, one.expired, one.rolled_over) for one in closed]
    for grants, status in ((after.open, OPEN), (after.spent, OPEN), (after.waiting, WAITING)):
        rows += [_row(after.team_id, one, status) for one in grants if id(one) not in known]
    return rows


def _row(
    team_id: str, grant: Grant, status: str, expired: int = 0, rolled_over: int = 0
) -> tuple[Any, ...]:
    return (
        team_id,
        grant.grant_id,
        grant.kind,
        status,
        grant.priority,
        grant.number,
        grant.amount,
        grant.left,
        expired,
        rolled_over,
        grant.starts_us,
        grant.expires_us,
        grant.is_allowance,
        grant.is_told,
    )


def _terms_of(account: Account) -> tuple[object, ...]:
    return (
        account.term,
        account.begun,
        account.terms,
        account.month_end_us,
        account.next_number,
        account.levels,
    )


def _terms_to_json(account: Account) -> dict[str, Any]:
    return {
        "term": None if account.term is None else asdict(account.term),
        "begun": [asdict(term) for term in account.begun],
        "terms": [asdict(term) for term in account.terms],
        "month_end_us": account.month_end_us,
        "next_number": account.next_number,
        "levels": account.levels,
    }


def _encode_draws(draws: Draws) -> dict[Section, bytes]:
    rows, source, amounts = draws.columns()
    if not len(rows):
        return {}
    which = pa.array(source)
    columns: dict[str, Any] = {"charge": rows.astype(np.int32), "amount_micro": amounts}
    for name, values in zip(
        ("team_id", "grant_id", "kind"), zip(*draws.sources, strict=True), strict=True
    ):
        columns[name] = pa.array(values, pa.string()).dictionary_encode().take(which)
    return {Section.DRAWS: encode_columns(columns, DRAW_SCHEMA)}


# --- and back ---


@dataclass(frozen=True, slots=True)
class WrittenAccounts:
    """What a record's sections say of accounts."""

    accounts: Sequence[Mapping[str, Any]] = ()
    grants: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By team."""
    terms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By team."""


def decode_ledger(sections: Mapping[Section, memoryview]) -> WrittenAccounts | None:
    """Return what sections say of accounts, None if nothing; MalformedRecord if they are none."""
    if Section.ACCOUNTS not in sections:
        return None
    grants: dict[str, list[Mapping[str, Any]]] = {}
    if Section.GRANTS in sections:
        for row in decode_rows(sections[Section.GRANTS], GRANT_SCHEMA):
            grants.setdefault(row["team_id"], []).append(row)
    terms = json.loads(bytes(sections.get(Section.TERMS, b"{}")))
    return WrittenAccounts(decode_rows(sections[Section.ACCOUNTS], ACCOUNT_SCHEMA), grants, terms)


def read_accounts(ledger: Ledger, written: WrittenAccounts) -> list[Account]:
    """Return the accounts as a record left them; `ledger` is what they were before.

    Raises MalformedRecord where they cannot be read, or do not add up.
    """
    try:
        return [
            _read(
                ledger.get(row["team_id"]),
                row,
                written.grants.get(row["team_id"], ()),
                written.terms.get(row["team_id"]),
            )
            for row in written.accounts
        ]
    except MalformedRecord:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedRecord(
            f"what it says of accounts has another form ({error!r}): another release wrote it"
        ) from error


def _read(
    before: Account | None,
    row: Mapping[str, Any],
    grants: Iterable[Mapping[str, Any]],
    terms: Mapping[str, Any] | None,
) -> Account:
    account = Account(row["team_id"]) if before is None else before.copy()
    account.since_us, account.refilled_us = to_us(row["since"]), to_us(row["refilled_at"])
    account.granted, account.drawn = row["granted_micro"], row["drawn_micro"]
    account.expired, account.rolled_over = row["expired_micro"], row["rolled_over_micro"]
    account.overdrawn, account.left = row["overdrawn_micro"], row["left_micro"]
    account.period_start_us = to_us(row["period_start"])
    account.period_end_us = to_us(row["period_end"])
    account.is_exhausted = bool(row["is_exhausted"])
    for one in grants:
        for kept in (account.open, account.spent, account.waiting):
            kept[:] = [grant for grant in kept if grant.grant_id != one["grant_id"]]
        grant = _read_grant(one)
        if one["status"] == WAITING:
            account.waiting.append(grant)
        elif one["status"] == OPEN:
            account.add(grant)
    if terms is not None:
        account.term = None if terms["term"] is None else Term(**terms["term"])
        account.begun = [Term(**term) for term in terms["begun"]]
        account.terms = [Term(**term) for term in terms["terms"]]
        account.month_end_us = terms["month_end_us"]
        account.next_number = terms["next_number"]
        account.levels = {name: (known[0], known[1]) for name, known in terms["levels"].items()}
    if sum(grant.left for grant in account.open) != account.left or account.difference:
        raise MalformedRecord(f"the account of team {account.team_id!r} does not add up")
    account.due_us = due_of(account)
    return account


def _read_grant(row: Mapping[str, Any]) -> Grant:
    return Grant(
        row["grant_id"],
        row["kind"],
        row["priority"],
        row["amount_micro"],
        to_us(row["expires_at"]),
        to_us(row["starts_at"]),
        row["number"],
        row["left_micro"],
        bool(row["is_allowance"]),
        bool(row["is_told"]),
    )
