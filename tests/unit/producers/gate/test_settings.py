"""A gate's settings are checked at once, and found where those of publishers are."""

import pytest

from meterstream.producers import GateSettings, InvalidSettings


def test_every_fault_is_named_at_once() -> None:
    """Each field is named with its variable, and what completeness rests on is not for sale."""
    with pytest.raises(InvalidSettings) as caught:
        GateSettings.make(
            gate_fail="maybe", gate_max_age_s=1, kafka={"isolation.level": "x"}, odd=1
        )
    text = str(caught.value)
    assert text.startswith("the gate's settings cannot be used:")
    for field in ("kafka_bootstrap", "gate_fail", "gate_max_age_s"):
        assert f"\n  {field} (METERSTREAM_{field.upper()}): " in text
    assert "isolation.level: fixed by the SDK" in text
    assert "\n  odd: " in text


def test_no_fewer_processes_share_an_organisation_than_a_team() -> None:
    """Whoever runs a team runs for its organisation."""
    with pytest.raises(InvalidSettings, match=r"GATE_ORGANISATION_PROCESSES.*not less than"):
        GateSettings.make(kafka_bootstrap="none", gate_processes=4, gate_organisation_processes=3)


def test_the_environment_sets_every_field() -> None:
    """One environment serves the gate and the publisher of a service."""
    settings = GateSettings.from_environment(
        {
            "METERSTREAM_KAFKA_BOOTSTRAP": "broker:9092",
            "METERSTREAM_SPOOL_DIR": "/var/spool/metering",
            "METERSTREAM_TOPIC_PREFIX": "x.",
            "METERSTREAM_GATE_FAIL": "fail_closed",
            "METERSTREAM_GATE_PROCESSES": "4",
            "METERSTREAM_KAFKA_SASL_USERNAME": "service",
        },
        gate_max_age_s=60,
    )
    assert settings.topic == "x.limit-states"
    assert (settings.gate_fail, settings.gate_processes) == ("fail_closed", 4)
    assert settings.gate_max_age_s == 60
    assert settings.kafka == {"sasl.username": "service"}
