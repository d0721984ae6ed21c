"""A file of limits is taken whole or not at all, and every fault in it is told with its line."""

from pathlib import Path

import pytest

from meterstream.cli.errors import BadInput
from meterstream.cli.limits.file import read_limits_file

EXAMPLE = Path(__file__).parents[4] / "docs/examples/limits.yaml"

BAD = """prune: yes
limit: 3
limits:
  - team: acme
    user: ada
    agent: x
    measure: credits
    window: month
    amount: 1,000
  - team: acme
    measure: credit
    window: month
    amount: 1e3
    amount: 2
  - 7
  - {team: a, measure: tokens, window: balance, amount: -5}
  - {team: a, measure: tokens, window: day, amount: 5, alert: [100, 50]}
  - {team: a, organisation: b, measure: tokens, window: day, amount: 5, alert: 50}
  - {team: b, measure: tokens, window: day, amount: 5}
  - {team: b, measure: tokens, window: day, amount: 5}
  - {team: c, measure: credits, window: day, amount: 9000000000}
  - {measure: tokens, window: day, enforcement: harsh, amount: 0.5}
  - {team: c, id: credits, measure: credits, window: day, amount: 9}
"""


def test_the_example_is_right() -> None:
    """The example of the docs can be applied: its amounts are exact and its ids readable."""
    file = read_limits_file(EXAMPLE)
    assert file.prune
    assert [each.limit_id for each in file.limits] == [
        "team-credits-month", "user-ada-tokens-day", "low-balance", "project-search-runs-day",
        "organisation-credits-month",
    ]  # fmt: skip
    amounts = [1_000_000_000, 200_000, 500_000_000, 5000, 5_000_000_000]
    assert [each.amount for each in file.limits] == amounts
    assert file.limits[0].alert_levels_permille == (500, 800, 1000)
    assert file.limits[0].enforcement == "hard"
    assert file.owners() == {("acme", ""), ("globex", ""), ("", "acme-group")}


def test_all_faults_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line with a fault is named, and no limit of the file is given back."""
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    with pytest.raises(BadInput, match="nothing was written"):
        read_limits_file(file)
    told = [line.removeprefix(f"{file}:") for line in capsys.readouterr().err.splitlines()]
    for expected in (
        "1: prune: true or false",
        "2: limit: unknown",
        "4: user and agent: a limit is for one of them",
        "9: amount: credits are a number",
        "11: measure: one of credits, tokens",
        "14: amount: is there twice",
        "15: a limit is a mapping",
        "16: a balance is a team's",
        "16: amount: a whole number",
        "17: alert_levels_permille do not ascend",
        "18: alert: a list of percentages",
        "18: exactly one of team and organisation",
        "20: b team-tokens-day: is there already, in line 19",
        "21: amount: 1000000000000000 or less",
        "22: amount: a whole number",
        "22: enforcement: one of hard, soft",
        "22: exactly one of team and organisation",
        "23: limit_id: credits stands for the balance",
    ):
        assert any(line.startswith(expected) for line in told), (expected, told)
    assert len(told) == 18
