"""The dead-letter queue: raw bytes as the value and key, and why and where from in the headers.

One record for each dead letter, on the partition that refused it. A key or value that the queue
might not take is left out, and can be read at the coordinates. All headers are UTF-8 text; an
absent header means that there is nothing to say.
"""

from typing import Final

REASON: Final = "reason"
"""The verdict's name: `wrong_partition`, `missing_field`, `conflict`, ..."""
DETAIL: Final = "detail"
"""One sentence of what is wrong, without the content of the event."""
TOPIC: Final = "topic"
PARTITION: Final = "partition"
OFFSET: Final = "offset"
"""Coordinates of the record that was refused. With the topic's id they identify the letter."""
TOPIC_ID: Final = "topic_id"
LOG_TIME: Final = "log_time"
"""When the broker appended the refused record, RFC 3339."""
GENERATION: Final = "generation"
JOURNAL_OFFSET: Final = "journal_offset"
"""The journal record that refused it."""
EVENT_TYPE: Final = "event_type"
TEAM_ID: Final = "team_id"
"""As the refused bytes say, where they can be read."""
MISSING: Final = "missing"
"""Why the value is empty: `null_value` if the record has none, `retention` if it is gone, `damaged`
if the broker's disk has not kept it, `too_large` if the queue would not take it; it can be read at
its coordinates then."""
BYTES: Final = "bytes"
"""How many bytes the value of the refused record has, where it is left out as too large."""

NULL_VALUE: Final = "null_value"
RETENTION: Final = "retention"
DAMAGED: Final = "damaged"
TOO_LARGE: Final = "too_large"
