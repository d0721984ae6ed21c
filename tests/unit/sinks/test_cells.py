"""What the cells feed takes from ClickHouse about windows that are closed or held open."""

from typing import Any
from uuid import UUID

from tests.support.journal import EVENTS_TOPIC_ID, TODAY_US

from meterstream.schemas.journal import Link
from meterstream.sinks.cells import read_watermarks
from meterstream.sinks.state import Lineage

TODAY_S = TODAY_US // 1_000_000
OTHER_TOPIC_ID = UUID(int=7)


class ClickHouse:
    """Answers with the watermark of one lineage, and with quarantined minutes of two."""

    def query(self, sql: str, parameters: dict[str, Any]) -> Any:
        class Answer:
            result_rows: list[tuple[object, ...]]

        answer = Answer()
        if "FROM watermarks" in sql:
            answer.result_rows = [(str(EVENTS_TOPIC_ID), 1, TODAY_S, TODAY_S, 5)]
        else:
            answer.result_rows = [
                (str(OTHER_TOPIC_ID), 1, TODAY_S - 3600),
                (str(EVENTS_TOPIC_ID), 1, TODAY_S + 900),
            ]
        return answer


def test_a_quarantined_minute_holds_the_windows_of_its_own_topic() -> None:
    """One of a topic that has no watermark here holds nothing, and makes up no lineage."""
    client: Any = ClickHouse()
    found = read_watermarks(client, 0, Link(5, 4, 1, 9, TODAY_US))
    assert list(found) == [Lineage(EVENTS_TOPIC_ID, 1)]
    (watermark,) = found.values()
    assert watermark.closed.quarter_s == TODAY_S
    assert watermark.held.quarter_s == TODAY_S + 900
