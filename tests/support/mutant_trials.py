"""Mutants that face the tests, each in a forked process of its own.

Code that runs only inside a test is changed in a process that has collected all tests: its
functions get the mutant's code. Code that has run by then, such as constants, is changed before
the core is imported, and its tests are collected anew.
"""

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Final

import pytest

from .mutant_reach import Reach, run_quietly
from .mutators import Mutant

_HANG_FACTOR: Final = 10
_HANG_S: Final = 5
"""A test hangs once it has taken this much CPU time and so many times what it takes otherwise."""
_MEMORY_BYTES: Final = 2 << 30
"""What a mutant may allocate beyond what it starts with."""
_KILLED: Final = 1
_NO_TRIAL: Final = 70


class Fate(Enum):
    """What became of a mutant. One that hangs is noticed as surely as one that fails."""

    SURVIVED = "survived"
    UNREACHED = "no test reaches it"
    KILLED = "killed"
    HUNG = "hung"


@dataclass(frozen=True)
class Trial:
    """A change (None: the code as it is) and the tests it has to pass, the quickest first."""

    module: str
    file: Path
    mutant: Mutant | None
    tests: Sequence[str]

    def code(self) -> CodeType:
        """Return the changed module, compiled."""
        assert self.mutant is not None
        return compile(self.mutant.tree(), str(self.file), "exec")


Result = tuple[Trial, Fate]


def try_by_import(trials: Iterable[Trial], reach: Reach, jobs: int) -> Iterator[Result]:
    """Yield what becomes of mutants that are imported in place of their module.

    This process must not have imported the core.
    """

    def take(trial: Trial) -> None:
        if trial.mutant is not None:
            sys.meta_path.insert(0, _OneModule(trial))
        _limit_cpu_s(_HANG_S + _HANG_FACTOR * reach.collection_s)
        files = dict.fromkeys(test.split("::")[0] for test in trial.tests)
        if run_quietly(list(files), _Chosen(trial.tests), _End(reach)):
            os._exit(_KILLED)

    yield from _in_processes(trials, jobs, take)


def try_in_place(
    trials: Iterable[Trial],
    reach: Reach,
    jobs: int,
    tests: Sequence[str],
    report: Callable[[Result], None],
) -> None:
    """Report what becomes of mutants whose functions are exchanged once all tests are collected.

    Their code must not have run before. This process imports the core.
    """
    loop = _InPlace(trials, jobs, report)
    failed = run_quietly(tests, loop, _End(reach))
    if failed or not loop.ended:
        raise RuntimeError("pytest ended before all mutants had been tried")


class _OneModule(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module the code of a mutant; all others load as ever."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._trial.module:
            return None
        return importlib.util.spec_from_file_location(fullname, self._trial.file, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(self._trial.code(), module.__dict__)  # noqa: S102 - how a mutant comes to life


class _Chosen:
    """Runs, of the tests that pytest collects, those that are told, in their order.

    A test nobody knows, because the mutant changed its name, runs last.
    """

    def __init__(self, tests: Sequence[str]) -> None:
        self._rank = {test: rank for rank, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self._rank.get(item.nodeid, len(self._rank)))


class _End:
    """Ends this process at the first failure, or when a test takes far too long."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            os._exit(_KILLED)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        _limit_cpu_s(_HANG_S + _HANG_FACTOR * self._reach.seconds.get(nodeid, 0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os._exit(_KILLED)


class _InPlace:
    """Forks a process for each mutant in the place where pytest would run the tests."""

    def __init__(
        self, trials: Iterable[Trial], jobs: int, report: Callable[[Result], None]
    ) -> None:
        self._trials = trials
        self._jobs = jobs
        self._report = report
        self.ended = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        functions = [found for found in gc.get_objects() if isinstance(found, FunctionType)]
        gc.freeze()  # the pages of what exists by now stay shared

        def take(trial: Trial) -> None:
            if trial.mutant is not None:
                _exchange(functions, trial)
            chosen = [items[test] for test in trial.tests]
            for item, following in zip_longest(chosen, chosen[1:]):
                session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

        for result in _in_processes(self._trials, self._jobs, take):
            self._report(result)
        self.ended = True
        return True


def _exchange(functions: Iterable[FunctionType], trial: Trial) -> None:
    """Give all functions of a module the code they have in the mutant."""
    fresh = {(code.co_qualname, code.co_firstlineno): code for code in _codes_in(trial.code())}
    exchanged = 0
    for function in functions:
        old = function.__code__
        if old.co_filename == str(trial.file):
            new = fresh.get((old.co_qualname, old.co_firstlineno))
            if new is not None:
                function.__code__ = new
                exchanged += 1
    if not exchanged:
        raise LookupError(f"no function of {trial.file} is loaded")


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes_in(constant)


def _in_processes(
    trials: Iterable[Trial], jobs: int, take: Callable[[Trial], None]
) -> Iterator[Result]:
    """Yield each mutant's fate as it ends, `jobs` at a time."""
    running: dict[int, Trial] = {}
    for trial in trials:
        if len(running) >= jobs:
            yield _next_ended(running)
        child = os.fork()
        if child == 0:
            _live(trial, take)
        running[child] = trial
    while running:
        yield _next_ended(running)


def _next_ended(running: dict[int, Trial]) -> Result:
    pid, status = os.wait()
    trial = running.pop(pid)
    code = os.waitstatus_to_exitcode(status)
    if code == _NO_TRIAL:
        raise RuntimeError(f"{trial.file.name}:{trial.mutant} could not be tried, see above")
    if code == -signal.SIGPROF:
        return trial, Fate.HUNG
    return trial, Fate.KILLED if code else Fate.SURVIVED


def _live(trial: Trial, take: Callable[[Trial], None]) -> None:
    """Be a mutant: take the tests in this process and leave it."""
    errors = os.dup(2)
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        _limit_memory()
        take(trial)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        os.write(errors, traceback.format_exc().encode())
    finally:
        os._exit(_NO_TRIAL)


def _limit_cpu_s(seconds: float) -> None:
    """Have this process killed by SIGPROF when it has used so much more CPU time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    used = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + _MEMORY_BYTES, hard))
