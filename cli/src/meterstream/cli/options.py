"""Kinds of option values that several commands take."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import click

from meterstream.cli.traffic.population import Sizes
from meterstream.schemas.times import parse_rfc3339

MILLION: Final = 1_000_000
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Share(click.ParamType):
    """A share such as `2%` or `0.02`, as whole parts in a million."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the parts in a million."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        try:
            part = Decimal(text[:-1]) / 100 if text.endswith("%") else Decimal(text)
        except InvalidOperation:
            self.fail(f"{value!r} is no share: give one as 2% or 0.02", param, ctx)
        if not part.is_finite() or not 0 <= part <= 1:
            self.fail(f"{value!r} does not lie between 0 and 1 (100%)", param, ctx)
        return int(part * MILLION)


class Duration(click.ParamType):
    """A length of time such as `90s`, `5m`, `24h` or `7d`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the length of time."""
        if isinstance(value, timedelta):
            return value
        text = str(value).strip()
        number, unit = text[:-1], text[-1:]
        if not (number.isascii() and number.isdigit()) or unit not in _UNITS:
            self.fail(f"{value!r} is no duration: give one as 90s, 5m, 24h or 7d", param, ctx)
        if int(number) == 0 or int(number) > 100_000:
            self.fail(f"{value!r} is too short or too long", param, ctx)
        return timedelta(seconds=int(number) * _UNITS[unit])


class Moment(click.ParamType):
    """A moment, RFC 3339 with an offset: `2026-01-31T12:00:00Z`."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the moment in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_rfc3339(str(value).strip())
        except (ValueError, OverflowError) as error:
            self.fail(f"{value!r}: {error}", param, ctx)


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --data, the directory of the stack to work with."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        help="Directory of the stack (default: METERSTREAM_DATA, else ./.meterstream).",
    )(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json: one JSON document on stdout instead of tables."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)


def traffic_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what `generate` and `replay` share: who runs, and what is sent besides the runs."""
    default = Sizes()
    for option in reversed(
        (
            click.option(
                "--teams", type=click.IntRange(1, 1_000), default=default.teams, show_default=True
            ),
            click.option(
                "--users",
                type=click.IntRange(1, 1_000_000),
                default=default.users,
                show_default=True,
                help="In all; each belongs to one team.",
            ),
            click.option(
                "--agents",
                type=click.IntRange(1, 100_000),
                default=default.agents,
                show_default=True,
                help="In all; each belongs to one team and works with one model.",
            ),
            click.option(
                "--models", type=click.IntRange(1, 100), default=default.models, show_default=True
            ),
            click.option(
                "--duplicates",
                type=Share(),
                default="0",
                help="Share of runs that are sent twice, as 2% or 0.02.",
            ),
            click.option(
                "--invalid",
                type=Share(),
                default="0",
                help="Broken events sent besides, as a share of the runs.",
            ),
            click.option(
                "--end-at", type=Moment(), help="End the times here instead of now (RFC 3339)."
            ),
        )
    ):
        command = option(command)
    return command
