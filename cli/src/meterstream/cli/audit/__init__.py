"""`meterstream audit`: proves that the broker, the journal and ClickHouse say the same.

Nothing here uses the meter's or the sinks' own readers: the audit knows the contract in
`meterstream.schemas` and the tables, so that a fault in those readers cannot hide itself.
"""

from .command import audit

__all__ = ["audit"]
