"""A Faust transport that delivers one message for all records of a partition's fetch.

It overrides private parts of faust-streaming 0.15, mode-streaming 0.7 and aiokafka 0.14; the
contract tests name each of them.
"""

from faust.transport import drivers

from .batch import Batching, RecordBatch, Records
from .consumer import BatchConsumer, BatchTransport

SCHEME = "meterstream"
"""The scheme of broker addresses that selects this transport."""

drivers.TRANSPORTS.aliases[SCHEME] = f"{BatchTransport.__module__}:{BatchTransport.__qualname__}"

__all__ = ["SCHEME", "BatchConsumer", "BatchTransport", "Batching", "RecordBatch", "Records"]
