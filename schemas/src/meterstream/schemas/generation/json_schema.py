"""JSON Schema of every event type, for producers that do not use the SDK."""

from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import ComputedFieldInfo, FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from meterstream.schemas.envelope import Envelope
from meterstream.schemas.registry import MODELS
from meterstream.schemas.thresholds import LimitHeartbeat, LimitState

JsonSchema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
LIMIT_STATE: Final = "limit-state"
LIMIT_HEARTBEAT: Final = "limit-heartbeat"
STATE_RECORDS: Final[dict[str, type[BaseModel]]] = {
    LIMIT_STATE: LimitState,
    LIMIT_HEARTBEAT: LimitHeartbeat,
}
"""The records of `limit-states`, which are no events, by name."""


class _Generator(GenerateJsonSchema):
    """Pydantic's generator without a title on every field, which only repeats its name."""

    schema_dialect = DIALECT

    def field_title_should_be_set(self, schema: CoreSchema | FieldInfo | ComputedFieldInfo) -> bool:
        """Tell that no field gets a title."""
        return False

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        """Leave out `default: null`: an absent field is simply absent."""
        json_schema = super().default_schema(schema)
        if json_schema.get("default", 0) is None:
            del json_schema["default"]
        return json_schema

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Hold every key to its pattern: `patternProperties` alone would let others through."""
        json_schema = super().dict_schema(schema)
        if patterns := json_schema.pop("patternProperties", None):
            ((pattern, values),) = patterns.items()
            json_schema["additionalProperties"] = values
            json_schema["propertyNames"] = {
                "pattern": pattern,
                **json_schema.get("propertyNames", {}),
            }
        return json_schema


def schema_of(model: type[BaseModel]) -> JsonSchema:
    """Return the JSON Schema of what a model accepts on the wire."""
    schema = model.model_json_schema(mode="validation", schema_generator=_Generator)
    if issubclass(model, Envelope):
        # The models fill these in for Python callers; on the wire they are part of the event.
        schema["required"] = sorted({*schema["required"], "specversion", "type"})
        for field in ("specversion", "type"):
            del schema["properties"][field]["default"]
    return {"$schema": DIALECT, **schema}


def event_schemas() -> dict[str, JsonSchema]:
    """Return the JSON Schema of every event type, and of `limit-states` records, by name."""
    schemas = {
        name: schema_of(model) for models in MODELS.values() for name, model in models.items()
    }
    return schemas | {name: schema_of(model) for name, model in STATE_RECORDS.items()}
