"""Writes docs/settings.md from the settings of the services, or checks that it is up to date.

python -m meterstream.cli.settings_reference            writes docs/settings.md
python -m meterstream.cli.settings_reference --check    exit 1 if it differs
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic_settings import BaseSettings

from meterstream.notifier.settings import NotifierSettings
from meterstream.schemas.variables import markdown_table, variables_of
from meterstream.sinks.settings import SinkSettings
from meterstream.streams.settings import PREFIX, MeterSettings, PublisherSettings

PART: Final = Path(__file__).parents[3]
"""The directory `cli/` of a checkout."""

SERVICES: Final[dict[str, type[BaseSettings]]] = {
    "meter": MeterSettings,
    "publisher": PublisherSettings,
    "sink": SinkSettings,
    "notifier": NotifierSettings,
}

_INTRODUCTION: Final = """\
# Settings

Each service is set up by environment variables and nothing else; `meterstream meter --help` and
its like for the other services list the same. All of them are checked at start: a service that
cannot use one says so, names every fault at once, and exits with 2. Values are never part of such
a message. What is not set has its default.

The SDK's settings are in [producers.md](producers.md). The commands read `METERSTREAM_DATA` (the
directory of a stack), `METERSTREAM_CACHE` (where the embedded stack keeps what it downloads), the
`METERSTREAM_KAFKA_*` variables, `METERSTREAM_TOPIC_PREFIX`, and `METERSTREAM_CLICKHOUSE_URL`,
`METERSTREAM_CLICKHOUSE_USER`, `METERSTREAM_CLICKHOUSE_PASSWORD` and
`METERSTREAM_CLICKHOUSE_DATABASE`, with the meanings below. The meter reads those of ClickHouse too:
it asks the ledger there before the first generation of a partition, and for `--new-generation`."""


def markdown() -> str:
    """Return `docs/settings.md`."""
    lines = [_INTRODUCTION]
    for service, kind in SERVICES.items():
        lines += ["", f"## {service}", "", *markdown_table(variables_of(kind, PREFIX))]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m meterstream.cli.settings_reference")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    parser.add_argument("--root", type=Path, default=PART.parent, help="the checkout")
    options = parser.parse_args(arguments)
    file: Path = options.root / "docs/settings.md"
    if not options.check:
        file.write_text(markdown(), encoding="utf-8")
    elif not file.is_file() or file.read_text(encoding="utf-8") != markdown():
        sys.stderr.write(
            "docs/settings.md is out of date; run python -m meterstream.cli.settings_reference\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
