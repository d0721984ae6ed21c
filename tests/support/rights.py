"""What each user may do in Kafka, as docs/operations.md tells it."""

import re
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from meterstream.schemas.topics import DEFAULT_PREFIX

PAGE = Path(__file__).parents[2] / "docs/operations.md"
_ROW = re.compile(
    r"^\| (\w+) \| (topic|group|transactional id) \| `([^`]+)` \| (literal|prefixed) \| (.+) \|$",
    re.MULTILINE,
)


def documented_rights(prefix: str) -> list[AclBinding]:
    """Return the rules of the page for the topics and groups that begin with `prefix`."""
    return [
        AclBinding(
            ResourceType[kind.replace(" ", "_").upper()],
            re.sub(f"^{re.escape(DEFAULT_PREFIX)}", prefix, name),
            ResourcePatternType[pattern.upper()],
            f"User:{user}",
            "*",
            AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()],
            AclPermissionType.ALLOW,
        )
        for user, kind, name, pattern, operations in _ROW.findall(PAGE.read_text(encoding="utf-8"))
        for operation in operations.split(", ")
    ]


def grant_documented_rights(kafka: str, prefix: str) -> None:
    """Grant them on a broker that has an authorizer; nobody has any other right."""
    admin = AdminClient({"bootstrap.servers": kafka})
    for granted in admin.create_acls(documented_rights(prefix)).values():
        granted.result(30)
