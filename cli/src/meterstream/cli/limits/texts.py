"""Limits in words."""

from meterstream.cli.money import amount_text, level_text
from meterstream.schemas.control import LimitSetData


def owner_of(data: LimitSetData) -> str:
    """Return the team, or the organisation after a word that says so."""
    return data.team_id or f"organisation {data.organisation_id}"


def subject_text(data: LimitSetData) -> str:
    """Return whom a limit is for, within its owner."""
    return data.subject if data.subject_id is None else f"{data.subject} {data.subject_id}"


def levels_text(data: LimitSetData) -> str:
    """Return the alert levels in per cent."""
    return " ".join(level_text(level) for level in data.alert_levels_permille) or "none"


def settings_of(data: LimitSetData) -> dict[str, str]:
    """Return what a limit says, by name, in the order in which people ask."""
    return {
        "subject": subject_text(data),
        "measure": data.measure,
        "window": data.window,
        "amount": amount_text(data.amount, data.measure),
        "alerts": levels_text(data),
        "enforcement": data.enforcement,
    }
