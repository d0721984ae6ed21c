"""Wanted limits from a file: every fault is told with its line, and none is guessed around."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError

from meterstream.cli.money import parse_amount, parse_level
from meterstream.cli.yaml_file import Faults, Node, read_yaml
from meterstream.schemas.control import LimitSetData, Measure, Window
from meterstream.schemas.rejections import describe_all

from .known import LimitName
from .wanted import SUBJECTS, default_id

KEYS: Final = (
    "id", "team", "organisation", *SUBJECTS,
    "measure", "window", "amount", "alert", "enforcement",
)  # fmt: skip
REQUIRED: Final = ("measure", "window", "amount")
_CHOICES: Final = {
    "measure": get_args(Measure),
    "window": get_args(Window),
    "enforcement": ("hard", "soft"),
}
_FIELDS: Final = {"alert_levels_permille": "alert", "limit_id": "id", "subject_id": ""}
"""What a field of the event is called in the file, where that differs."""


@dataclass(slots=True)
class LimitsFile:
    """What a file asks for."""

    limits: list[LimitSetData] = field(default_factory=list)
    prune: bool = False

    def owners(self) -> set[tuple[str, str]]:
        """Return the teams and organisations that it names, as `changes` prunes them."""
        return {(each.team_id or "", each.organisation_id or "") for each in self.limits}


def read_limits_file(file: Path) -> LimitsFile:
    """Return what a file asks for; BadInput where anything in it is wrong, after telling it all."""
    faults = Faults(str(file))
    root = read_yaml(file, faults)
    found = _File(faults).read(root) if root is not None else LimitsFile()
    faults.raise_any()
    return found


class _File:
    """Reads the document, and goes on after a fault."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._file = LimitsFile()
        self._first: dict[LimitName, int] = {}

    def read(self, root: Node) -> LimitsFile:
        if not isinstance(root.value, dict):
            self._faults.add(root.line, "a mapping with the key `limits` is expected")
            return self._file
        for name, node in root.value.items():
            if name not in {"limits", "prune"}:
                self._faults.add(node.line, f"{name}: unknown; there are limits and prune")
        prune = root.value.get("prune")
        if prune is not None:
            if prune.text not in {"true", "false"}:
                self._faults.add(prune.line, "prune: true or false is expected")
            self._file.prune = prune.text == "true"
        limits = root.value.get("limits")
        if limits is None or not isinstance(limits.value, list):
            line = limits.line if limits else root.line
            self._faults.add(line, "limits: a list is expected")
            return self._file
        for item in limits.value:
            self._limit(item)
        return self._file

    def _limit(self, item: Node) -> None:
        if not isinstance(item.value, dict):
            self._faults.add(item.line, "a limit is a mapping: team, measure, window, amount, ...")
            return
        before = len(self._faults.found)
        for name, node in item.value.items():
            if name not in KEYS:
                self._faults.add(node.line, f"{name}: unknown; there are {', '.join(KEYS)}")
        data = self._data(item, item.value)
        try:
            limit = LimitSetData.model_validate(data)
        except ValidationError as error:
            told = {line for line, _ in self._faults.found[before:]}
            for path, text in describe_all(LimitSetData, error):
                self._refused(item, path, text, told)
            return
        if len(self._faults.found) > before:
            return
        found = LimitName.of(limit)
        if found in self._first:
            first = self._first[found]
            self._faults.add(item.line, f"{found}: is there already, in line {first}")
            return
        self._first[found] = item.line
        self._file.limits.append(limit)

    def _data(self, item: Node, values: dict[str, Node]) -> dict[str, Any]:
        for name in REQUIRED:
            if name not in values:
                self._faults.add(item.line, f"{name}: required")
        text = {name: self._text(name, node) for name, node in values.items() if name != "alert"}
        owners = [name for name in ("team", "organisation") if text.get(name)]
        if len(owners) != 1:
            self._faults.add(item.line, "exactly one of team and organisation is expected")
        if not owners:
            owners, text["team"] = ["team"], "?"  # told; the rest is looked at all the same
        subjects = [name for name in SUBJECTS if text.get(name)]
        if len(subjects) > 1:
            self._faults.add(item.line, f"{' and '.join(subjects)}: a limit is for one of them")
        subject = subjects[0] if subjects else owners[0]
        subject_id = text[subjects[0]] if subjects else None
        measure, window = text.get("measure") or "", text.get("window") or ""
        for name, choices in _CHOICES.items():
            if text.get(name) and text[name] not in choices:
                self._faults.add(
                    values[name].line, f"{name}: one of {', '.join(choices)} is expected"
                )
        data: dict[str, Any] = {
            "team_id": text["team"] if owners[:1] == ["team"] else None,
            "organisation_id": text["organisation"] if owners[:1] == ["organisation"] else None,
            "limit_id": text.get("id") or default_id(subject, subject_id, measure, window),
            "version": 1,
            "subject": subject,
            "subject_id": subject_id,
            "measure": measure if measure in _CHOICES["measure"] else "credits",
            "window": window if window in _CHOICES["window"] else "month",
            "amount": 0,
        }
        if "amount" in values and data["measure"] == measure:
            data["amount"] = self._parsed(
                "amount", values["amount"], lambda given: parse_amount(given, measure)
            )
        if "alert" in values:
            data["alert_levels_permille"] = self._levels(values["alert"])
        if text.get("enforcement") in _CHOICES["enforcement"]:
            data["enforcement"] = text["enforcement"]
        return data

    def _text(self, name: str, node: Node) -> str | None:
        if not node.text:
            self._faults.add(node.line, f"{name}: text is expected")
        return node.text

    def _parsed(self, name: str, node: Node, parse: Callable[[str], int]) -> int:
        """Return what is written there; a fault leaves 0, so that the rest is looked at too."""
        if node.text is None:
            return 0  # told already
        try:
            return parse(node.text)
        except ValueError as error:
            self._faults.add(node.line, f"{name}: {error}")
            return 0

    def _levels(self, node: Node) -> list[int]:
        if not isinstance(node.value, list):
            self._faults.add(node.line, "alert: a list of percentages is expected: [50, 80, 100]")
            return []
        levels = [
            self._parsed("alert", each, lambda given: parse_level(given.removesuffix("%")))
            for each in node.value
        ]
        if any(each.text is None for each in node.value):
            self._faults.add(node.line, "alert: a list of percentages is expected: [50, 80, 100]")
        return levels

    def _refused(self, item: Node, path: tuple[int | str, ...], text: str, told: set[int]) -> None:
        """Tell what the model refuses, by the file's own names, unless that line was told of."""
        assert isinstance(item.value, dict), "it was read as one"
        field_name = str(path[0]) if path else ""
        key = _FIELDS.get(field_name, field_name.removesuffix("_id"))
        if field_name == "subject_id":
            key = next((each for each in SUBJECTS if each in item.value), "team")
        node = item.value.get(key, item)
        if node.line not in told or node is item:
            rest = text.partition(": ")[2] if path else text
            self._faults.add(node.line, f"{key}: {rest}" if key else rest)
