"""What is downloaded once for all stacks of a user."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from meterstream.local.cache import cache_dir, cached_directory
from meterstream.local.errors import LocalStackError


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/own", "/xdg", "/own"),
        (None, "/xdg", "/xdg/meterstream"),
        (None, None, "/home/someone/.cache/meterstream"),
    ],
)
def test_the_cache_is_where_the_environment_says(
    own: str | None, xdg: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own variable goes before the desktop's, and that before the home directory."""
    monkeypatch.setenv("HOME", "/home/someone")
    for name, value in (("METERSTREAM_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected)


def _build_slowly(cache: str, builds: str) -> None:
    os.environ["METERSTREAM_CACHE"] = cache

    def build(into: Path) -> None:
        Path(builds, str(os.getpid())).touch()
        (into / "first").touch()
        # Long enough for the others to arrive while the directory is half full.
        deadline_s = time.monotonic() + 0.3
        while time.monotonic() < deadline_s:
            assert not (Path(cache) / "thing").exists()
        (into / "second").touch()

    found = cached_directory("thing", build)
    assert (found / "second").exists()


def test_processes_that_need_the_same_thing_build_it_once(tmp_path: Path) -> None:
    """The second one waits and finds it complete."""
    builds = tmp_path / "builds"
    builds.mkdir()
    context = multiprocessing.get_context("spawn")
    arguments = (str(tmp_path / "cache"), str(builds))
    processes = [context.Process(target=_build_slowly, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(builds.iterdir())) == 1


def test_what_a_dead_build_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that died costs no disk space for ever, and is never taken for a whole one."""
    monkeypatch.setenv("METERSTREAM_CACHE", str(tmp_path))
    (tmp_path / "thing.abc.part").mkdir()
    cached_directory("thing", lambda into: (into / "file").touch())
    assert {path.name for path in tmp_path.iterdir()} == {"thing", "thing.lock"}


def test_a_cache_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the directory and the variable that moves it."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("METERSTREAM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(LocalStackError, match="METERSTREAM_CACHE") as caught:
        cached_directory("thing", lambda _into: None)
    assert "\n" not in str(caught.value)
