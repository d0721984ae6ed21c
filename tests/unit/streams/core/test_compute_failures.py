"""What the meter does when it fails itself: one event is quarantined, the stream goes on."""

from collections.abc import Callable

import pytest
from tests.support.core_runner import contents_of
from tests.support.craft import (
    Partition,
    rejects,
    run,
    verdicts,
)

from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import (
    Step,
    context,
)
from meterstream.streams.core.identity import identity_digest, split_digests
from meterstream.streams.core.step import build_step

COUNTED, DUPLICATE, CONFLICT = Verdict.COUNTED, Verdict.DUPLICATE, Verdict.CONFLICT


Broken = Callable[[set[str]], type[BaseException] | None]


def fail_for(monkeypatch: pytest.MonkeyPatch, broken: Broken) -> None:
    """Let the computation fail for batches whose event ids `broken` gives an error for."""
    names: dict[bytes, str] = {}

    def identify(team: str, source: str, event_id: str) -> bytes:
        digest = identity_digest(team, source, event_id)
        names[digest] = event_id
        return digest

    def split(digests: list[bytes]) -> object:
        error = broken({names[digest] for digest in digests})
        if error is not None:
            raise error("boom")
        return split_digests(digests)

    monkeypatch.setattr(context, "identity_digest", identify)
    monkeypatch.setattr(context, "split_digests", split)


def letters(step: Step) -> list[Verdict]:
    """Return the verdicts of a step, with the details of what was quarantined checked."""
    for _, _, verdict, detail in rejects(step):
        if verdict is Verdict.INTERNAL:
            assert detail.startswith("the meter failed on this event (")
    return verdicts(step)


@pytest.mark.parametrize("bad", ["a", "d", "h", "bc", "aceg", "abcdefgh"])
def test_an_event_on_which_the_meter_fails_is_quarantined(
    monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    """Each offender becomes internal with what was raised; its neighbours are counted."""
    partition = Partition()
    fail_for(monkeypatch, lambda names: ZeroDivisionError if names & set(bad) else None)
    step = partition.take(*(run(letter) for letter in "abcdefgh"))
    assert letters(step) == [Verdict.INTERNAL if c in bad else COUNTED for c in "abcdefgh"]
    assert step.reasons == {"internal": len(bad)}
    assert all("(ZeroDivisionError); replay it" in detail for *_, detail in rejects(step))
    assert partition.state.dedup_ids == 8 - len(bad)


def test_events_that_fail_only_together_lose_their_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no single event fails, the one that completes the failing set is quarantined."""
    partition = Partition()
    fail_for(monkeypatch, lambda names: KeyError if {"b", "g"} <= names else None)
    step = partition.take(*(run(letter) for letter in "abcdefgh"))
    assert letters(step) == [COUNTED] * 6 + [Verdict.INTERNAL, COUNTED]
    assert (
        rejects(step)[0][3]
        == "the meter failed on this event (KeyError); replay it after an upgrade"
    )


def test_several_sets_that_fail_together_are_all_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quarantine goes on until the rest can be computed."""
    partition = Partition()
    fail_for(
        monkeypatch,
        lambda names: (
            KeyError if {"a", "b"} <= names or {"c", "h"} <= names or "e" in names else None
        ),
    )
    step = partition.take(*(run(letter) for letter in "abcdefgh"))
    internal = Verdict.INTERNAL
    assert letters(step) == [
        COUNTED,
        internal,
        COUNTED,
        COUNTED,
        internal,
        COUNTED,
        COUNTED,
        internal,
    ]


def test_a_failure_that_is_no_events_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the computation fails without any event, no event is blamed and nothing is decided."""
    partition = Partition()
    before = contents_of(partition.state)
    fail_for(monkeypatch, lambda names: KeyError)
    with pytest.raises(KeyError):
        partition.take(run("a"), run("b"))
    assert contents_of(partition.state) == before


def test_a_failure_that_comes_back_under_quarantine_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where an event fails even unread, it is raised instead of tried for ever."""

    def fail(*args: object, **parts: object) -> Step:
        if parts["events_to"] == 3:
            raise KeyError("boom")
        return build_step(*args, **parts)  # type: ignore[arg-type]

    monkeypatch.setattr(context, "build_step", fail)
    with pytest.raises(KeyError, match="boom"):
        Partition().take(run("a"), run("b"), run("c"))


@pytest.mark.parametrize("alone", [False, True])
def test_a_lack_of_memory_is_no_events_fault(monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    """No event is quarantined because the machine was out of memory, at once or on the way."""
    attempts = 0

    def broken(names: set[str]) -> type[BaseException] | None:
        nonlocal attempts
        attempts += 1
        if "b" not in names:
            return None
        return MemoryError if alone or attempts > 1 else KeyError

    fail_for(monkeypatch, broken)
    with pytest.raises(MemoryError):
        Partition().take(run("a"), run("b"))
