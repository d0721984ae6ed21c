"""What can go wrong, as one tree. Catch the branch that says what you can do about it.

ProducerError
├── InvalidSettings          the publisher cannot be made with these settings (also a ValueError)
├── InvalidEvent             the event breaks the contract; mend the event (also a ValueError)
│   └── EventTooLarge
├── NotAccepted              a good event that was not taken; publish it again, it keeps its id
│   ├── QueueFull            the disk is slower than the callers
│   ├── SpoolFull            the broker has been away for too many events
│   ├── SpoolTooOld          the broker has been away for too long
│   ├── SpoolFailed          the disk refused the write
│   ├── PublishTimeout       the disk did not confirm it in time; it may still be delivered
│   ├── PublisherClosed
│   └── PublisherForked      the publisher was made in another process
├── SpoolUnusable            the spool directory cannot be used, or is damaged
├── DeliveryProblem          something that was accepted has not arrived
│   ├── DeliveryTimeout      not acknowledged yet; it stays in the spool (also a TimeoutError)
│   └── EventRefused         the broker will never take it; it lies in the spool's refused file
├── BrokerProblem            the broker, or the way to it; accepted events wait in the spool
│   ├── BrokerUnreachable
│   ├── AuthenticationFailed
│   ├── NotAuthorised
│   └── UnknownTopic
├── GateProblem              something with what a gate knows, or was asked
│   ├── GateNotReady         the states of limits were not read in time (also a TimeoutError)
│   ├── InvalidAmounts       amounts that nothing can be used in (also a ValueError)
│   ├── ReservationEnded     it was settled, released or refused before
│   └── UnreadableState      a record of a limit's state or of the catalog breaks the contract
├── NoEstimate               nobody can say what a run would cost
│   ├── PricesUnknown        no rate card is known, or none is in effect
│   └── NotPriced            the rate card has no price for it
├── InvalidPrices            the file of rate cards cannot be used (also a ValueError)
└── RecordingError           a value handed to a run or session cannot be recorded

No message holds the content of an event: fields and limits are named, values are not.
"""


class ProducerError(Exception):
    """Anything the SDK raises or reports on its own account."""


class InvalidSettings(ProducerError, ValueError):
    """The settings cannot be used; the message lists every fault."""


class InvalidEvent(ProducerError, ValueError):
    """The event breaks the contract, and the meter would reject it. Nothing was accepted."""


class EventTooLarge(InvalidEvent):
    """The event has more bytes of JSON than the contract allows."""


class NotAccepted(ProducerError):
    """The event is good, but was not taken. Publishing the same event again is harmless."""


class QueueFull(NotAccepted):
    """The queue before the spool had no room within the set time: the disk is too slow."""


class SpoolFull(NotAccepted):
    """The spool has reached its size limit."""


class SpoolTooOld(NotAccepted):
    """The oldest event in the spool has waited for longer than the age limit."""


class SpoolFailed(NotAccepted):
    """The operating system refused to write to the spool."""


class PublishTimeout(NotAccepted):
    """The spool did not confirm the event within the set time. It may still be delivered."""


class PublisherClosed(NotAccepted):
    """The publisher has been closed."""


class PublisherForked(NotAccepted):
    """The publisher was made before a fork, and its threads live in the parent only."""


class SpoolUnusable(ProducerError):
    """The spool directory cannot be used, or a part of it is damaged."""


class DeliveryProblem(ProducerError):
    """An accepted event has not arrived."""


class DeliveryTimeout(DeliveryProblem, TimeoutError):
    """Not everything was acknowledged in time. What is left stays in the spool."""


class EventRefused(DeliveryProblem):
    """The broker refused this event for good. It was moved to the spool's refused file."""


class BrokerProblem(ProducerError):
    """The broker or the way to it. Accepted events wait in the spool meanwhile."""


class BrokerUnreachable(BrokerProblem):
    """No broker answers."""


class AuthenticationFailed(BrokerProblem):
    """The broker does not accept the credentials."""


class NotAuthorised(BrokerProblem):
    """The broker knows the user but does not allow it to write here."""


class UnknownTopic(BrokerProblem):
    """The events topic is not there."""


class GateProblem(ProducerError):
    """A problem with what a gate knows, or with what it was asked."""


class GateNotReady(GateProblem, TimeoutError):
    """The gate has not read all states of limits yet. It goes on in the background."""


class InvalidAmounts(GateProblem, ValueError):
    """Amounts are whole numbers, 0 or more, within the bounds of what a run can use."""


class ReservationEnded(GateProblem):
    """The reservation was settled, released or refused before, so it holds nothing."""


class UnreadableState(GateProblem):
    """A record of limits or of the catalog breaks the contract; what was known still holds."""


class NoEstimate(ProducerError):
    """What it would cost cannot be said. It is not nothing."""


class PricesUnknown(NoEstimate):
    """No rate card is known: none was given, the catalog was not read yet, or none is in effect."""


class NotPriced(NoEstimate):
    """The rate card has no price for it: it would be counted as unpriced."""


class InvalidPrices(ProducerError, ValueError):
    """The file holds no rate card."""


class RecordingError(ProducerError, ValueError):
    """A value cannot be recorded with a run or session. The rest of it still can."""
