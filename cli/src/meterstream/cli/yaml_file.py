"""YAML (and so JSON) files of admins, read with the line of every value, and nothing guessed.

Numbers stay the text they are written as, so that no amount passes through a float, and no name
becomes a number, a date or a truth value.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from meterstream.cli.errors import BadInput
from meterstream.cli.output import note

MAX_BYTES: Final = 16 * 1024 * 1024
SHOWN_FAULTS: Final = 50
_NULL: Final = "tag:yaml.org,2002:null"


@dataclass(slots=True)
class Faults:
    """What is wrong in one file, each with its line."""

    file: str
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, text: str) -> None:
        """Note a fault."""
        self.found.append((line, text))

    def raise_any(self) -> None:
        """Tell all faults in the order of their lines and raise BadInput, where there are any."""
        if not self.found:
            return
        for line, text in sorted(self.found)[:SHOWN_FAULTS]:
            note(f"{self.file}:{line}: {text}")
        if (more := len(self.found) - SHOWN_FAULTS) > 0:
            note(f"{self.file}: and {more} more")
        many = "1 fault" if len(self.found) == 1 else f"{len(self.found)} faults"
        raise BadInput(f"{self.file} has {many}: nothing was written")


@dataclass(frozen=True, slots=True)
class Node:
    """One value of the file and its line (from 1)."""

    line: int
    value: "str | list[Node] | dict[str, Node] | None"
    quoted: bool = False
    """Whether a scalar stands in quotes, and is text whatever it looks like."""

    @property
    def text(self) -> str | None:
        """The text of a scalar; None for anything else."""
        return self.value if isinstance(self.value, str) else None


def read_yaml(file: Path, faults: Faults) -> Node | None:
    """Return the one document of a file; None where faults were found that leave nothing to read.

    Raises BadInput where the file cannot be read at all.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise BadInput(f"{file} is larger than {MAX_BYTES // 2**20} MB")
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8 text") from error
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error
    try:
        # Nodes alone are made, never objects: what a tag asks for is not done.
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        faults.add(mark.line + 1 if mark else 1, f"no YAML: {error.problem or error.context}")
        return None
    except yaml.YAMLError as error:
        faults.add(1, f"no YAML: {' '.join(str(error).split())}")
        return None
    if root is None:
        faults.add(1, "the file is empty")
        return None
    return _Reader(faults).node(root, 0)


class _Reader:
    """Turns YAML nodes into ours."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def node(self, node: yaml.Node, depth: int) -> Node:
        line = node.start_mark.line + 1
        if depth > 20:
            self._faults.add(line, "nested too deeply")
            return Node(line, None)
        if isinstance(node, yaml.ScalarNode):
            quoted = node.style in {"'", '"', "|", ">"}
            value = None if node.tag == _NULL and not quoted else node.value
            return Node(line, value, quoted)
        if isinstance(node, yaml.SequenceNode):
            return Node(line, [self.node(each, depth + 1) for each in node.value])
        found: dict[str, Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            at = key.start_mark.line + 1
            if not isinstance(name, str):
                self._faults.add(at, "a key is text")
            elif name in found:
                self._faults.add(at, f"{name}: is there twice")
            else:
                found[name] = self.node(value, depth + 1)
        return Node(line, found)


def plain(node: Node) -> Any:
    """Return a node as JSON would hold it: unquoted whole numbers and truth values as such."""
    value = node.value
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if value is None or node.quoted:
        return value
    if value in {"true", "false"}:
        return value == "true"
    digits = value.removeprefix("-")
    if digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0"):
        return int(value) if len(digits) <= 30 else value
    return value


def line_of(node: Node, path: tuple[int | str, ...]) -> int:
    """Return the line of what `path` leads to, or of the last thing on the way that is there."""
    for step in path:
        value = node.value
        if isinstance(value, dict) and step in value:
            node = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            node = value[step]
        else:
            break
    return node.line
