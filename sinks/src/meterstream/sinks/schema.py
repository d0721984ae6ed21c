"""The SQL that makes the schema: numbered migrations, and views that are made anew as a whole."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template
from typing import Final

from meterstream.schemas import rows, sketch

DIMENSIONS: Final = {
    "team": "team_id",
    "user": "user_id",
    "agent": "agent_id",
    "model": "model",
    "feature": "feature_id",
    "project": "project_id",
}
"""What usage can be asked by, and the column that holds it."""

_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_STATEMENT_END: Final = re.compile(r";[ \t]*(?:\n|\Z)")
_COMMENT: Final = re.compile(r"^\s*--[^\n]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of SQL: applied once, in order, and never edited afterwards."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The hash by which an edit is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """Return the migrations of this release, in order."""
    found = []
    for file in files(__package__).joinpath("migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    assert numbers == list(range(1, len(found) + 1)), f"migrations leave out a number: {numbers}"
    return tuple(found)


@cache
def definitions() -> str:
    """Return the SQL of functions and views; it replaces what is there."""
    folder = files(__package__).joinpath("views")
    functions = folder.joinpath("functions.sql").read_text("utf-8")
    cells = folder.joinpath("usage_cells.sql").read_text("utf-8")
    usage_by = folder.joinpath("usage_by.sql").read_text("utf-8")
    columns = [*rows.CELL_KEY[1:], *rows.CELL_SUMS, *rows.CELL_SKETCHES]
    fill = {
        "representative": "[" + ", ".join(map(str, sketch.REPRESENTATIVE)) + "]",
        "columns": ", ".join(column.name for column in columns),
    }
    parts = [Template(functions).safe_substitute(fill), Template(cells).safe_substitute(fill)]
    for by, key in DIMENSIONS.items():
        parts.append(Template(usage_by).safe_substitute(by=by, key=key))
    others = ("limits.sql", "unpriced_usage.sql", "credits.sql")
    parts.extend(folder.joinpath(name).read_text("utf-8") for name in others)
    return "\n".join(parts)


def statements(sql: str, cluster: str | None) -> Iterator[str]:
    """Yield the statements of `sql`, for one server or ON CLUSTER with replicated tables."""
    text = Template(_COMMENT.sub("", sql)).substitute(
        on_cluster=f"ON CLUSTER `{cluster}`" if cluster else "",
        replicated="Replicated" if cluster else "",
    )
    for statement in _STATEMENT_END.split(text):
        if statement.strip():
            yield statement.strip()
