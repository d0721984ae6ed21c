"""`meterstream cards`: what usage costs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click

from meterstream.cli.commands.catalog import publish_file
from meterstream.cli.connection import connect
from meterstream.cli.entries.waiting import wait_option
from meterstream.cli.errors import BadInput
from meterstream.cli.options import Moment, data_option, json_option
from meterstream.cli.output import note, print_json, print_table
from meterstream.schemas.times import format_rfc3339

SOON: Final = timedelta(minutes=6)
"""A minute more than a card's notice: it also covers the writing."""


@click.group()
def cards() -> None:
    """Publish and show rate cards. A version that was published never changes.

    A card takes effect five minutes after it was published or later, so that every partition knows
    it in time; the first of its name may take effect at once. Runs are priced by the card in effect
    at their event time.
    """


@cards.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--effective-from", type=Moment(), help="In place of the file's (RFC 3339).")
@click.option("--soon", is_flag=True, help="Take effect in six minutes.")
@click.option("--dry-run", is_flag=True, help="Write nothing, only check it.")
@wait_option
@data_option
@json_option
def publish(
    file: Path,
    effective_from: datetime | None,
    soon: bool,
    dry_run: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Publish a card, or a list of them, from a YAML file.

    Fields are those of rate-card.published in docs/events.md. Prices are whole millionths of a
    credit: for a run, a thousand tokens, a million bytes.

    \b
    Examples:
      meterstream cards publish docs/examples/card.yaml --dry-run
      meterstream cards publish card.yaml --effective-from 2026-07-01T00:00:00Z
      meterstream cards publish card.yaml --soon
    """
    if soon and effective_from:
        raise BadInput("--soon and --effective-from: only one of them")
    moment = datetime.now(UTC).replace(microsecond=0) + SOON if soon else effective_from
    extra = {"effective_from": format_rfc3339(moment)} if moment else {}
    publish_file(file, "cards", extra, dry_run=dry_run, wait=wait, data=data, as_json=as_json)


@cards.command()
@click.option("--version", type=click.IntRange(1, 1_000_000), default=1, show_default=True)
@click.option("--sources", is_flag=True, help="The pages that the prices are from, instead.")
def starter(version: int, sources: bool) -> None:
    """Print a card with the list prices of common models, which `cards publish` takes.

    A credit is a US cent; the provider's cost stands beside it in dollars. Prices change: look at
    the pages of --sources, and at the day on which they were read, before you charge by them.

    \b
    Examples:
      meterstream cards starter > card.yaml
      meterstream cards starter --sources
    """
    from meterstream.schemas.starter_card import starter_card, starter_prices

    if sources:
        print_json({name: starter_prices()[name] for name in ("date", "about", "sources")})
        return
    card = starter_card(version, datetime.now(UTC).replace(microsecond=0))
    print_json(card.model_dump(mode="json", exclude_defaults=True))


@cards.command("list")
@data_option
@json_option
def list_cards(data: Path | None, as_json: bool) -> None:
    """List all versions of all cards, and which one prices runs now.

    \b
    Example:
      meterstream cards list
    """
    from meterstream.cli.entries.known import read_catalog
    from meterstream.schemas.catalog import DEFAULT_CARD, RateCardPublished, catalog_key
    from meterstream.schemas.pricing import card_at

    catalog = read_catalog(connect(data))
    found = catalog.of(RateCardPublished)
    every = [event.data for event in found]
    now = datetime.now(UTC)
    rows = []
    for event in found:
        card = event.data
        current = card_at(every, now, card.name)
        state = "in effect" if current == card else "over" if card.effective_from <= now else "next"
        rows.append(
            {
                "card": card.label,
                "state": state,
                "effective_from": format_rfc3339(card.effective_from),
                "published_at": format_rfc3339(catalog.by_key[catalog_key(event)].written_at),
                "currency": card.currency,
                "prices": len(card.prices),
            }
        )
    rows.sort(key=lambda row: str(row["effective_from"]))
    if as_json:
        print_json({"cards": rows})
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows], left=5)
    if not any(card.name == DEFAULT_CARD for card in every):
        note(f"note: no card {DEFAULT_CARD!r}, which prices runs: they are unpriced until one is")


@cards.command()
@click.argument("card", metavar="NAME@VERSION")
@data_option
def show(card: str, data: Path | None) -> None:
    """Print a card as JSON, which `cards publish` takes as well.

    \b
    Example:
      meterstream cards show default@3
    """
    from meterstream.cli.entries.known import read_catalog
    from meterstream.schemas.catalog import RateCardPublished

    for event in read_catalog(connect(data)).of(RateCardPublished):
        if event.data.label == card:
            print_json(event.data.model_dump(mode="json", exclude_defaults=True))
            return
    raise BadInput(f"there is no card {card}: `meterstream cards list` names them")
