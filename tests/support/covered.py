"""How much of the core, the journal and the sinks the tests run, by lines and by branches.

    python -m tests.support.covered --least 95       exit 1 where a part has fewer percent

It reads the data file that `pytest --cov` left; `make coverage` does both.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coverage import Coverage

PARTS: Final = {
    "core": ("streams/src/meterstream/streams/core/",),
    "journal": (
        "streams/src/meterstream/streams/journal/",
        "schemas/src/meterstream/schemas/journal/",
    ),
    "sinks": ("sinks/src/meterstream/sinks/",),
}
"""Each part by the directories of its files."""


@dataclass(frozen=True, slots=True)
class Covered:
    """What of one part was run: covered and all, of lines and of branches."""

    part: str
    lines: tuple[int, int]
    branches: tuple[int, int]

    @property
    def percents(self) -> tuple[float, float]:
        """The percentages of lines and of branches."""
        return _percent(*self.lines), _percent(*self.branches)

    def __str__(self) -> str:
        lines, branches = self.percents
        return (
            f"{self.part:<8} lines {lines:5.1f} % ({self.lines[0]} of {self.lines[1]})"
            f"   branches {branches:5.1f} % ({self.branches[0]} of {self.branches[1]})"
        )


def _percent(covered: int, of: int) -> float:
    return 100 * covered / of if of else 0.0


def add_up(files: Mapping[str, Mapping[str, Any]]) -> Iterator[Covered]:
    """Yield each part's sums over coverage's report by file; a part nobody ran has 0 of 0."""
    for part, places in PARTS.items():
        found = [each["summary"] for path, each in files.items() if path.startswith(places)]

        def total(name: str, found: list[Any] = found) -> int:
            return sum(int(summary[name]) for summary in found)

        yield Covered(
            part,
            (total("covered_lines"), total("num_statements")),
            (total("covered_branches"), total("num_branches")),
        )


def measured() -> dict[str, Any]:
    """Return what coverage's data file says of each file."""
    coverage = Coverage()
    coverage.load()
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "coverage.json"
        coverage.json_report(outfile=str(report))
        files: dict[str, Any] = json.loads(report.read_text())["files"]
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.covered")
    parser.add_argument("--least", type=float, default=0, help="exit 1 below that percentage")
    options = parser.parse_args(arguments)
    too_few = []
    for part in add_up(measured()):
        sys.stdout.write(f"{part}\n")
        if min(part.percents) < options.least:
            too_few.append(part.part)
    if too_few:
        sys.stderr.write(
            f"below {options.least:g} %: {', '.join(too_few)}; `coverage report` tells where\n"
        )
    return 1 if too_few else 0


if __name__ == "__main__":
    sys.exit(main())
