"""All event types by topic, and the authoritative reading of an event's bytes.

`parse_event` decides what an event is and, if it is none, why not. It is slow and thorough: the
meter's hot path decodes with something faster and asks here about every value that it refuses.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from pydantic import ValidationError

from . import catalog, control, organisations, run, session, thresholds
from .envelope import Envelope
from .fields import MAX_EVENT_BYTES
from .rejections import describe
from .topics import CATALOG, CONTROL, EVENTS, ORG_USAGE, THRESHOLDS
from .verdicts import Verdict

MAX_DEPTH: Final = 64
"""How deeply arrays and objects may be nested, the event itself included."""
_MAX_DIGITS: Final = 40

MODELS: Final[Mapping[str, Mapping[str, type[Envelope]]]] = {
    EVENTS: {
        run.RUN_STARTED: run.RunStarted,
        run.RUN_COMPLETED: run.RunCompleted,
        session.SESSION_STARTED: session.SessionStarted,
        session.SESSION_HEARTBEAT: session.SessionHeartbeat,
        session.SESSION_ENDED: session.SessionEnded,
    },
    CATALOG: {
        catalog.ORGANISATION_REGISTERED: catalog.OrganisationRegistered,
        catalog.TEAM_REGISTERED: catalog.TeamRegistered,
        catalog.USER_REGISTERED: catalog.UserRegistered,
        catalog.MEMBERSHIP_CHANGED: catalog.MembershipChanged,
        catalog.AGENT_REGISTERED: catalog.AgentRegistered,
        catalog.PROJECT_REGISTERED: catalog.ProjectRegistered,
        catalog.FEATURE_REGISTERED: catalog.FeatureRegistered,
        catalog.PLAN_PUBLISHED: catalog.PlanPublished,
        catalog.RATE_CARD_PUBLISHED: catalog.RateCardPublished,
    },
    CONTROL: {
        control.SUBSCRIPTION_CHANGED: control.SubscriptionChanged,
        control.CREDITS_GRANTED: control.CreditsGranted,
        control.LIMIT_SET: control.LimitSet,
        control.LIMIT_REMOVED: control.LimitRemoved,
        control.USAGE_ADJUSTED: control.UsageAdjusted,
        control.USAGE_VOIDED: control.UsageVoided,
        control.IMPORT_OPENED: control.ImportOpened,
        control.IMPORT_CLOSED: control.ImportClosed,
    },
    ORG_USAGE: {organisations.ORGANISATION_USED: organisations.OrganisationUsed},
    THRESHOLDS: {
        thresholds.THRESHOLD_REACHED: thresholds.ThresholdReached,
        thresholds.LIMIT_BLOCKED: thresholds.LimitBlocked,
        thresholds.LIMIT_RESET: thresholds.LimitReset,
        thresholds.CREDITS_LOW: thresholds.CreditsLow,
        thresholds.CREDITS_EXHAUSTED: thresholds.CreditsExhausted,
        thresholds.CREDITS_EXPIRING: thresholds.CreditsExpiring,
    },
}
"""The model of each event type, by the topic it travels in."""


class InvalidEvent(ValueError):
    """A value that is no event of its topic.

    `verdict` is the one reason; `detail` names the field and what was expected of it, and never
    holds anything that the value said.
    """

    def __init__(self, verdict: Verdict, detail: str) -> None:
        super().__init__(f"{verdict.name.lower()}: {detail}")
        self.verdict = verdict
        self.detail = detail


def parse_event(value: bytes | None, topic: str = EVENTS) -> Envelope:
    """Return the event of `topic` that `value` holds, or raise InvalidEvent with one reason.

    Where several things are wrong, the reason is the first of these: no value, no bytes, too many
    bytes, not UTF-8, not JSON, not an object, `specversion`, `type`; then the fields of the
    envelope and of `data` in the order in which the models declare them (missing, wrong type, out
    of bounds: whichever applies to the first bad field), then fields of `data` that the contract
    does not name, then what is inconsistent within `data`, then within the event.

    As in any JSON reader, of a key that occurs twice the last one holds.
    """
    document = _parse_object(_text(value))
    _check_specversion(document)
    model = _model(document, MODELS[topic])
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidEvent(*describe(model, error)) from None


def _text(value: bytes | None) -> str:
    if value is None:
        raise InvalidEvent(Verdict.NULL_VALUE, "the record has no value; an event is JSON text")
    if not value:
        raise InvalidEvent(Verdict.EMPTY, "the record's value has no bytes; an event is JSON text")
    if len(value) > MAX_EVENT_BYTES:
        raise InvalidEvent(
            Verdict.TOO_LARGE,
            f"the value has {len(value)} bytes; an event has {MAX_EVENT_BYTES} at most",
        )
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidEvent(
            Verdict.NOT_UTF8, f"the bytes from {error.start} on are not UTF-8"
        ) from None


def _parse_object(text: str) -> dict[str, Any]:
    if _is_too_deep(text):
        raise InvalidEvent(Verdict.NOT_JSON, f"nested deeper than {MAX_DEPTH} levels")
    try:
        document = json.loads(text, parse_int=_integer, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InvalidEvent(
            Verdict.NOT_JSON, f"not JSON from character {error.pos} on: {error.msg}"
        ) from None
    if "\\u" in text and _has_lone_surrogate(document):
        raise InvalidEvent(Verdict.NOT_JSON, "a \\u escape is half of a surrogate pair")
    if not isinstance(document, dict):
        raise InvalidEvent(Verdict.NOT_AN_OBJECT, "an event is a JSON object")
    return document


_NOT_BRACKETS: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[^\[\]{}"]+', re.DOTALL)


def _is_too_deep(text: str) -> bool:
    """Tell whether the text is nested too deeply; asked first, as a parser's stack has an end."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _NOT_BRACKETS.sub("", text):
        if bracket in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        else:
            depth -= 1
    return False


def _integer(digits: str) -> int:
    # Python refuses to read integers of some thousand digits; all of these are out of any range.
    return int(digits[:_MAX_DIGITS])


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidEvent(Verdict.NOT_JSON, f"{name} is not JSON")


def _has_lone_surrogate(document: object) -> bool:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _check_specversion(document: Mapping[str, Any]) -> None:
    if _required_text(document, "specversion") != "1.0":
        raise InvalidEvent(Verdict.UNKNOWN_SPECVERSION, 'specversion: "1.0" is expected')


def _model(document: Mapping[str, Any], models: Mapping[str, type[Envelope]]) -> type[Envelope]:
    model = models.get(_required_text(document, "type"))
    if model is None:
        known = ", ".join(models)
        raise InvalidEvent(Verdict.UNKNOWN_TYPE, f"type: one of {known} is expected")
    return model


def _required_text(document: Mapping[str, Any], field: str) -> str:
    if field not in document:
        raise InvalidEvent(Verdict.MISSING_FIELD, f"{field}: text is required")
    text = document[field]
    if not isinstance(text, str):
        raise InvalidEvent(Verdict.WRONG_TYPE, f"{field}: text is expected")
    return text
