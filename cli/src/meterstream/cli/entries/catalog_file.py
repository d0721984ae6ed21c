"""Catalog entries from a file: cards, plans, teams and whatever else the catalog holds."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from meterstream.cli.yaml_file import Faults, Node, line_of, plain, read_yaml
from meterstream.schemas.catalog import (
    AgentRegistered,
    CatalogEvent,
    FeatureRegistered,
    MembershipChanged,
    OrganisationRegistered,
    PlanPublished,
    ProjectRegistered,
    RateCardPublished,
    TeamRegistered,
    UserRegistered,
    catalog_key,
)
from meterstream.schemas.rejections import describe_all
from meterstream.schemas.times import to_us
from meterstream.streams.core.batch import Entry
from meterstream.streams.core.entries import judge_catalog

from .known import KnownCatalog
from .write import SOURCE

KINDS: Final[dict[str, type[CatalogEvent]]] = {
    "organisations": OrganisationRegistered,
    "teams": TeamRegistered,
    "users": UserRegistered,
    "memberships": MembershipChanged,
    "agents": AgentRegistered,
    "projects": ProjectRegistered,
    "features": FeatureRegistered,
    "plans": PlanPublished,
    "cards": RateCardPublished,
}
"""The lists of a file, in the order in which they are written, and what each holds."""

MARGIN: Final = timedelta(seconds=5)
"""How much later than now the broker may write an entry that is judged here."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One entry of a file, and the line that it begins in."""

    line: int
    event: CatalogEvent

    @property
    def key(self) -> str:
        """Its key in the catalog."""
        return catalog_key(self.event)


class CatalogFile:
    """A file of catalog entries."""

    def __init__(self, file: Path) -> None:
        self.faults = Faults(str(file))
        self._root = read_yaml(file, self.faults)

    def read(self, only: str | None = None, extra: dict[str, Any] | None = None) -> list[Wanted]:
        """Return the entries; every fault is told at once by BadInput.

        The file has lists by kind. Where `only` names one kind, it may also be a list of that
        kind, or a single entry; `extra` gives fields that stand in place of the file's own.
        """
        wanted = [
            found
            for kind, items in self._lists(only).items()
            for item in items
            if (found := self._entry(kind, item, extra or {})) is not None
        ]
        first: dict[str, int] = {}
        for one in wanted:
            if one.key in first:
                self.faults.add(one.line, f"{one.key}: is there already, in line {first[one.key]}")
            first.setdefault(one.key, one.line)
        self.faults.raise_any()
        return wanted

    def judge(self, known: KnownCatalog, wanted: Sequence[Wanted]) -> list[Wanted]:
        """Return the entries that change something; BadInput for those that may not be made.

        The meter's own core judges them, as if they were written now.
        """
        new = [one for one in wanted if is_news(known, one.event)]
        log_time_us = to_us(datetime.now(UTC) + MARGIN)
        incoming = [
            Entry(number, log_time_us, one.key.encode(), one.event.model_dump_json().encode())
            for number, one in enumerate(new)
        ]
        _, rejects = judge_catalog(known.entries, incoming)
        for each in rejects:
            one = new[each.offset]
            self.faults.add(one.line, f"{one.key}: {each.detail.removeprefix('data.')}")
        self.faults.raise_any()
        return new

    def _lists(self, only: str | None) -> dict[str, list[Node]]:
        root = self._root
        if root is None:
            return {}
        if only is not None and isinstance(root.value, list):
            return {only: root.value}
        if not isinstance(root.value, dict):
            self.faults.add(root.line, f"a mapping with lists is expected: {', '.join(KINDS)}")
            return {}
        if only is not None and not KINDS.keys() & root.value.keys():
            return {only: [root]}
        found: dict[str, list[Node]] = {}
        allowed = KINDS if only is None else {only: KINDS[only]}
        for name, node in root.value.items():
            if name not in allowed:
                self.faults.add(node.line, f"{name}: unknown; there are {', '.join(allowed)}")
            elif not isinstance(node.value, list):
                self.faults.add(node.line, f"{name}: a list is expected")
            else:
                found[name] = node.value
        return {name: found[name] for name in KINDS if name in found}

    def _entry(self, kind: str, item: Node, extra: dict[str, Any]) -> Wanted | None:
        if not isinstance(item.value, dict):
            self.faults.add(item.line, f"{kind}: each is a mapping of its fields")
            return None
        try:
            return Wanted(item.line, entry_of_data(KINDS[kind], plain(item) | extra))
        except ValidationError as error:
            for path, text in describe_all(KINDS[kind], error):
                said = text.removeprefix("data.").removeprefix("data: ")
                if isinstance(path[-1], str) and path[-1] not in said:
                    said = f"{path[-1]}: {said}"  # a name of the file's own, which models leave out
                self.faults.add(line_of(item, path[1:]), said)
            return None


def is_news(known: KnownCatalog, event: CatalogEvent) -> bool:
    """Tell whether an entry says something that the catalog does not say already."""
    before = known.by_key.get(catalog_key(event))
    return before is None or before.event.data != event.data


def entry_of_data(kind: type[CatalogEvent], data: dict[str, Any]) -> CatalogEvent:
    """Return an entry that says `data`; ValidationError where the model does not take it."""
    now = datetime.now(UTC)
    given = {"id": "?", "source": SOURCE, "time": now, "data": data}
    event = kind.model_validate(given)
    text = f"{catalog_key(event)}\n{event.data.model_dump_json()}"
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    return event.model_copy(update={"id": name})
