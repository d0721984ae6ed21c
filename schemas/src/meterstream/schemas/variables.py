"""The environment variables that set a service up, as its --help and docs/settings.md tell them.

A setting is a field of the service's settings class; what it means is the field's docstring.
"""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

_IN: Final = " " * 6


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable: its name, its default as one would write it, and what it means."""

    name: str
    default: str
    meaning: str


def variables_of(kind: type[BaseModel], prefix: str) -> tuple[Variable, ...]:
    """Return the variables that set the fields of `kind`: `prefix` and the field's name."""
    found = []
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=False)
        if isinstance(default, tuple):
            default = ",".join(default)
        shown = "" if default is None else str(default)
        found.append(
            Variable(prefix + name.upper(), shown, " ".join((field.description or "").split()))
        )
    return tuple(found)


def help_lines(variables: Iterable[Variable]) -> list[str]:
    """Return the lines of a --help: each variable with its default, and below it its meaning."""
    lines = []
    for variable in variables:
        lines.append(f"  {variable.name} [{variable.default}]")
        lines += textwrap.wrap(variable.meaning, 96, initial_indent=_IN, subsequent_indent=_IN)
    return lines


def markdown_table(variables: Iterable[Variable]) -> list[str]:
    """Return the lines of a table in Markdown, a row for each variable."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for variable in variables:
        default = f"`{variable.default}`" if variable.default else ""
        lines.append(f"| `{variable.name}` | {default} | {variable.meaning} |")
    return lines
