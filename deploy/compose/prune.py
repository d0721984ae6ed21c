"""Removes from an environment what a distribution does not need.

`python prune.py --keep DIST [--drop DIST ...] [--list]`: DIST and all that it
requires, at any depth, stay; so does nothing else. What `--drop` names goes
with all that only it requires. `--list` prints what would go.
"""

import argparse
import subprocess
import sys
from collections.abc import Collection
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(roots: Collection[str], dropped: Collection[str]) -> set[str]:
    """Return the canonical names of the roots and of all that they require here."""
    left = {canonicalize_name(name) for name in dropped}
    found: set[str] = set()
    todo: list[Requirement] = [Requirement(name) for name in roots]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name in left or (name in found and not wanted.extras):
            continue
        found.add(name)
        extras = wanted.extras or {""}
        for text in metadata.requires(name) or []:
            required = Requirement(text)
            if required.marker is None or any(
                required.marker.evaluate({"extra": extra}) for extra in extras
            ):
                todo.append(required)
    return found


def main() -> int:
    """Uninstall, or list, what is not needed."""
    parser = argparse.ArgumentParser(description="Remove what a distribution does not need.")
    parser.add_argument("--keep", action="append", required=True)
    parser.add_argument("--drop", action="append", default=[])
    parser.add_argument("--list", action="store_true", dest="only_list")
    options = parser.parse_args()
    keep = needed(options.keep, options.drop)
    installed = {canonicalize_name(found.name) for found in metadata.distributions()}
    # pip goes last, since it does the work.
    surplus = sorted(installed - keep - {"pip"})
    if options.only_list:
        sys.stdout.write("\n".join(surplus) + "\n")
        return 0
    uninstall = [sys.executable, "-m", "pip", "uninstall", "--yes", "--quiet"]
    return subprocess.run([*uninstall, *surplus, "pip"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
