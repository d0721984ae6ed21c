"""The runbook names only what there is, and everything that alarms."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from meterstream.cli.main import COMMANDS, SERVICES, cli
from meterstream.cli.settings_reference import SERVICES as SETTINGS
from meterstream.schemas.metrics import METRICS
from meterstream.schemas.topics import DEFAULT_PREFIX, TOPICS
from meterstream.schemas.variables import variables_of
from meterstream.schemas.verdicts import DEAD_LETTERED, reason_name
from meterstream.streams import app as meter
from meterstream.streams import publisher
from meterstream.streams.settings import PREFIX

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
VARIES = "…"


def _texts() -> Iterator[str]:
    """Yield every text in the sources, with what is filled in as VARIES."""
    for part in ("schemas", "streams", "sinks", "notifier", "cli"):
        for file in (ROOT / part / "src").rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(
                        str(each.value) if isinstance(each, ast.Constant) else VARIES
                        for each in node.values
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield re.sub(r"%(\.\d)?[sdrf]", VARIES, node.value)


TEXTS = tuple(_texts())


def test_metrics_exist_and_all_alarms_are_there() -> None:
    """Every metric that is named is in the catalogue, and each one that alarms is named."""
    named = set(re.findall(r"\bmeterstream_[a-z_]+", PAGE))
    assert named <= {metric.full_name for metric in METRICS}
    assert {metric.full_name for metric in METRICS if "larm" in metric.meaning} <= named


def test_settings_exist() -> None:
    """Every variable that is named sets something up."""
    known = {each.name for kind in SETTINGS.values() for each in variables_of(kind, PREFIX)}
    assert set(re.findall(r"\bMETERSTREAM_[A-Z_]*[A-Z]", PAGE)) <= known


@pytest.mark.parametrize(
    "line", sorted(set(re.findall(r"(?:^|`)meterstream ([a-z][^`#\n]*\b)", PAGE, re.MULTILINE)))
)
def test_commands_and_options_exist(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that is named is one, and has the options it is named with."""
    name, *words = line.split()
    assert name in COMMANDS
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    if name in ("meter", "publisher"):
        with pytest.raises(SystemExit):
            (meter if name == "meter" else publisher).main(["--help"])
        assert options <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        return
    if name in SERVICES:
        assert not options
        return
    context = click.Context(cli)
    command = cli.get_command(context, name)
    if isinstance(command, click.Group) and words:
        command = command.get_command(context, words[0])
    assert command is not None, f"there is no {line}"
    assert options <= {option for each in command.params for option in each.opts}


@pytest.mark.parametrize("line", re.findall(r"^```text\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))
def test_log_lines_are_those_of_the_code(line: str) -> None:
    """What a log line is quoted with, apart from what varies, is a text of the code."""
    for one in line.strip().splitlines():
        # A line may be made of several texts, one within the other.
        for piece in filter(None, (each.strip() for each in re.split(f"{VARIES}|[:;] ", one))):
            assert any(piece in text for text in TEXTS), piece


@pytest.mark.parametrize(
    "said", re.findall(r"`([^`]+)`", PAGE.partition("| the reason says |")[2].partition("\n\n")[0])
)
def test_reasons_of_a_stopped_feed_are_those_of_the_code(said: str) -> None:
    """What a reason is recognised by is a text of the code, or a setting of Kafka's own."""
    theirs = ("Group authorization failed", "Topic authorization failed")
    assert said in theirs or any(said in text for text in TEXTS)


def test_every_reason_of_a_dead_letter_is_told() -> None:
    """The table of dead letters has each reason."""
    _, _, table = PAGE.partition("| reason | it means | do |")
    told = set(re.findall(r"`([a-z_0-9]+)`", table.partition("\n\n")[0]))
    assert {reason_name(verdict) for verdict in DEAD_LETTERED} <= told


def test_rights_are_for_topics_that_exist() -> None:
    """Each topic that somebody has a right to is one of the contract's."""
    rows = re.findall(r"^\| \w+ \| topic \| `([^`]+)` \| literal \|", PAGE, re.MULTILINE)
    assert rows
    assert set(rows) <= {DEFAULT_PREFIX + topic.name for topic in TOPICS}


def test_links_lead_somewhere() -> None:
    """Each link to a heading or a file finds it."""
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, anchor = target.partition("#")
        if file:
            assert (ROOT / "docs" / file).resolve().is_file(), target
        else:
            assert anchor in anchors, target
