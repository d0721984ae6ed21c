"""Settings as --help and docs/settings.md tell them."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, SecretStr

from meterstream.schemas.variables import Variable, help_lines, markdown_table, variables_of


class Given(BaseModel):
    """Some settings."""

    model_config: ClassVar[ConfigDict] = ConfigDict(use_attribute_docstrings=True)

    host: str | None = None
    """Where
    it is."""
    feeds: tuple[str, ...] = ("a", "b")
    """What it does."""
    password: SecretStr = SecretStr("hunter2")
    """Never shown."""


def test_a_variable_for_each_field() -> None:
    """Each field gives a variable with its default as one would write it; secrets are hidden."""
    host, feeds, password = variables_of(Given, "M_")
    assert host == Variable("M_HOST", "", "Where it is.")
    assert feeds.default == "a,b"
    assert "hunter2" not in password.default


def test_help_and_table_name_each_variable() -> None:
    """Help has each variable above its meaning, short lines; the table has a row for each."""
    found = (Variable("M_HOST", "here", "long " * 40),)
    first, *rest = help_lines(found)
    assert first == "  M_HOST [here]"
    assert all(line.startswith(" " * 6) and len(line) <= 96 for line in rest)
    assert markdown_table(found)[2].startswith("| `M_HOST` | `here` | long ")
