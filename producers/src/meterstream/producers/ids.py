"""Ids that make retries harmless: the same run gives the same event id, whenever it is sent."""

import hashlib
import uuid
from typing import Final

_MAX_ID: Final = 128


def new_id() -> str:
    """Return a fresh id for a run or session: 32 hexadecimal digits, random."""
    return uuid.uuid4().hex


def derived_id(kind: str, subject_id: str) -> str:
    """Return the id of the one event of `kind` that `subject_id` has: `kind:subject_id`.

    A subject too long for that is named by its SHA-256 instead, so the id is always the same and
    always fits the 128 characters of the contract.
    """
    plain = f"{kind}:{subject_id}"
    if len(plain) <= _MAX_ID:
        return plain
    return f"{kind}:sha256:{hashlib.sha256(subject_id.encode()).hexdigest()}"
