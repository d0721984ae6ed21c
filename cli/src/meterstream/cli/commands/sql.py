"""`meterstream sql`: a query in ClickHouse's SQL."""

from pathlib import Path

import click

from meterstream.cli.errors import BadInput
from meterstream.cli.options import data_option, json_option
from meterstream.cli.output import print_json, print_table
from meterstream.cli.server import open_clickhouse


@click.command()
@click.argument("query")
@click.option(
    "--format",
    "form",
    metavar="NAME",
    help="Print as one of ClickHouse's formats, such as CSVWithNames or Vertical.",
)
@click.option("--write", is_flag=True, help="As the user who may change tables (default: read).")
@data_option
@json_option
def sql(query: str, form: str | None, write: bool, data: Path | None, as_json: bool) -> None:
    """Run a query on the running stack, or on the data of one that has ended.

    \b
    Examples:
      meterstream sql "SELECT count() FROM charges"
      meterstream sql "SELECT * FROM usage_by_team(window='1h', zone='UTC', since='', until='')"
      meterstream sql "SELECT name, comment FROM system.tables WHERE database='meterstream'"
      meterstream sql "SELECT * FROM charges LIMIT 10" --format CSVWithNames > charges.csv
    """
    if not query.strip():
        raise BadInput("the query is empty: `meterstream sql -h` shows some")
    with open_clickhouse(data, write=write) as client:
        if form is not None:
            with client.raw_stream(query, fmt=form) as stream:
                for part in iter(lambda: stream.read(1 << 20), b""):
                    click.echo(part, nl=False)
            return
        answer = client.query(query)
    columns = list(answer.column_names)
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in answer.result_rows])
    else:
        print_table(columns, answer.result_rows, left=0)
