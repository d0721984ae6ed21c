"""The producer SDK: publish usage events without blocking, and without losing any."""

from .aio import AsyncEventPublisher, AsyncPublisher
from .delivery import AsyncDelivery, Delivery
from .encode import Event
from .exceptions import (
    AuthenticationFailed,
    BrokerProblem,
    BrokerUnreachable,
    DeliveryProblem,
    DeliveryTimeout,
    EventRefused,
    EventTooLarge,
    InvalidEvent,
    InvalidSettings,
    NotAccepted,
    NotAuthorised,
    ProducerError,
    PublisherClosed,
    PublisherForked,
    PublishTimeout,
    QueueFull,
    RecordingError,
    SpoolFailed,
    SpoolFull,
    SpoolTooOld,
    SpoolUnusable,
    UnknownTopic,
)
from .publisher import EventPublisher, Publisher
from .settings import PublisherSettings
from .ticket import DeliveryState

__all__ = [
    "AsyncDelivery",
    "AsyncEventPublisher",
    "AsyncPublisher",
    "AuthenticationFailed",
    "BrokerProblem",
    "BrokerUnreachable",
    "Delivery",
    "DeliveryProblem",
    "DeliveryState",
    "DeliveryTimeout",
    "Event",
    "EventPublisher",
    "EventRefused",
    "EventTooLarge",
    "InvalidEvent",
    "InvalidSettings",
    "NotAccepted",
    "NotAuthorised",
    "ProducerError",
    "PublishTimeout",
    "Publisher",
    "PublisherClosed",
    "PublisherForked",
    "PublisherSettings",
    "QueueFull",
    "RecordingError",
    "SpoolFailed",
    "SpoolFull",
    "SpoolTooOld",
    "SpoolUnusable",
    "UnknownTopic",
]
