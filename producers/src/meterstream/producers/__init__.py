"""The producer SDK: publish usage events without blocking, and without losing any."""

from .aio import AsyncEventPublisher, AsyncPublisher
from .aiometer import AsyncMeter
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
from .ids import new_id
from .meter import Meter
from .publisher import EventPublisher, Publisher
from .run import Run
from .session import Session
from .settings import Durability, PublisherSettings
from .ticket import DeliveryState

__all__ = [
    "AsyncDelivery",
    "AsyncEventPublisher",
    "AsyncMeter",
    "AsyncPublisher",
    "AuthenticationFailed",
    "BrokerProblem",
    "BrokerUnreachable",
    "Delivery",
    "DeliveryProblem",
    "DeliveryState",
    "DeliveryTimeout",
    "Durability",
    "Event",
    "EventPublisher",
    "EventRefused",
    "EventTooLarge",
    "InvalidEvent",
    "InvalidSettings",
    "Meter",
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
    "Run",
    "Session",
    "SpoolFailed",
    "SpoolFull",
    "SpoolTooOld",
    "SpoolUnusable",
    "UnknownTopic",
    "new_id",
]
