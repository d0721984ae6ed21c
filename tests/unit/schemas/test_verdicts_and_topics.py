"""The verdicts and the topics, as stored data and operators know them."""

from meterstream.schemas.topics import TOPICS
from meterstream.schemas.verdicts import (
    DEAD_LETTERED,
    LEDGER_CLASSES,
    Verdict,
    is_rejected,
    ledger_class,
    reason_name,
)


def test_stored_numbers_never_change() -> None:
    """The number of each verdict is the one that journals already hold."""
    assert {verdict.name: verdict.value for verdict in Verdict} == {
        "COUNTED": 1, "DUPLICATE": 2, "CONFLICT": 3, "TOO_LATE": 4, "GAP": 5, "UNREAD": 6,
        "NULL_VALUE": 32, "EMPTY": 33, "TOO_LARGE": 34, "NOT_UTF8": 35, "NOT_JSON": 36,
        "NOT_AN_OBJECT": 37, "UNKNOWN_SPECVERSION": 38, "UNKNOWN_TYPE": 39, "MISSING_FIELD": 40,
        "UNKNOWN_FIELD": 41, "WRONG_TYPE": 42, "OUT_OF_RANGE": 43, "INVALID_TIME": 44,
        "INVALID_TEXT": 45, "INCONSISTENT": 46, "WRONG_PARTITION": 47, "TIME_AHEAD": 48,
        "AMOUNT_TOO_LARGE": 49, "NOT_ALLOWED": 50, "INTERNAL": 63,
    }  # fmt: skip


def test_each_verdict_has_one_class() -> None:
    """Every verdict falls into exactly one class of the loss ledger, and each class is used."""
    assert {ledger_class(verdict) for verdict in Verdict} == set(LEDGER_CLASSES)


def test_what_is_refused_is_dead_lettered() -> None:
    """Rejected, conflicting and late events go to the dead-letter queue, and no others."""
    kept = {Verdict.COUNTED, Verdict.DUPLICATE, Verdict.GAP, Verdict.UNREAD}
    assert set(Verdict) - DEAD_LETTERED == kept
    assert not is_rejected(Verdict.UNREAD)
    assert is_rejected(Verdict.NULL_VALUE)
    assert reason_name(Verdict.WRONG_PARTITION) == "wrong_partition"


def test_topics_say_what_kafka_must_be_set_to() -> None:
    """Each topic's settings carry Kafka's own names, and unset ones are left to the broker."""
    settings = {spec.name: spec.config() for spec in TOPICS}
    assert settings["events"] == {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": "604800000",
    }
    assert settings["journal"]["max.message.bytes"] == "16777216"
    assert settings["catalog"]["cleanup.policy"] == "compact"
    assert settings["limit-states"]["segment.bytes"] == "67108864"
    assert "segment.bytes" not in settings["catalog"]
    assert all(config["message.timestamp.type"] == "LogAppendTime" for config in settings.values())
