"""Entries for the catalog are judged by the meter's own core before anything is written."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meterstream.cli.entries.catalog_file import CatalogFile, entry_of_data
from meterstream.cli.entries.known import KnownCatalog, check_teams, fold_catalog
from meterstream.cli.errors import BadInput
from meterstream.schemas.catalog import RateCardPublished, TeamRegistered, catalog_key
from meterstream.schemas.times import format_rfc3339, to_us
from meterstream.streams.core.batch import Entry

EXAMPLES = Path(__file__).parents[3] / "docs/examples"
NOW = datetime.now(UTC)
PAST = "2026-01-01T00:00:00Z"


def known(*entries: tuple[type, dict[str, Any]]) -> KnownCatalog:
    """Return a catalog in which these were published a day ago."""
    records = []
    for offset, (kind, data) in enumerate(entries):
        event = entry_of_data(kind, data)
        value = event.model_dump_json(exclude_none=True).encode()
        at_us = to_us(NOW - timedelta(days=1))
        records.append(Entry(offset, at_us, catalog_key(event).encode(), value))
    return fold_catalog(records)


def card(version: int, effective_from: str, **more: Any) -> tuple[type, dict[str, Any]]:
    """Return a card."""
    said = {"name": "default", "version": version, "effective_from": effective_from, "prices": []}
    return RateCardPublished, said | more


def judged(tmp_path: Path, text: str, catalog: KnownCatalog, only: str | None = None) -> list[str]:
    """Return the keys of what a file would publish."""
    path = tmp_path / "file.yaml"
    path.write_text(text)
    file = CatalogFile(path)
    return [one.key for one in file.judge(catalog, file.read(only))]


@pytest.mark.parametrize("name", ["card", "plans", "catalog"])
def test_the_examples_are_right(name: str) -> None:
    """Each example of the docs can be published into an empty catalog, and once."""
    file = CatalogFile(EXAMPLES / f"{name}.yaml")
    only = {"card": "cards", "plans": "plans"}.get(name)
    wanted = file.read(only)
    assert wanted
    assert file.judge(known(), wanted) == wanted
    again = known(*((type(one.event), one.event.data.model_dump(mode="json")) for one in wanted))
    assert file.judge(again, wanted) == []


SOON = format_rfc3339(NOW + timedelta(minutes=4))
LATER = format_rfc3339(NOW + timedelta(hours=8))
CARD = f"name: default\nversion: 2\neffective_from: {LATER}\n"
LINE = "- {{name: a, version: {}, effective_from: " + LATER + ", prices: []}}\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (f"name: default\nversion: 2\neffective_from: {PAST}\nprices: []", 1, "another version"),
        (f"name: default\nversion: 2\neffective_from: {SOON}\nprices: []", 1, "five minutes"),
        (f"name: default\nversion: 1\neffective_from: {LATER}\nprices: []", 1, "published with"),
        (CARD + "prices:\n  - model: m\n    run_micro: -1", 6, "0 or more"),
        (CARD + "prices:\n  - run_micro: 0.5", 5, "an integer"),
        (CARD + "price: []", 4, "price: a field that the contract does not name"),
        (f"name: default\neffective_from: {LATER}\nprices: []", 1, "version: required"),
        (LINE.format(1) + LINE.format(2), 2, "another version"),
        (LINE.format(1) + LINE.format(1), 2, "in line 1"),
        ("teams: []", 1, "unknown"),
        ("7", 1, "a mapping"),
    ],
    ids=lambda value: None if isinstance(value, int) else "text" if "\n" in value else value,
)
def test_a_card_that_may_not_be_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, line: int, said: str
) -> None:
    """The line is named, with the reason that the meter would give."""
    with pytest.raises(BadInput, match="nothing was written"):
        judged(tmp_path, text, known(card(1, PAST)), "cards")
    told = capsys.readouterr().err
    assert f"file.yaml:{line}: " in told
    assert said in told


def test_only_news_is_published(tmp_path: Path) -> None:
    """What the catalog says already is left out; a later card that has its notice is not."""
    catalog = known(card(1, PAST))
    text = f"""cards:
  - {{name: default, version: 1, effective_from: {PAST}, prices: []}}
  - {{name: default, version: 2, effective_from: {LATER}, prices: []}}
"""
    assert judged(tmp_path, text, catalog) == ["rate-card/default/2"]


def test_what_was_refused_is_not_known() -> None:
    """A card that the meter refused does not stand in the way of one that it would take."""
    catalog = known(card(1, PAST), card(2, PAST))
    assert list(catalog.by_key) == ["rate-card/default/1"]
    (event,) = catalog.of(RateCardPublished)
    assert event.data.version == 1
    assert catalog.of(TeamRegistered) == []


def test_teams_are_checked_where_any_is_registered() -> None:
    """Without registered teams every team may be governed; with them the nearest is named."""
    check_teams(["acme"], set())
    check_teams(["acme"], {"acme"})
    with pytest.raises(BadInput, match=r"no team 'acmee' is registered \(is 'acme' meant\?\)"):
        check_teams(["acme", "acmee"], {"acme", "globex"})
