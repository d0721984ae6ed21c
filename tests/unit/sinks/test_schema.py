"""The SQL of the schema, as text."""

from pathlib import Path

import pytest

from meterstream.sinks import schema
from meterstream.sinks.client import require_version
from meterstream.sinks.errors import ClickHouseTooOld
from meterstream.sinks.schema import definitions, migrations, statements


class Server:
    """Says its version, which is all that is asked of it here."""

    def __init__(self, version: str) -> None:
        self.server_version = version


@pytest.mark.parametrize("version", ["18.16.1", "23.8.2.7", "24.7.9"])
def test_an_old_clickhouse_is_refused_in_one_line(version: str) -> None:
    """The message names the version that is there, the one that is needed, and what to do."""
    with pytest.raises(ClickHouseTooOld, match=r"24\.8 or newer") as caught:
        require_version(Server(version))  # type: ignore[arg-type]
    assert version in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["24.8.4.1", "25.3.1", "26.9.2.1"])
def test_a_newer_one_is_taken(version: str) -> None:
    """From the oldest tested release on."""
    require_version(Server(version))  # type: ignore[arg-type]


def test_on_one_server_nothing_is_replicated() -> None:
    """Without a cluster no statement names one."""
    for migration in migrations():
        for statement in statements(migration.sql, None):
            assert "ON CLUSTER" not in statement
            assert "ReplicatedReplacingMergeTree" not in statement


def test_on_a_cluster_every_statement_is_for_all_of_it() -> None:
    """Tables are replicated; functions and views are made everywhere."""
    for sql in [*(migration.sql for migration in migrations()), definitions()]:
        for statement in statements(sql, "main"):
            assert "ON CLUSTER `main`" in statement
            if statement.startswith("CREATE TABLE"):
                assert "ENGINE = ReplicatedReplacingMergeTree(version)" in statement


def test_files_beside_the_migrations_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor's copy of one is not applied a second time."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for name in ("0002_second.sql", "0001_first.sql", "0001_first.sql~", "notes.md"):
        (folder / name).write_text("SELECT 1")
    monkeypatch.setattr(schema, "files", lambda _: tmp_path)
    found = migrations.__wrapped__()
    assert [(one.number, one.name) for one in found] == [(1, "first"), (2, "second")]


def test_tables_and_columns_are_made_only_where_they_are_missing() -> None:
    """A migration that was cut short can be applied again."""
    for migration in migrations():
        for statement in statements(migration.sql, None):
            if statement.startswith("ALTER TABLE "):
                added = statement.count("ADD COLUMN")
                assert added == statement.count("ADD COLUMN IF NOT EXISTS ")
            else:
                assert statement.startswith("CREATE TABLE IF NOT EXISTS ")
