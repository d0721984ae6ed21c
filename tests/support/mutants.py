"""Mutation testing of the meter's core: how many small changes to its code the tests notice.

    python -m tests.support.mutants                  every mutant
    python -m tests.support.mutants --sample 300     that many, chosen by --seed
    python -m tests.support.mutants --only judge     those of one module
    python -m tests.support.mutants --least 85       exit 1 below that percentage

A mutant is killed if a test fails or hangs. Each runs in a process forked from one that has
loaded everything but the core and its tests.
"""

import argparse
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import resource
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from .mutators import Mutant, mutants_of

ROOT: Final = Path(__file__).parents[2]
CORE: Final = ROOT / "streams/src/meterstream/streams/core"
PACKAGE: Final = "meterstream.streams.core"
TESTS: Final = (
    "tests/unit/streams/core",
    "tests/property/core/test_core_agrees_with_model.py",
    "tests/property/core",
)
"""The quick ones first: the first test that fails ends a mutant."""
PRELOADED: Final = (
    "hypothesis.strategies",
    "msgspec",
    "numpy",
    "pyarrow",
    "xxhash",
    "meterstream.schemas.registry",
    "meterstream.schemas.sketch",
)
CPU_LIMIT_S: Final = 180
"""Several times what all tests take: a mutant that needs more hangs."""


@dataclass(frozen=True)
class Candidate:
    """A mutant of one module of the core."""

    module: str
    file: Path
    mutant: Mutant

    def __str__(self) -> str:
        return f"{self.file.name}:{self.mutant.line}: {self.mutant.what}"


class _OneModule(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module the code of a mutant; all others load as ever."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._candidate.module:
            return None
        return importlib.util.spec_from_file_location(fullname, self._candidate.file, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        code = compile(self._candidate.mutant.tree, str(self._candidate.file), "exec")
        exec(code, module.__dict__)  # noqa: S102 - this is how a mutant comes to life


def candidates(only: str = "") -> Iterator[Candidate]:
    """Yield all mutants of the core, or of the module named `only`."""
    for file in sorted(CORE.glob("*.py")):
        if file.stem != "__init__" and only in ("", file.stem):
            for mutant in mutants_of(file.read_text(encoding="utf-8")):
                yield Candidate(f"{PACKAGE}.{file.stem}", file, mutant)


Result = tuple[Candidate | None, bool]
"""A mutant, and whether it was killed."""


def results(chosen: Iterable[Candidate | None], jobs: int) -> Iterator[Result]:
    """Run the tests on each mutant (None: the code as it is), and tell whether one of them fails.

    They come as they end, `jobs` at a time.
    """
    running: dict[int, Candidate | None] = {}
    for candidate in chosen:
        if len(running) >= jobs:
            yield _next_ended(running)
        child = os.fork()
        if child == 0:
            _be_mutant(candidate)
        running[child] = candidate
    while running:
        yield _next_ended(running)


def _next_ended(running: dict[int, Candidate | None]) -> Result:
    pid, status = os.wait()
    return running.pop(pid), status != 0


def _be_mutant(candidate: Candidate | None) -> None:
    """Run the tests in this process and leave it."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
        if candidate is not None:
            sys.meta_path.insert(0, _OneModule(candidate))
        options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header"]
        status = 0
        for tests in (_closest_tests(candidate), TESTS):
            if tests and not status:
                status = int(pytest.main([*options, *tests]))
    finally:
        os._exit(min(status, 1))


def _closest_tests(candidate: Candidate | None) -> list[str]:
    """Return the tests that carry the module's name: they most likely notice, and soon."""
    if candidate is None:
        return []
    return [str(file) for file in ROOT.glob(f"{TESTS[0]}/test_{candidate.file.stem}*.py")]


def _quick_hypothesis() -> None:
    """Look for a counterexample and, having found one, do not make it smaller."""
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutants",
        phases=[Phase.explicit, Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
    )
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"


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
    for module in PRELOADED:
        importlib.import_module(module)
    _quick_hypothesis()
    [(_, broken)] = results([None], 1)
    if broken:
        sys.stderr.write("The tests fail on the code as it is; see `make test-fast`.\n")
        return 1
    chosen = list(candidates(options.only))
    if options.sample is not None and options.sample < len(chosen):
        chosen = random.Random(options.seed).sample(chosen, options.sample)
    killed = 0
    for done, (candidate, dead) in enumerate(results(chosen, options.jobs), 1):
        killed += dead
        if not dead:
            sys.stdout.write(f"survived  {candidate}\n")
        if done % 20 == 0:
            sys.stderr.write(f"{done} of {len(chosen)}, {killed} killed\n")
        sys.stdout.flush()
    percent = 100 * killed / max(1, len(chosen))
    sys.stdout.write(f"{killed} of {len(chosen)} mutants killed: {percent:.1f} %\n")
    return int(percent < options.least)


if __name__ == "__main__":
    sys.exit(main())
