"""The ClickHouse engine behind ClickHouse's HTTP interface, on loopback, as its own process."""

from meterstream.local.clickhouse.server import ClickHouseServer
from meterstream.local.clickhouse.version import MINIMUM_VERSION, check_server, check_version

__all__ = ["MINIMUM_VERSION", "ClickHouseServer", "check_server", "check_version"]
