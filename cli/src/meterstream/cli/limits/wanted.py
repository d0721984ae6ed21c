"""A wanted limit from the options of `meterstream limits set`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from meterstream.cli.errors import BadInput
from meterstream.cli.money import parse_amount, parse_levels
from meterstream.schemas.control import LimitSetData
from meterstream.schemas.rejections import describe

from .known import KnownLimit, LimitName

SUBJECTS: Final = ("user", "agent", "project", "feature")
"""What a limit can be for within a team."""
MAX_ID: Final = 64


def default_id(subject: str, subject_id: str | None, measure: str, window: str) -> str:
    """Return the id of a limit that is given none: what it is for, such as `user-ada-tokens-day`.

    The same words always give the same id; a long name is cut, and told apart by its hash.
    """
    text = "-".join(part for part in (subject, subject_id, measure, window) if part)
    if len(text) <= MAX_ID:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    tail = f"-{digest}-{measure}-{window}"
    return text[: MAX_ID - len(tail)] + tail


@dataclass(frozen=True, slots=True)
class Options:
    """What was given on the command line; None for what was left out."""

    team: str | None
    organisation: str | None
    subjects: Mapping[str, str | None]
    limit_id: str | None
    measure: str | None
    window: str | None
    amount: str | None
    alert: str | None
    enforcement: str | None

    @property
    def owner(self) -> str:
        """The team or organisation; BadInput unless it is exactly one."""
        return owner_of_options(self.team, self.organisation)

    def data(self, known: Mapping[LimitName, KnownLimit]) -> LimitSetData:
        """Return the wanted limit: what is left out stays as it is in force.

        Raises BadInput where something is missing or cannot be meant.
        """
        named = {name: value for name, value in self.subjects.items() if value is not None}
        if len(named) > 1:
            raise BadInput(f"--{' and --'.join(named)}: a limit is for one of them")
        before = self._before(known, self.limit_id) if self.limit_id else None
        subject, subject_id = next(
            iter(named.items()),
            (before.subject, before.subject_id)
            if before
            else ("team" if self.team else "organisation", None),
        )
        measure = self.measure or (before.measure if before else None)
        window = self.window or (before.window if before else None)
        if measure is None or window is None:
            missing = "--measure" if measure is None else "--window"
            raise BadInput(f"{missing} is needed to set a limit that is not there yet")
        limit_id = self.limit_id or default_id(subject, subject_id, measure, window)
        before = before or self._before(known, limit_id)
        return self._validated(
            {
                "team_id": self.team,
                "organisation_id": self.organisation,
                "limit_id": limit_id,
                "version": 1,
                "subject": subject,
                "subject_id": subject_id,
                "measure": measure,
                "window": window,
                "amount": self._amount(measure, before),
                **self._levels(before),
                "enforcement": self.enforcement or (before.enforcement if before else "soft"),
            }
        )

    def _before(self, known: Mapping[LimitName, KnownLimit], limit_id: str) -> LimitSetData | None:
        last = known.get(LimitName(self.team or "", self.organisation or "", limit_id))
        return last.data if last else None

    def _amount(self, measure: str, before: LimitSetData | None) -> int:
        if self.amount is None:
            if before is None or before.measure != measure:
                raise BadInput("--amount is needed to set a limit that is not there yet")
            return before.amount
        try:
            return parse_amount(self.amount, measure)
        except ValueError as error:
            raise BadInput(f"--amount {self.amount!r}: {error}") from error

    def _levels(self, before: LimitSetData | None) -> dict[str, Any]:
        if self.alert is None:
            return {"alert_levels_permille": before.alert_levels_permille} if before else {}
        try:
            return {"alert_levels_permille": parse_levels(self.alert)}
        except ValueError as error:
            raise BadInput(f"--alert {self.alert!r}: {error}") from error

    @staticmethod
    def _validated(data: dict[str, Any]) -> LimitSetData:
        try:
            return LimitSetData.model_validate(data)
        except ValidationError as error:
            raise BadInput(
                f"this limit cannot be set: {describe(LimitSetData, error)[1]}"
            ) from error


def owner_of_options(team: str | None, organisation: str | None) -> str:
    """Return the team or organisation; BadInput unless it is exactly one."""
    if (team is None) == (organisation is None):
        raise BadInput("exactly one of --team and --organisation is needed")
    owner = team or organisation
    if not owner:
        raise BadInput("--team and --organisation name one that has a name")
    return owner
