"""Writes what is generated from the contract, or checks that it is up to date.

python -m meterstream.schemas.generate            writes schemas/generated, docs/events.md and
                                                  docs/metrics.md
python -m meterstream.schemas.generate --check    exit 1 if any of it differs
python -m meterstream.schemas.generate --baseline takes compatible changes into the baseline
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import metrics
from .generation.asyncapi import asyncapi
from .generation.compatibility import OUTGOING, breaking_changes
from .generation.formats import journal_description, rows_description
from .generation.json_schema import event_schemas
from .generation.reference import reference

PART = Path(__file__).parents[3]
"""The directory `schemas/` of a checkout."""


def generated_files() -> dict[str, str]:
    """Return the text of every generated file by its path, relative to the checkout."""
    documents: dict[str, Any] = {
        **event_schemas(),
        "asyncapi": asyncapi(),
        "rows": rows_description(),
        "journal": journal_description(),
    }
    files = {f"schemas/generated/{name}.json": _text(found) for name, found in documents.items()}
    files["docs/events.md"] = reference()
    files["docs/metrics.md"] = metrics.markdown()
    return files


def stale_files(root: Path) -> list[str]:
    """Return what is missing, differs or should not be there, as paths relative to `root`."""
    wanted = generated_files()
    stale = [path for path, text in wanted.items() if _read(root / path) != text]
    found = (root / "schemas/generated").glob("*.json")
    stale += (path for path in (f"schemas/generated/{f.name}" for f in found) if path not in wanted)
    return sorted(stale)


def broken_promises(root: Path) -> list[str]:
    """Return what breaks compatibility with the committed baseline, one line a change."""
    current = event_schemas()
    broken: list[str] = []
    for file in sorted((root / "schemas/compatibility").glob("*.json")):
        name = file.stem
        if name not in current:
            broken.append(f"{name}: the type is gone")
            continue
        baseline = json.loads(file.read_text(encoding="utf-8"))
        changes = breaking_changes(baseline, current[name], outgoing=name in OUTGOING)
        broken += (f"{name}: {change}" for change in changes)
    return broken


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write `files` below `root`."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m meterstream.schemas.generate")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    parser.add_argument(
        "--baseline", action="store_true", help="also take compatible changes into the baseline"
    )
    parser.add_argument("--root", type=Path, default=PART.parent, help="the checkout")
    options = parser.parse_args(arguments)
    if broken := broken_promises(options.root):
        _say("These changes break what was promised; make a new version of the type instead:")
        _say(*broken)
        return 1
    if options.check:
        if stale := stale_files(options.root):
            _say("Out of date; run python -m meterstream.schemas.generate:", *stale)
            return 1
        return 0
    write(options.root, generated_files())
    if options.baseline:
        write(
            options.root,
            {
                f"schemas/compatibility/{name}.json": _text(schema)
                for name, schema in event_schemas().items()
            },
        )
    return 0


def _say(*lines: str) -> None:
    sys.stderr.write("\n".join(lines) + "\n")


def _text(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
