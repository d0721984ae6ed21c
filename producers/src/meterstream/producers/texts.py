"""Free text cut to what an event may hold, so that a long prompt never costs the run's usage."""

import json
from typing import Final

from meterstream.schemas.fields import MAX_EVENT_BYTES, MAX_TEXT

_MAX_JSON_BYTES: Final = MAX_EVENT_BYTES // 4
"""Bytes of JSON for each of the three texts of a run; the rest of the event takes the fourth."""


def fitting(text: str) -> str:
    """Return `text` cut to MAX_TEXT characters and a quarter of an event's bytes.

    Half surrogate pairs, which no JSON can hold, become question marks.
    """
    kept = text[:MAX_TEXT].encode("utf-8", "replace").decode()
    while len(json.dumps(kept, ensure_ascii=False).encode()) > _MAX_JSON_BYTES:
        kept = kept[: len(kept) * 3 // 4]
    return kept
