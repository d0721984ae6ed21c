"""Files of admins are read with their lines, and nothing in them is guessed."""

from pathlib import Path

import pytest

from meterstream.cli.errors import BadInput
from meterstream.cli.yaml_file import Faults, line_of, plain, read_yaml


def _read(tmp_path: Path, text: str) -> tuple[object, list[tuple[int, str]], object]:
    file = tmp_path / "file.yaml"
    file.write_text(text)
    faults = Faults("file.yaml")
    root = read_yaml(file, faults)
    return (plain(root) if root else None), faults.found, root


def test_scalars_stay_what_they_are_written_as(tmp_path: Path) -> None:
    """Only whole numbers, true, false and null are other than text; floats and dates are not."""
    text = "{a: 1, b: 1.50, c: 007, d: yes, e: true, f: '1', g: null, h: 2026-01-31, i: -3, j: 1_0}"
    value, found, _ = _read(tmp_path, text)
    assert not found
    assert value == {
        "a": 1, "b": "1.50", "c": "007", "d": "yes", "e": True, "f": "1", "g": None,
        "h": "2026-01-31", "i": -3, "j": "1_0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "twice"),
        ("a: [1\n", 2, "no YAML"),
        ("", 1, "empty"),
        ("a: 1\n? [x]\n: 2\n", 2, "a key is text"),
        ("a: \x00", 1, "no YAML"),
    ],
)
def test_faults_have_their_lines(tmp_path: Path, text: str, line: int, word: str) -> None:
    """What is no YAML, or says a thing twice, is told with the line."""
    _, found, _ = _read(tmp_path, text)
    assert [each[0] for each in found] == [line]
    assert word in found[0][1]


def test_no_object_is_ever_made(tmp_path: Path) -> None:
    """A tag that asks for a Python object is text as any other."""
    value, found, _ = _read(tmp_path, "a: !!python/object/apply:os.getcwd []\n")
    assert value == {"a": []}
    assert not found


def test_an_alias_of_itself_ends(tmp_path: Path) -> None:
    """A value that holds itself is a fault, and not an endless one."""
    _, found, _ = _read(tmp_path, "a: &x\n  b: *x\n")
    assert "nested too deeply" in found[0][1]


def test_lines_are_found_by_path(tmp_path: Path) -> None:
    """The line of a value, or of the last thing on its way that is there."""
    _, _, root = _read(tmp_path, "a:\n  - b: 1\n  - c: 2\n")
    assert line_of(root, ("a", 1, "c")) == 3  # type: ignore[arg-type]
    assert line_of(root, ("a", 0, "z")) == 2  # type: ignore[arg-type]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """What is not UTF-8 text, or not there, is refused in one line."""
    (tmp_path / "latin").write_bytes(b"a: \xff")
    for name in ("latin", "nothing"):
        with pytest.raises(BadInput, match=name):
            read_yaml(tmp_path / name, Faults(name))
