"""What is committed of the contract is what the models say, and keeps its promises."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from meterstream.schemas import generate
from meterstream.schemas.generation.json_schema import STATE_RECORDS
from meterstream.schemas.journal.header import SIZE
from meterstream.schemas.registry import MODELS
from meterstream.schemas.topics import THRESHOLDS

ROOT = Path(__file__).parents[3]
GENERATED = ROOT / "schemas/generated"


def document(name: str) -> dict[str, Any]:
    """Return a generated document."""
    found: dict[str, Any] = json.loads((GENERATED / f"{name}.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the committed files that a test may spoil."""
    for part in ("schemas/generated", "schemas/compatibility", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part)
    return tmp_path


def test_what_is_committed_is_up_to_date() -> None:
    """Every generated file is there, as the models make it, and no other."""
    assert generate.stale_files(ROOT) == []


def test_no_promise_is_broken() -> None:
    """Every type still takes what the committed baseline of it took."""
    assert generate.broken_promises(ROOT) == []


def test_every_type_has_a_baseline() -> None:
    """No event type is without a committed promise."""
    types = {name for models in MODELS.values() for name in models} | set(STATE_RECORDS)
    assert {file.stem for file in (ROOT / "schemas/compatibility").glob("*.json")} == types


def test_the_check_fails_on_a_stale_file(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that was edited, removed or added is named by the check; writing mends it."""
    assert generate.main(["--check", "--root", str(copy)]) == 0
    generated = copy / "schemas/generated"
    (generated / "rows.json").write_text("{}", encoding="utf-8")
    (generated / "journal.json").unlink()
    (generated / "old.json").write_text("{}", encoding="utf-8")
    assert generate.main(["--check", "--root", str(copy)]) == 1
    said = capsys.readouterr().err
    for name in ("rows", "journal", "old"):
        assert f"schemas/generated/{name}.json" in said
    (generated / "old.json").unlink()
    assert generate.main(["--root", str(copy)]) == 0
    assert generate.main(["--check", "--root", str(copy)]) == 0


def test_a_broken_promise_stops_everything(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against a baseline that promised more nothing is written, and the change is named."""
    baseline = copy / "schemas/compatibility/meterstream.run.completed.v1.json"
    promised = json.loads(baseline.read_text(encoding="utf-8"))
    promised["$defs"]["RunCompletedData"]["properties"]["team_id"]["maxLength"] = 100
    baseline.write_text(json.dumps(promised), encoding="utf-8")
    for arguments in (["--check"], [], ["--baseline"]):
        assert generate.main([*arguments, "--root", str(copy)]) == 1
        assert "data.team_id: maxLength fell from 100 to 64" in capsys.readouterr().err
    assert json.loads(baseline.read_text(encoding="utf-8")) == promised


def test_a_type_does_not_vanish(copy: Path) -> None:
    """A baseline without a type of today is a broken promise."""
    (copy / "schemas/compatibility/meterstream.run.paused.v1.json").write_text("{}")
    assert generate.broken_promises(copy) == ["meterstream.run.paused.v1: the type is gone"]


def test_schemas_are_valid_json_schema() -> None:
    """Each generated schema is valid under the dialect it names."""
    for models in (*MODELS.values(), STATE_RECORDS):
        for name in models:
            jsonschema.Draft202012Validator.check_schema(document(name))


def test_what_is_told_may_get_fields() -> None:
    """No part of what we publish is closed: consumers ignore fields that they do not know."""
    for name in (*MODELS[THRESHOLDS], *STATE_RECORDS):
        schema = document(name)
        for part in (schema, *schema["$defs"].values()):
            assert "additionalProperties" not in part, name


def test_asyncapi_refers_to_what_is_there() -> None:
    """Every reference in the AsyncAPI document leads to a part of it or to a file beside it."""
    api = document("asyncapi")
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(api)))
    assert len(references) > 50
    for reference in references:
        if reference.startswith("./"):
            assert (GENERATED / reference).is_file()
            continue
        target: Any = api
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def test_the_journals_header_is_described_whole() -> None:
    """The described fields of the header add up to the bytes that it has."""
    sizes = {"uint8": 1, "uint16": 2, "uint32": 4, "int32": 4, "int64": 8, "uint64": 8}
    described = document("journal")["record_header"]["fields"]
    assert sum(sizes.get(field["type"], 16) for field in described) == SIZE


def test_every_field_and_bound_is_in_the_reference() -> None:
    """The reference page names each event type and each field of its data."""
    page = (ROOT / "docs/events.md").read_text(encoding="utf-8")
    for models in MODELS.values():
        for name, model in models.items():
            _, _, section = page.partition(f"### `{name}`\n")
            section = section.split("\n##", 1)[0]
            fields = model.model_fields["data"].annotation
            assert fields is not None
            assert all(f"| `{field}` |" in section for field in fields.model_fields)
