"""Tables on a terminal: no number is ever cut off."""

import re
import sys

import pytest
from rich.console import Console

from meterstream.cli import output
from meterstream.cli.output import TEXT_WIDTH, draw_table, print_table

COLUMNS = ("team", "runs", "input tokens", "first token p50 ms", "credits")
ROWS = [("team-1", 1_234_567, 89_000_000_123, "1,234.5", "9,007,199,254,740,993.000001")]
FIGURES = ("1,234,567", "89,000,000,123", "1,234.5", "9,007,199,254,740,993.000001")


@pytest.mark.parametrize("width", [200, 80, 40])
def test_a_table_shows_every_figure_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    """However narrow the terminal is, each figure stands in one piece."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(output, "Console", lambda **_: Console(width=width, no_color=True))
    print_table(COLUMNS, ROWS)
    printed = capsys.readouterr().out
    assert "…" not in printed
    for figure in FIGURES:
        assert re.search(rf"(^|\s){re.escape(figure)}(\s|$)", printed)


def test_headings_are_broken_where_they_make_a_table_too_wide() -> None:
    """A heading of several words takes several lines only where one line has no room."""
    for width, heading in ((200, "input tokens"), (70, "input\ntokens")):
        table = draw_table(COLUMNS, ROWS, Console(width=width))
        assert table.columns[2].header == heading


def test_long_names_are_folded_where_they_make_a_table_too_wide() -> None:
    """A long name takes several lines only where one line has no room."""
    for width, most in ((300, None), (100, TEXT_WIDTH)):
        table = draw_table(COLUMNS, [("u" * 128, *ROWS[0][1:])], Console(width=width))
        assert [column.max_width for column in table.columns] == [most, None, None, None, None]


def test_texts_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Square brackets in a name are part of it, and no markup."""
    print_table(["name"], [["[bold]x[/bold]"]], title="of [things]")
    assert "[bold]x[/bold]" in capsys.readouterr().out
