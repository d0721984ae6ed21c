"""How wanted limits differ from those in force, and the entries that bring the one to the other."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from meterstream.cli.entries.write import SOURCE
from meterstream.schemas.control import LimitRemoved, LimitRemovedData, LimitSet, LimitSetData

from .known import KnownLimit, LimitName
from .texts import settings_of

MAX_ID = 128


@dataclass(frozen=True, slots=True)
class Change:
    """One limit that is added, changed or removed."""

    name: LimitName
    before: LimitSetData | None
    after: LimitSetData | None
    """With the version that it gets."""
    version: int

    @property
    def kind(self) -> Literal["added", "changed", "removed"]:
        """What happens to the limit."""
        if self.after is None:
            return "removed"
        return "added" if self.before is None else "changed"

    def event(self, now: datetime) -> LimitSet | LimitRemoved:
        """Return the entry that makes the change."""
        text = f"limit/{self.name.owner}/{self.name.limit_id}/{self.version}"
        if len(text) > MAX_ID:
            text = f"limit/{hashlib.sha256(text.encode()).hexdigest()[:32]}/{self.version}"
        if self.after is not None:
            return LimitSet(id=text, source=SOURCE, time=now, data=self.after)
        removed = LimitRemovedData(
            team_id=self.name.team_id or None,
            organisation_id=self.name.organisation_id or None,
            limit_id=self.name.limit_id,
            version=self.version,
        )
        return LimitRemoved(id=text, source=SOURCE, time=now, data=removed)

    def lines(self) -> list[str]:
        """Return the change as lines of a diff."""
        sign = {"added": "+", "changed": "~", "removed": "-"}[self.kind]
        before = settings_of(self.before) if self.before else {}
        after = settings_of(self.after) if self.after else {}
        if self.kind != "changed":
            words = ", ".join(f"{key} {value}" for key, value in (after or before).items())
            return [f"{sign} {self.name}: {words}"]
        return [f"{sign} {self.name}"] + [
            f"    {key}: {before[key]} -> {after[key]}"
            for key in after
            if before[key] != after[key]
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the change for JSON, with limits as their entries name them."""
        return {
            "change": self.kind,
            "team_id": self.name.team_id or None,
            "organisation_id": self.name.organisation_id or None,
            "limit_id": self.name.limit_id,
            "version": self.version,
            "before": self.before.model_dump(mode="json") if self.before else None,
            "after": self.after.model_dump(mode="json") if self.after else None,
        }


def changes(
    known: Mapping[LimitName, KnownLimit],
    wanted: Iterable[LimitSetData],
    *,
    prune: Collection[tuple[str, str]] = (),
) -> list[Change]:
    """Return what must change so that `wanted` holds, whatever versions they say.

    Of the owners (team, organisation) in `prune` the limits that are not wanted are removed.
    """
    found: list[Change] = []
    named: set[LimitName] = set()
    for data in wanted:
        name = LimitName.of(data)
        named.add(name)
        last = known.get(name)
        version = last.version + 1 if last else 1
        before = last.data if last else None
        after = data.model_copy(update={"version": version})
        if before is None or after != before.model_copy(update={"version": version}):
            found.append(Change(name, before, after, version))
    for name, last in sorted(known.items()):
        owned = (name.team_id, name.organisation_id) in prune
        if owned and last.data is not None and name not in named:
            found.append(removal(name, last))
    return found


def removal(name: LimitName, last: KnownLimit) -> Change:
    """Return the change that ends a limit."""
    return Change(name, last.data, None, last.version + 1)
