"""Where downloaded things are kept, once for all stacks of a user."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from meterstream.local.errors import LocalStackError

_BUILD_SUFFIX = ".part"


def cache_dir() -> Path:
    """Return METERSTREAM_CACHE, else $XDG_CACHE_HOME/meterstream, else ~/.cache/meterstream."""
    if own := os.environ.get("METERSTREAM_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "meterstream"


def cached_directory(name: str, build: Callable[[Path], None]) -> Path:
    """Return the cache's directory `name`; if it is not there, let `build` fill it.

    `build` gets an empty directory beside the final one, which gets its name in
    one step when `build` has returned: a directory that exists is complete.
    Two processes that need it at once build it once; the second one waits.
    Raises LocalStackError when the cache cannot be written.
    """
    root = cache_dir()
    final = root / name
    if final.is_dir():
        return final
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{name}.lock"):
            if not final.is_dir():
                _build(root, final, build)
    except (PermissionError, OSError) as error:
        raise LocalStackError(
            f"cannot write the cache directory {root}: {error.strerror or error}; "
            "set METERSTREAM_CACHE to a directory that you may write to"
        ) from error
    return final


def _build(root: Path, final: Path, build: Callable[[Path], None]) -> None:
    # Under the lock: what carries this suffix was left by a build that died.
    for left in root.glob(f"{final.name}.*{_BUILD_SUFFIX}"):
        shutil.rmtree(left, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=f"{final.name}.", suffix=_BUILD_SUFFIX, dir=root))
    try:
        build(building)
        building.chmod(0o755)
        building.rename(final)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that the kernel releases when the process dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
