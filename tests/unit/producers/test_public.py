"""What services may rely on is listed, and nothing else is."""

import importlib.resources
import re

import meterstream.producers
from meterstream.producers import exceptions

PUBLIC = [
    "Amounts",
    "AsyncDelivery",
    "AsyncEventPublisher",
    "AsyncMeter",
    "AsyncPublisher",
    "AuthenticationFailed",
    "BrokerProblem",
    "BrokerUnreachable",
    "Decision",
    "Delivery",
    "DeliveryProblem",
    "DeliveryState",
    "DeliveryTimeout",
    "Durability",
    "Event",
    "EventPublisher",
    "EventRefused",
    "EventTooLarge",
    "FailMode",
    "Gate",
    "GateNotReady",
    "GateProblem",
    "GateSettings",
    "InvalidAmounts",
    "InvalidEvent",
    "InvalidPrices",
    "InvalidSettings",
    "LimitGate",
    "LimitLeft",
    "Meter",
    "NoEstimate",
    "NotAccepted",
    "NotAuthorised",
    "NotPriced",
    "PriceFollower",
    "PriceSource",
    "Prices",
    "PricesUnknown",
    "ProducerError",
    "PublishTimeout",
    "Publisher",
    "PublisherClosed",
    "PublisherForked",
    "PublisherSettings",
    "QueueFull",
    "RecordingError",
    "Reservation",
    "ReservationEnded",
    "Rule",
    "Run",
    "Session",
    "SpoolFailed",
    "SpoolFull",
    "SpoolTooOld",
    "SpoolUnusable",
    "UnknownTopic",
    "UnreadableState",
    "new_id",
]


def test_the_public_names_are_pinned() -> None:
    """A name enters or leaves the SDK on purpose only."""
    assert sorted(meterstream.producers.__all__) == sorted(PUBLIC)
    assert all(hasattr(meterstream.producers, name) for name in PUBLIC)


def test_every_error_is_public_and_stands_in_the_drawn_tree() -> None:
    """The tree at the top of the file is the tree of the classes."""
    classes = {
        name: value
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and value.__module__ == exceptions.__name__
    }
    assert set(classes) <= set(PUBLIC)
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (exceptions.__doc__ or "").splitlines():
        if match := re.match(r"^([│├└─ ]*)([A-Z]\w+)(\s{2,}|$)", line):
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1] if depth else "Exception"
    assert set(drawn) == set(classes)
    for name, parent in drawn.items():
        assert classes[name].__bases__[0].__name__ == parent


def test_the_types_are_shipped() -> None:
    """Type checkers of services read the SDK's annotations."""
    assert importlib.resources.files(meterstream.producers).joinpath("py.typed").is_file()
