"""Refused rows, without a server: which are found, and in which form they are kept."""

import json
from typing import Any

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from meterstream.sinks.errors import RowsRefused
from meterstream.sinks.store import MAX_REFUSED_ROWS, ClickHouseStore


class Server:
    """Refuses each insert that holds a row above 99."""

    def __init__(self, code: int = 469) -> None:
        self.code = code
        self.stored: dict[str, list[dict[str, Any]]] = {}

    def insert_arrow(self, target: str, table: pa.Table, settings: object) -> None:
        rows = table.to_pylist()
        if any(row.get("number", 0) > 99 for row in rows):
            raise DatabaseError(f"Code: {self.code}. DB::Exception: no")
        self.stored.setdefault(target, []).extend(rows)


def store(server: Server) -> ClickHouseStore:
    """Return the real store on that server."""
    client: Any = server
    return ClickHouseStore(client, lambda: 7)


def numbers(*given: int) -> pa.Table:
    """Return rows with one column."""
    return pa.table({"number": pa.array(given, pa.int64())})


def test_refused_rows_are_found_among_their_neighbours() -> None:
    """By halving: all others land, in their order, and both kinds are counted."""
    server = Server()
    into = store(server)
    refused = into.insert("t", numbers(1, 100, 2, 3, 101, 4))
    assert [one.row["number"] for one in refused] == [100, 101]
    assert [row["number"] for row in server.stored["t"]] == [1, 2, 3, 4]
    assert [row["row_json"] for row in server.stored["quarantine"]] == [
        '{"number": 100}',
        '{"number": 101}',
    ]
    assert into._metrics.rows.labels("t")._value.get() == 4
    assert into._metrics.quarantined_rows.labels("t")._value.get() == 2


def test_the_servers_own_faults_are_raised() -> None:
    """No row is to blame for too many parts."""
    with pytest.raises(DatabaseError, match="252"):
        store(Server(252)).insert("t", numbers(1, 100))


def test_too_many_refused_rows_are_the_tables_fault() -> None:
    """Nothing is set aside then."""
    server = Server()
    with pytest.raises(RowsRefused, match=f"more than {MAX_REFUSED_ROWS} rows"):
        store(server).insert("t", numbers(*range(100, 300)))
    assert "quarantine" not in server.stored


def test_a_refused_row_is_kept_in_a_form_that_can_be_inserted() -> None:
    """JSONEachRow reads each of these as its column's type."""
    server = Server()
    table = pa.table(
        {
            "number": pa.array([100], pa.int64()),
            "id": pa.array([bytes(range(16))], pa.binary(16)),
            "start": pa.array([60], pa.timestamp("s", "UTC")),
            "time": pa.array([1_500_000], pa.timestamp("us", "UTC")),
            "day": pa.array([1], pa.int32()).cast(pa.date32()),
            "sketch": pa.array([[(5, 3)]], pa.map_(pa.int16(), pa.int64())),
            "name": pa.array(["a"]).dictionary_encode(),
            "nothing": pa.array([None], pa.int64()),
        }
    )
    store(server).insert("t", table)
    assert json.loads(server.stored["quarantine"][0]["row_json"]) == {
        "number": 100,
        "id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "start": "1970-01-01 00:01:00",
        "time": "1970-01-01 00:00:01.500000",
        "day": "1970-01-02",
        "sketch": {"5": 3},
        "name": "a",
        "nothing": None,
    }
