"""Mutation testing of the meter's core: how many small changes to its code the tests notice.

    python -m tests.support.mutants                  every mutant
    python -m tests.support.mutants --sample 300     that many, chosen by --seed
    python -m tests.support.mutants --only judge     those of one module
    python -m tests.support.mutants --least 85       exit 1 below that percentage

The tests run once on the code as it is, to learn which of them runs which line. A mutant faces
only the tests that run the changed statement, the unit tests first and the quickest of them first;
it is killed if one fails or hangs, and survives at once if there is none. The same code and the
same tests give the same result: property tests are derandomized, and do a tenth of their work.
"""

import argparse
import importlib
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from .mutant_reach import Reach, measure
from .mutant_trials import Fate, Result, Trial, try_by_import, try_in_place
from .mutators import Mutant, mutants_of

ROOT: Final = Path(__file__).parents[2]
CORE: Final = ROOT / "streams/src/meterstream/streams/core"
PACKAGE: Final = "meterstream.streams.core"
TESTS: Final = ("tests/unit/streams/core", "tests/property/core")
PRELOADED: Final = (
    "hypothesis.strategies",
    "pyarrow.ipc",
    "tests.support.model",
    "tests.support.stack",
    "tests.support.strategies",
)
"""What the tests import and the core is no part of."""
EXAMPLES: Final = 10
"""Of a hundred, the share of its work that a property test does (see `budget`)."""
PROGRESS_S: Final = 10

Candidate = tuple[Path, Mutant]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.mutants")
    parser.add_argument("--sample", type=int, help="how many mutants; all of them if absent")
    parser.add_argument("--seed", type=int, default=1, help="which mutants a sample holds")
    parser.add_argument("--only", default="", help="one module, such as judge")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--least", type=float, default=0, help="exit 1 if fewer percent die")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    _work_less()
    for module in PRELOADED:
        importlib.import_module(module)
    chosen = list(candidates(options.only))
    if options.sample is not None and options.sample < len(chosen):
        chosen = random.Random(options.seed).sample(chosen, options.sample)
    sys.stderr.write("Running the tests once on the code as it is ...\n")
    reach = measure(TESTS, sorted(CORE.glob("*.py")))
    if reach is None:
        sys.stderr.write("The tests fail on the code as it is; see `make test-fast`.\n")
        return 1
    tally = Tally(len(chosen))
    try:
        run(chosen, reach, options.jobs, tally)
    finally:  # an interrupted run tells what it has found
        sys.stdout.write(tally.summary())
    return int(tally.percent < options.least)


def candidates(only: str = "") -> Iterator[Candidate]:
    """Yield all mutants of the core, or of the module named `only`."""
    for file in sorted(CORE.glob("*.py")):
        if file.stem != "__init__" and only in ("", file.stem):
            for mutant in mutants_of(file.read_text(encoding="utf-8")):
                yield file, mutant


def run(chosen: Sequence[Candidate], reach: Reach, jobs: int, tally: "Tally") -> None:
    """Find out what becomes of each mutant.

    First, either way, the code as it is has to pass: else the mutants' deaths would say nothing.
    """
    unchanged = Trial("", CORE, None, list(reach.seconds))
    by_import, in_place = [unchanged], [unchanged]
    for file, mutant in chosen:
        trial = Trial(f"{PACKAGE}.{file.stem}", file, mutant, reach.tests_of(file, mutant))
        if not trial.tests:
            tally.add((trial, Fate.UNREACHED))
        elif reach.is_at_import(file, mutant):
            by_import.append(trial)
        else:
            in_place.append(trial)
    for result in try_by_import(by_import, reach, jobs):
        tally.add(result)
    try_in_place(in_place, reach, jobs, TESTS, tally.add)


class Tally:
    """Counts what became of the mutants, and says so on standard error while it goes on."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._results: list[tuple[str, Mutant, Fate]] = []
        self._started_s = self._told_s = time.monotonic()

    @property
    def killed(self) -> int:
        """How many mutants the tests have noticed."""
        return sum(_is_dead(fate) for _, _, fate in self._results)

    @property
    def percent(self) -> float:
        """The share of the mutants that have been tried which the tests noticed."""
        return 100 * self.killed / max(1, len(self._results))

    def add(self, result: Result) -> None:
        """Take note of one mutant's fate."""
        trial, fate = result
        if trial.mutant is None:
            if fate is not Fate.SURVIVED:
                raise RuntimeError("The tests fail on the code as it is when they run in this way")
            return
        self._results.append((trial.file.name, trial.mutant, fate))
        if not _is_dead(fate):
            sys.stderr.write(_survivor(trial.file.name, trial.mutant, fate) + "\n")
        now_s = time.monotonic()
        if now_s - self._told_s >= PROGRESS_S:
            self._told_s = now_s
            done = len(self._results)
            left_s = (now_s - self._started_s) / done * (self._total - done)
            sys.stderr.write(
                f"{done} of {self._total}, {self.killed} killed, about {left_s / 60:.0f} min left\n"
            )

    def summary(self) -> str:
        """Return the survivors, the count by module and in all, as text."""
        lines = [
            _survivor(*result)
            for result in sorted(self._results, key=lambda result: (result[0], result[1].line))
            if not _is_dead(result[2])
        ]
        everywhere = Counter(name for name, _, _ in self._results)
        dead = Counter(name for name, _, fate in self._results if _is_dead(fate))
        hung = sum(fate is Fate.HUNG for _, _, fate in self._results)
        lines += [
            f"{name:<16} {dead[name]:>5} of {count:>5} {100 * dead[name] / count:6.1f} %"
            for name, count in sorted(everywhere.items())
        ]
        minutes = (time.monotonic() - self._started_s) / 60
        lines.append(
            f"{self.killed} of {len(self._results)} mutants killed ({hung} of them hung): "
            f"{self.percent:.1f} % in {minutes:.1f} min"
        )
        return "\n".join(lines) + "\n"


def _survivor(name: str, mutant: Mutant, fate: Fate) -> str:
    return f"{fate.value:<18} {name}:{mutant.line}: {mutant.what}"


def _is_dead(fate: Fate) -> bool:
    return fate in (Fate.KILLED, Fate.HUNG)


def _work_less() -> None:
    """Look for a counterexample in fewer places and, having found one, do not make it smaller."""
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutants",
        max_examples=EXAMPLES,
        phases=[Phase.explicit, Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
    )
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"


if __name__ == "__main__":
    sys.exit(main())
