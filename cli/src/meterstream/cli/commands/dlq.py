"""`meterstream dlq`: what was refused, why, and once more."""

import heapq
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from meterstream.cli.connection import connect
from meterstream.cli.errors import BadInput
from meterstream.cli.options import data_option, json_option
from meterstream.cli.output import note, print_json, print_table
from meterstream.schemas import deadletters as headers
from meterstream.schemas.times import format_rfc3339
from meterstream.schemas.verdicts import DEAD_LETTERED, Verdict, reason_name

REPLAYABLE = (reason_name(Verdict.WRONG_PARTITION), reason_name(Verdict.INTERNAL))
"""The reasons that do not lie in the event itself: sent again as it is, it can be counted."""
REASONS = tuple(sorted(reason_name(verdict) for verdict in DEAD_LETTERED))
SHOWN_BYTES_MAX = 4_000


@click.group()
def dlq() -> None:
    """List, show and replay dead letters: events that were refused.

    Each one holds the bytes as they came, where they stood, and one precise reason.
    """


@dlq.command("list")
@click.option("--reason", type=click.Choice(REASONS), help="Only these.")
@click.option("--last", type=click.IntRange(1, 100_000), default=20, show_default=True)
@click.option("--summary", is_flag=True, help="Only how many there are by reason.")
@data_option
@json_option
def list_letters(
    reason: str | None, last: int, summary: bool, data: Path | None, as_json: bool
) -> None:
    """List the last dead letters, and how many there are by reason.

    \b
    Examples:
      meterstream dlq list
      meterstream dlq list --summary
      meterstream dlq list --reason conflict --last 100 --json
    """
    from meterstream.cli.dlq.letters import Letter, read_letters

    counts: Counter[str] = Counter()

    def wanted() -> Iterator[Letter]:
        for letter in read_letters(connect(data)):
            if reason is None or letter.reason == reason:
                counts[letter.reason] += 1
                yield letter

    newest = heapq.nlargest(last, wanted(), key=lambda each: (each.written_at, each.offset))
    by_time = [] if summary else newest[::-1]
    if as_json:
        shown = [
            {
                "letter": letter.place,
                "written_at": format_rfc3339(letter.written_at),
                **letter.headers,
            }
            for letter in by_time
        ]
        print_json({"counts": dict(counts.most_common()), "letters": shown})
        return
    if not counts:
        note(f"note: no dead letters{f' with reason {reason}' if reason else ''}")
        return
    if by_time:
        print_table(
            ["letter", "written at", "reason", "came from", "team", "detail"],
            [
                [
                    letter.place,
                    format_rfc3339(letter.written_at),
                    letter.reason,
                    letter.came_from,
                    letter.headers.get(headers.TEAM_ID, ""),
                    letter.headers.get(headers.DETAIL, ""),
                ]
                for letter in by_time
            ],
            left=6,
        )
        click.echo()
    print_table(["reason", "letters"], [*counts.most_common(), ("all", counts.total())])
    if worth_it := sum(counts[each] for each in REPLAYABLE):
        note(
            f"note: {worth_it:,} of them are sound: `meterstream dlq replay` sends them again. "
            "Letters stay here when they were replayed; an event counts once all the same"
        )
    if by_time:
        note(f"note: `meterstream dlq show {by_time[-1].place}` shows the last one whole")


@dlq.command()
@click.argument("letter", metavar="PARTITION:OFFSET")
@click.option("--raw", is_flag=True, help="Write the refused bytes alone, unchanged.")
@data_option
@json_option
def show(letter: str, raw: bool, data: Path | None, as_json: bool) -> None:
    """Show one dead letter: every header, and the refused bytes.

    \b
    Examples:
      meterstream dlq show 2:17
      meterstream dlq show 2:17 --raw > event.json
    """
    from meterstream.cli.dlq.letters import read_letters

    partition, _, offset = letter.partition(":")
    if not (partition.isdigit() and offset.isdigit()):
        raise BadInput(f"{letter!r} is no letter: name one as `dlq list` does, such as 2:17")
    letters = read_letters(connect(data), partition=int(partition), from_offset=int(offset))
    found = next(letters, None)
    letters.close()
    if found is None or found.place != letter:
        raise BadInput(f"there is no dead letter {letter}: `meterstream dlq list` names them")
    if raw:
        sys.stdout.buffer.write(found.value)
        return
    key = (found.key or b"").decode("utf-8", "backslashreplace")
    if as_json:
        value = found.value.decode("utf-8", "backslashreplace")
        print_json({"letter": found.place, "key": key, "headers": found.headers, "value": value})
        return
    rows = [("letter", found.place), ("written_at", format_rfc3339(found.written_at))]
    rows += [*found.headers.items(), ("key", key), ("bytes", str(len(found.value)))]
    for name, text in rows:
        click.echo(f"{name + ':':16} {text}")
    click.echo(found.value[:SHOWN_BYTES_MAX].decode("utf-8", "backslashreplace"))
    if len(found.value) > SHOWN_BYTES_MAX:
        note(f"note: the first {SHOWN_BYTES_MAX:,} bytes; --raw writes all of them")


@dlq.command()
@click.option(
    "--reason",
    "reasons",
    type=click.Choice(REASONS),
    multiple=True,
    help="Replay these (default: wrong_partition and internal, which do not lie in the event).",
)
@click.option("--dry-run", is_flag=True, help="Send nothing, only count.")
@data_option
@json_option
def replay(reasons: tuple[str, ...], dry_run: bool, data: Path | None, as_json: bool) -> None:
    """Send refused events once more, keyed by their team, so each finds its partition.

    Harmless to repeat: an event keeps its identity, and counts once however often it is sent.

    \b
    Examples:
      meterstream dlq replay --dry-run
      meterstream dlq replay
      meterstream dlq replay --reason too_late     # after `import.opened` allows them
    """
    from meterstream.cli.dlq.letters import read_letters
    from meterstream.cli.dlq.resend import resend

    connection = connect(data)
    outcome = resend(connection, read_letters(connection), reasons or REPLAYABLE, dry=dry_run)
    if as_json:
        print_json({"sent": dict(outcome.sent), "left": dict(outcome.left), "dry_run": dry_run})
        return
    what = "would be sent" if dry_run else "sent"
    rows = [(what, reason, count) for reason, count in outcome.sent.most_common()]
    rows += [("left", cause, count) for cause, count in outcome.left.most_common()]
    print_table(["", "why", "letters"], rows, left=2)
    if not outcome.sent:
        note("note: nothing to replay")
