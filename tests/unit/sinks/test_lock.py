"""The lock of migrations when two reach for it in the same moment."""

import json
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from meterstream.sinks import lock
from meterstream.sinks.lock import migration_lock


class Server:
    """Refuses to create the lock's table as often as it is told, and to rename it with `code`."""

    def __init__(self, refusals: int, *, expired: bool, code: int | None = None) -> None:
        self.refusals = refusals
        self.until = -1 if expired else 10**12
        self.code = code
        self.dropped = 0
        self.held: str | None = None
        self.is_gone = False
        """Whether who had the lock gives it back before anybody can ask who that is."""

    def command(self, sql: str) -> int:
        if sql.startswith("CREATE TABLE"):
            if self.refusals:
                self.refusals -= 1
                raise DatabaseError("Code: 57. DB::Exception: already exists")
            self.held = sql.rpartition("COMMENT ")[2].strip("'")
        elif sql.startswith("RENAME") and self.code is not None:
            raise DatabaseError(f"Code: {self.code}. DB::Exception")
        elif sql.startswith("DROP"):
            self.dropped += 1
        return 0

    def query(self, sql: str, parameters: dict[str, str]) -> Any:
        class Answer:
            result_rows: list[tuple[str]]

        answer = Answer()
        if self.is_gone and self.held is None:
            answer.result_rows = []
            return answer
        other = json.dumps({"owner": "other", "token": "t", "until": self.until})
        answer.result_rows = [(self.held or other,)]
        return answer


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_POLL_S", 0.001)


@pytest.mark.parametrize("code", [57, 60])
def test_who_is_slower_to_take_over_waits(code: int) -> None:
    """Somebody else pushed the stale lock aside, or has the new one already."""
    server: Any = Server(3, expired=True, code=code)
    with migration_lock(server, "d"):
        pass
    assert server.dropped == 1


def test_the_lock_is_waited_for() -> None:
    """A holder that ends makes room."""
    server: Any = Server(3, expired=False)
    with migration_lock(server, "d"):
        pass
    assert server.dropped == 1


def test_a_lock_that_is_given_back_in_this_moment_is_taken() -> None:
    """Where nobody is named as its holder any more nothing is pushed aside."""
    server: Any = Server(1, expired=True, code=241)
    server.is_gone = True
    with migration_lock(server, "d"):
        assert server.held is not None
    assert server.dropped == 1


@pytest.mark.parametrize("code", [241, None])
def test_other_failures_are_raised(code: int | None) -> None:
    """A server out of memory is no other holder."""
    server: Any = Server(1, expired=True, code=code)
    if code is None:
        server.command = _no_memory
    with pytest.raises(DatabaseError, match="241"), migration_lock(server, "d"):
        raise AssertionError("not reached")


def _no_memory(sql: str) -> int:
    if sql.startswith("CREATE"):
        raise DatabaseError("Code: 241. DB::Exception: memory limit")
    return 0
