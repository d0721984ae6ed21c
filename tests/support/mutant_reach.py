"""Which lines of the core each test runs, and how long it takes: what a mutant has to face."""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import coverage
import pytest

from .mutators import Mutant

_LAST: Final = "tests/property/"
_OPTIONS: Final = ("-s", "-q", "--assert=plain", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Reach:
    """What the tests run of the core as it is."""

    seconds: dict[str, float]
    """CPU time of each test, by node id, in the order in which mutants face them."""
    lines: dict[str, dict[int, frozenset[str]]]
    """By file and line: the tests that run it."""
    at_import: dict[str, frozenset[int]]
    """By file: the lines that run while tests are collected, so on behalf of all of them."""
    collection_s: float
    """CPU time until all tests are collected."""

    def is_at_import(self, file: Path, mutant: Mutant) -> bool:
        """Tell whether the changed code has run before the first test starts."""
        early = self.at_import.get(str(file), frozenset())
        return mutant.at_import or not early.isdisjoint(mutant.lines)

    def tests_of(self, file: Path, mutant: Mutant) -> list[str]:
        """Return the tests that may notice a mutant, those first that do so soonest.

        What runs at import may matter to any test of the core; those that run its module come
        first.
        """
        lines = self.lines.get(str(file), {})
        if self.is_at_import(file, mutant):
            near = _union(lines.values())
            any_line = _union(
                tests for by_line in self.lines.values() for tests in by_line.values()
            )
            return sorted(
                (test for test in self.seconds if test in any_line),
                key=lambda test: (test.startswith(_LAST), test not in near),
            )
        near = _union(lines.get(line, frozenset()) for line in mutant.lines)
        return [test for test in self.seconds if test in near]


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


class _Recorder:
    """Records, as a plugin of pytest, which test runs which line."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._coverage = coverage.Coverage(
            data_file=None, config_file=False, include=[str(file) for file in files]
        )
        self._seconds: dict[str, float] = {}
        self._files = files
        self._started_s = time.process_time()
        self._collection_s = 0.0
        self._coverage.start()

    def pytest_collection_finish(self) -> None:
        self._collection_s = time.process_time() - self._started_s

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        started_s = time.process_time()
        result = yield
        self._seconds[item.nodeid] = time.process_time() - started_s
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            sys.stderr.write(f"{report.nodeid}\n{report.longreprtext}\n")

    def reach(self) -> Reach:
        self._coverage.stop()
        data = self._coverage.get_data()
        by_file = {str(file): data.contexts_by_lineno(str(file)) for file in self._files}
        return Reach(
            dict(
                sorted(self._seconds.items(), key=lambda item: (item[0].startswith(_LAST), item[1]))
            ),
            {
                file: {line: frozenset(tests) - {""} for line, tests in lines.items()}
                for file, lines in by_file.items()
            },
            {
                file: frozenset(line for line, tests in lines.items() if "" in tests)
                for file, lines in by_file.items()
            },
            self._collection_s,
        )


def measure(tests: Sequence[str], files: Sequence[Path]) -> Reach | None:
    """Run the tests on the code as it is, in a process of its own; None if one fails."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(sender, tests, files))
    child.start()
    sender.close()
    reach: Reach | None = receiver.recv()
    child.join()
    return reach


def _measure(sender: Connection, tests: Sequence[str], files: Sequence[Path]) -> None:
    recorder = _Recorder(files)
    failed = run_quietly(["-x", *tests], recorder)
    sender.send(None if failed else recorder.reach())


def run_quietly(arguments: Sequence[str], *plugins: object) -> int:
    """Run pytest, which prints nothing, with plugins; return its exit code."""
    with Path(os.devnull).open("w", encoding="utf-8") as null, contextlib.redirect_stdout(null):
        return int(pytest.main([*_OPTIONS, *arguments], plugins=list(plugins)))
