"""Grants of credits: what was granted, and whether another one may be."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from meterstream.cli.connection import Connection
from meterstream.cli.errors import BadInput
from meterstream.cli.money import exact_credits, parse_credits
from meterstream.schemas.control import CreditsGranted
from meterstream.schemas.rejections import describe

from .governed import governing
from .write import SOURCE


def new_grant(amount: str, fields: dict[str, Any]) -> CreditsGranted:
    """Return the entry that grants `amount` (credits as text); BadInput where it may not be."""
    now = datetime.now(UTC)
    try:
        data = fields | {"amount_micro": parse_credits(amount)}
    except ValueError as error:
        raise BadInput(f"{amount!r}: {error}") from error
    if not data["amount_micro"]:
        raise BadInput("a grant of 0 credits grants nothing: give an amount above 0")
    expires, starts = data["expires_at"], data["starts_at"]
    if expires is not None and expires <= max(now, starts or now):
        when = "before it starts" if starts and starts > now else "in the past"
        raise BadInput(f"--expires lies {when}: such a grant would never be drawn")
    name = hashlib.sha256(f"{data['team_id']}\n{data['grant_id']}".encode()).hexdigest()[:32]
    try:
        return CreditsGranted.model_validate(
            {"id": f"grant/{name}", "source": SOURCE, "time": now, "data": data}
        )
    except ValidationError as error:
        why = describe(CreditsGranted, error)[1].removeprefix("data.")
        raise BadInput(f"this cannot be granted: {why}") from error


def read_grants(
    connection: Connection, team_id: str | None = None
) -> dict[tuple[str, str], tuple[CreditsGranted, datetime]]:
    """Return the grants of a team, or all, by team and grant: of one name the first counts."""
    found: dict[tuple[str, str], tuple[CreditsGranted, datetime]] = {}
    for event, at in governing(connection, CreditsGranted, team_id):
        found.setdefault((event.data.team_id, event.data.grant_id), (event, at))
    return dict(sorted(found.items(), key=lambda each: (each[0][0], each[1][1])))


def check_new(connection: Connection, event: CreditsGranted) -> bool:
    """Tell whether a grant is new; BadInput where its name was granted something else."""
    team_id, grant_id = event.data.team_id, event.data.grant_id
    before = read_grants(connection, team_id).get((team_id, grant_id))
    if before is None:
        return True
    known, at = before
    if known.data == event.data:
        return False
    raise BadInput(
        f"--id {grant_id} was granted to {team_id} already, with"
        f" {exact_credits(known.data.amount_micro)} credits at {at:%Y-%m-%d %H:%M} UTC and other"
        " terms: choose another id"
    )
