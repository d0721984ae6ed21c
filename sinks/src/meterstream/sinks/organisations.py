"""The organisations feed: limits of organisations, from the journal of their own meter."""

import time
from collections.abc import Callable, Mapping

from clickhouse_connect.driver.client import Client

from meterstream.schemas.journal import Link

from .batch import make_batch
from .positions import ORGANISATIONS, Position, positions_table
from .record import Decoded, JournalRecord, decode
from .stages import ORGANISATIONS as STAGE
from .start import Start, StartFinder
from .store import Store
from .truncation import ORGANISATIONS_TABLES, remove_rows_after


class OrganisationsTarget:
    """Takes records of the journal of organisations, and writes what they tell of limits."""

    def __init__(self, client: Client, store: Store, finder: StartFinder) -> None:
        self._client = client
        self._store = store
        self._finder = finder
        self._pending: dict[int, list[Decoded]] = {}

    def assigned(self, partition: int, committed: Link | None) -> Start:
        """Prepare for the records of `partition` and return where they begin."""
        start = self._finder.find(partition, committed)
        if start.cut is not None:
            remove_rows_after(
                self._client, ORGANISATIONS, ORGANISATIONS_TABLES, partition, start.cut
            )
        self._pending[partition] = []
        return start

    def dropped(self, partitions: list[int]) -> None:
        """Forget `partitions` and what is pending of them."""
        for partition in partitions:
            self._pending.pop(partition, None)

    def add(self, record: JournalRecord) -> int:
        """Take a valid record to be stored by the next flush; return how many rows it brings."""
        decoded = decode(record)
        self._pending[record.partition].append(decoded)
        states = decoded.limit_states
        return len(decoded.crossings) + (0 if states is None else states.num_rows)

    def flush(self, commit: Callable[[Mapping[int, Link]], None]) -> None:
        """Store all that is pending, then `commit` its links."""
        pending = {number: records for number, records in self._pending.items() if records}
        if not pending:
            return
        now_us = time.time_ns() // 1000
        batch = make_batch([one for records in pending.values() for one in records], now_us)

        # 1. Where limits stand, and what was told of them.
        if batch.limit_states is not None:
            self._store.insert("limit_states", batch.limit_states)
        if batch.thresholds is not None:
            self._store.insert("thresholds", batch.thresholds)

        # 2. The ledger. After everything that it vouches for.
        if batch.ledger is not None:
            charged = ["charged_runs", "charged_micro"]  # organisations are charged nothing
            self._store.insert(STAGE.ledger, batch.ledger.drop_columns(charged))

        # 3. The positions. Last of all rows: they say that everything before is there.
        positions = [
            Position(ORGANISATIONS, number, records[-1].record.link, records[-1].record.version)
            for number, records in pending.items()
        ]
        self._store.insert("positions", positions_table(positions, now_us))

        # 4. The links. Only now may a restart begin after these records.
        commit({position.partition: position.link for position in positions})
        for number in pending:
            self._pending[number] = []
