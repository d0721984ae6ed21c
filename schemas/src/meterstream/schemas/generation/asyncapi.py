"""The AsyncAPI 3 document: which events travel in which topic, under which key, and who may write.

It refers to the JSON Schema files that lie beside it.
"""

from typing import Any, Final

from meterstream.schemas.registry import MODELS
from meterstream.schemas.topics import BY_NAME, DEFAULT_PREFIX, LIMIT_STATES

from .json_schema import LIMIT_HEARTBEAT, LIMIT_STATE, STATE_RECORDS, event_schemas

_KEYS: Final = {
    "events": "data.team_id, as UTF-8; partition = (murmur2(key) & 0x7fffffff) % partitions",
    "control": "data.team_id, or data.organisation_id for an organisation's limit",
    "catalog": "kind/id, for cards and plans kind/id/version; parts percent-encoded",
    "thresholds": "data.team_id, or data.organisation_id",
    LIMIT_STATE: "a JSON array of owner kind (team or organisation), owner id and limit id; ASCII",
    LIMIT_HEARTBEAT: (
        'a JSON array of "heartbeat", the partition and, of limits of organisations,'
        ' "organisations"'
    ),
    "org-usage": "data.organisation_id",
}
"""What the key of a record is, by topic, or by record where one topic has several kinds."""
_INCOMING: Final = frozenset({"events", "control", "catalog"})


def asyncapi() -> dict[str, Any]:
    """Return the document for the public topics."""
    messages_by_topic = {topic: list(models) for topic, models in MODELS.items()}
    messages_by_topic[LIMIT_STATES] = list(STATE_RECORDS)
    schemas = event_schemas()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Meterstream",
            "version": "1.0.0",
            "description": (
                "Usage events in, threshold events and limit states out."
                " Events are CloudEvents 1.0 in structured JSON mode."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {topic: _channel(topic, names) for topic, names in messages_by_topic.items()},
        "operations": {
            _operation_name(topic): {
                "action": "receive" if topic in _INCOMING else "send",
                "channel": {"$ref": f"#/channels/{topic}"},
                "summary": f"Meterstream {'reads' if topic in _INCOMING else 'writes'} {topic}.",
            }
            for topic in messages_by_topic
        },
        "components": {
            "messages": {
                name: _message(topic, name, schemas[name])
                for topic, names in messages_by_topic.items()
                for name in names
            }
        },
    }


def _channel(topic: str, names: list[str]) -> dict[str, Any]:
    spec = BY_NAME[topic]
    keys = "; or ".join(dict.fromkeys(_key(topic, name) for name in names))
    return {
        "address": DEFAULT_PREFIX + topic,
        "description": f"{spec.purpose}. Record key: {keys}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "topicConfiguration": {"cleanup.policy": spec.cleanup.split(",")},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _key(topic: str, name: str) -> str:
    return _KEYS.get(name) or _KEYS[topic]


def _operation_name(topic: str) -> str:
    return f"{'read' if topic in _INCOMING else 'write'}-{topic}"


def _message(topic: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "contentType": "application/json"
        if name in STATE_RECORDS
        else "application/cloudevents+json",
        "summary": schema["description"].split("\n", 1)[0],
        "payload": {"$ref": f"./{name}.json"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": _key(topic, name)},
                "bindingVersion": "0.5.0",
            }
        },
    }
