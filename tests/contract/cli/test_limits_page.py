"""The page for admins and finance names only commands and options that there are."""

import re
import shlex
from pathlib import Path

import click
import pytest

from meterstream.cli.main import cli

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "limits.md").read_text(encoding="utf-8")
LINES = [
    line.partition(" # ")[0].partition(" > ")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("meterstream ")
]


@pytest.mark.parametrize("line", sorted(set(LINES)))
def test_each_line_can_be_given(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command is there, and takes what the line gives it."""
    for example in ("limits", "card", "plans", "catalog"):
        (tmp_path / f"{example}.yaml").touch()
    monkeypatch.chdir(tmp_path)
    _, name, subname, *words = shlex.split(line)
    context = click.Context(cli)
    group = cli.get_command(context, name)
    assert isinstance(group, click.Group)
    command = group.get_command(context, subname)
    assert command is not None
    command.make_context(subname, words, parent=context)  # a usage error is raised here


def test_links_lead_somewhere() -> None:
    """Each file that the page links to is there."""
    targets = re.findall(r"\]\(([^)#]+)", PAGE)
    assert targets
    assert all((DOCS / target).is_file() for target in targets)
