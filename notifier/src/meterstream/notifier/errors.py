"""What may go wrong before the notifier runs, and what a caller catches.

NotifierError
├── SettingsInvalid   variables that cannot be used
├── FileInvalid       the file of destinations and routes cannot be used
└── KafkaUnavailable  Kafka does not answer, or a topic is missing
"""


class NotifierError(Exception):
    """The notifier cannot go on. The message says what happened, to what, and what to do next."""


class SettingsInvalid(NotifierError, ValueError):
    """One or more settings cannot be used. The message names every one of them."""


class FileInvalid(NotifierError, ValueError):
    """The file of destinations and routes cannot be used. The message names every fault."""


class KafkaUnavailable(NotifierError):
    """Kafka does not answer a question, or a topic is not there."""
