"""When a set of runs ends, kept: a set that is sent again is the same bytes, and counts nothing.

The times of a trace are moved so that it ends now. Sent a second time, "now" would be another
one, and the same runs would come with other content. So the first end is kept, in a small file in
the data directory, by the events topic (its id, so a topic made again begins anew) and by the
source that the events name.
"""

import json
from pathlib import Path
from typing import Final

from meterstream.cli.errors import Unreachable

FILE_NAME: Final = "sent-ends.json"


def keep_end(directory: Path, topic_id: str, source: str, end_us: int) -> int:
    """Return the end (microseconds since 1970) kept for a source; `end_us` if there is none yet.

    Raises Unreachable if the file cannot be read or written: the set must not go out if its end
    could not be kept.
    """
    path = directory / FILE_NAME
    try:
        ends = json.loads(path.read_text()) if path.exists() else {}
        topic = ends.setdefault(topic_id, {})
        if source in topic:
            return int(topic[source])
        topic[source] = end_us
        directory.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(".new")
        written.write_text(json.dumps(ends, indent=1))
        written.replace(path)
    except OSError as error:
        raise Unreachable(
            f"{path} cannot be written ({error.strerror}): choose another directory with --data"
        ) from error
    except ValueError as error:
        raise Unreachable(f"{path} is damaged ({error}): remove it") from error
    return end_us
