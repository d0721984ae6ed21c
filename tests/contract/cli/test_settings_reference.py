"""Every setting of every service is told by its --help and by docs/settings.md."""

import contextlib
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from meterstream.cli import settings_reference
from meterstream.cli.settings_reference import SERVICES
from meterstream.notifier import app as notifier
from meterstream.schemas.variables import variables_of
from meterstream.sinks import app as sink
from meterstream.streams import app as meter
from meterstream.streams import publisher
from meterstream.streams.settings import PREFIX

ROOT = Path(__file__).parents[3]
MAINS = {
    "meter": meter.main,
    "publisher": publisher.main,
    "sink": sink.main,
    "notifier": notifier.main,
}


@pytest.mark.parametrize(("service", "kind"), SERVICES.items())
def test_help_tells_every_setting(
    service: str, kind: type[BaseSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each field is named in the service's help with a meaning, and no secret has a value there."""
    with contextlib.suppress(SystemExit):  # as argparse ends
        MAINS[service](["--help"])
    said = " ".join(capsys.readouterr().out.split())
    variables = variables_of(kind, PREFIX)
    assert len(variables) == len(kind.model_fields)
    for variable in variables:
        assert variable.meaning.endswith("."), f"{variable.name} has no meaning"
        assert f"{variable.name} [{variable.default}] {variable.meaning}" in said


def test_what_is_committed_is_up_to_date() -> None:
    """The page is as the settings make it."""
    assert settings_reference.main(["--check", "--root", str(ROOT)]) == 0


def test_the_check_fails_on_a_stale_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page that is missing or differs is named; writing mends it."""
    (tmp_path / "docs").mkdir()
    arguments = ["--root", str(tmp_path)]
    assert settings_reference.main([*arguments, "--check"]) == 1
    assert "docs/settings.md" in capsys.readouterr().err
    assert settings_reference.main(arguments) == 0
    assert settings_reference.main([*arguments, "--check"]) == 0
    with (tmp_path / "docs/settings.md").open("a") as page:
        page.write("more\n")
    assert settings_reference.main([*arguments, "--check"]) == 1
