"""The connection to ClickHouse, and which of its errors are worth a retry."""

import re
from collections.abc import Mapping
from typing import Any, Final

import clickhouse_connect
import urllib3
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from .errors import ClickHouseTooOld

OLDEST_TESTED: Final = (24, 8)
"""The oldest release that the tables, views and functions were tested on."""

WRITE_SETTINGS: Final[Mapping[str, Any]] = {
    # A sink counts on its rows being there when the insert returns.
    "async_insert": 0,
    "wait_end_of_query": 1,
    # A block that is sent again after its rows were removed must land: rows are idempotent by
    # their identity and version, and not by the bytes of the block they came in.
    "insert_deduplicate": 0,
    # An import of old events touches many days in one insert.
    "max_partitions_per_insert_block": 0,
    # The newest rows are chosen before they are sent; FINAL does the rest.
    "optimize_on_insert": 0,
}

CLUSTER_SETTINGS: Final[Mapping[str, Any]] = {
    # Coarse rows are computed from minutes that were just written, on whichever replica.
    "insert_quorum": "auto",
    "insert_quorum_parallel": 0,
    "select_sequential_consistency": 1,
}

_CODE: Final = re.compile(r"\bCode: (\d+)\b")

ROW_FAULTS: Final = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        407,  # DECIMAL_OVERFLOW
        469,  # VIOLATED_CONSTRAINT
    }
)
"""ClickHouse's error codes that a row itself may cause; all others are the server's state."""


def connect(
    url: str,
    *,
    user: str = "default",
    password: str = "",
    database: str | None = None,
    cluster: str | None = None,
    timeout_s: int = 60,
) -> Client:
    """Return a client for the server at `url`, such as http://127.0.0.1:8123.

    The client may be used by one thread at a time. `cluster` makes reads see the client's own
    writes on every replica. Raises ClickHouseTooOld; the driver's errors if nobody answers.
    """
    try:
        client = clickhouse_connect.get_client(
            dsn=url,
            username=user,
            password=password,
            database=database or "__default__",
            connect_timeout=10,
            send_receive_timeout=timeout_s,
            autogenerate_session_id=False,
            client_name="meterstream-sink",
            settings=dict(CLUSTER_SETTINGS) if cluster else None,
        )
    except ClickHouseError:
        # A server may be too old even to say so in a way that the driver reads.
        if version := _plain_version(url, user, password):
            _refuse_old(version)
        raise
    require_version(client)
    return client


def require_version(client: Client) -> None:
    """Raise ClickHouseTooOld if the server is older than the oldest tested release."""
    _refuse_old(str(client.server_version))


def _refuse_old(version: str) -> None:
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if found < OLDEST_TESTED:
        oldest = ".".join(str(number) for number in OLDEST_TESTED)
        raise ClickHouseTooOld(
            f"ClickHouse {version} is too old: Meterstream needs {oldest} or newer."
            " Upgrade the server, or use the embedded engine (meterstream stack)"
        )


def _plain_version(url: str, user: str, password: str) -> str | None:
    """Return what the server says its version is, asked without the driver; None without one."""
    headers = {"X-ClickHouse-User": user, "X-ClickHouse-Key": password}
    try:
        answer = urllib3.request(
            "POST", url, body=b"SELECT version()", headers=headers, timeout=10, retries=False
        )
    except urllib3.exceptions.HTTPError:
        return None
    text = answer.data.decode("utf-8", "replace").strip()
    return text if re.fullmatch(r"\d+(\.\d+)+", text) else None


def error_code(error: ClickHouseError) -> int | None:
    """Return ClickHouse's number for `error`, or None if the server did not answer."""
    found = _CODE.search(str(error))
    return int(found[1]) if found else None


def is_row_fault(error: Exception) -> bool:
    """Tell whether a row of the insert may have caused `error`, rather than the server's state."""
    return isinstance(error, DatabaseError) and error_code(error) in ROW_FAULTS
