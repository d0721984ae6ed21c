"""Snapshots: a state as named segments and a manifest, and every way in which one is damaged."""

import hashlib
import json
from typing import Any

import pytest
from tests.support.core_runner import contents_of
from tests.support.craft import (
    DAY,
    MINUTE,
    NOW,
    Partition,
    card,
    entries,
    envelope,
    run,
    session,
    verdicts,
)

from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import (
    Policy,
    Snapshot,
    SnapshotDamaged,
    load_snapshot,
    read_manifest,
    take_snapshot,
)
from meterstream.streams.core import snapshot as module

GRANT = envelope(
    "credits.granted",
    "g",
    NOW,
    {"team_id": "team", "grant_id": "g", "kind": "funded", "amount_micro": 5},
)


def busy() -> Partition:
    """Return a partition that knows something of every kind."""
    partition = Partition()
    partition.take(
        *(run(f"r-{i}", NOW + i * MINUTE, user_id=f"u-{i}", latency_us=i) for i in range(5)),
        session("started", "s-0", application="x", release="1"),
        session("heartbeat", "s-1", session_id="unstarted"),
        catalog=entries(card(), first=4),
        control=entries(GRANT, GRANT, first=2),
    )
    partition.take(run("r-9", time_to_first_token_us=7), at_us=NOW + MINUTE)
    partition.idle(NOW + 2 * MINUTE)
    return partition


def test_a_loaded_state_is_the_state() -> None:
    """All that was known is known again, and the next step is the same to the byte."""
    partition = busy()
    snapshot = take_snapshot(partition.state)
    state = load_snapshot(partition.policy, snapshot.manifest, snapshot.segments)
    assert contents_of(state) == contents_of(partition.state)
    assert (state.closed_us, state.ids_since_us) == (NOW - 8 * MINUTE, NOW + 2 * MINUTE - DAY)
    assert (state.partition, state.generation, state.policy) == (0, 1, partition.policy)
    assert (state.events_topic_id.int, state.journal_topic_id.int) == (1, 2)
    assert (state.control_topic_id.int, state.catalog_topic_id.int) == (3, 4)
    assert (state.live_cells, state.dedup_ids, len(state.sessions)) == (6, 8, 2)
    expected = partition.take(run("r-1", NOW + MINUTE, user_id="u-1", latency_us=1), run("new"))
    partition.state = state
    partition._twin = load_snapshot(partition.policy, snapshot.manifest, snapshot.segments)
    again = partition.take(run("r-1", NOW + MINUTE, user_id="u-1", latency_us=1), run("new"))
    assert verdicts(again) == [Verdict.DUPLICATE, Verdict.COUNTED]
    assert (again.header, again.value) == (expected.header, expected.value)


def test_the_manifest_says_what_one_needs_to_choose() -> None:
    """Journal offset, generation, link and segments can be read without loading anything."""
    partition = busy()
    snapshot = take_snapshot(partition.state)
    manifest = read_manifest(snapshot.manifest)
    assert manifest.journal_offset == partition.state.link.prev == 3
    assert (manifest.generation, manifest.link) == (1, partition.state.link)
    assert sorted(manifest.segments) == sorted(snapshot.segments)
    assert len(manifest.segments) == 9


def test_segments_are_named_by_their_content() -> None:
    """What did not change keeps its name, so it is stored once; what changed gets another."""
    partition = busy()
    before = take_snapshot(partition.state)
    assert take_snapshot(partition.state) == before
    partition.take(session("heartbeat", "s-2", session_id="third"))
    after = take_snapshot(partition.state)
    kept = set(before.segments) & set(after.segments)
    assert len(kept) == 8
    assert len(after.segments) == 10
    for name, data in after.segments.items():
        (kind,) = [k for k, n in json.loads(after.manifest)["segments"] if n == name]
        assert hashlib.sha256(kind.encode() + data).hexdigest() == name


def test_an_empty_state_has_no_segments() -> None:
    """A state that has decided nothing is its manifest."""
    partition = Partition()
    snapshot = take_snapshot(partition.state)
    assert snapshot.segments == {}
    loaded = load_snapshot(partition.policy, snapshot.manifest, {})
    assert contents_of(loaded) == contents_of(partition.state)


def test_large_parts_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """No segment holds more than its bound, and together they hold everything."""
    monkeypatch.setattr(module, "SEGMENT_IDS", 3)
    monkeypatch.setattr(module, "SEGMENT_ROWS", 2)
    partition = busy()
    partition.take_batch(None, catalog=entries(*(card(i, NOW + i * DAY) for i in (2, 3)), first=5))
    snapshot = take_snapshot(partition.state)
    kinds = [kind for kind, _ in json.loads(snapshot.manifest)["segments"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "cells": 3,
        "accounts": 1,
        "ids": 4,
        "sessions": 1,
        "catalog": 2,
        "control": 1,
        "totals": 6,
    }
    state = load_snapshot(partition.policy, snapshot.manifest, snapshot.segments)
    assert contents_of(state) == contents_of(partition.state)


def changed(snapshot: Snapshot, **parts: Any) -> bytes:
    """Return the manifest with other parts; a part that is `...` is left out."""
    document = json.loads(snapshot.manifest) | parts
    return json.dumps({k: v for k, v in document.items() if v is not ...}).encode()


PARTS = [
    "partition", "partitions", "generation", "events_topic_id", "journal_topic_id",
    "control_topic_id", "catalog_topic_id", "link", "control_position",
    "catalog_position", "closed_us", "ids_since_us", "last_event", "segments",
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_manifest_without_a_part_is_damaged(part: str) -> None:
    """Whatever is missing, it is a damaged snapshot, so that an older one is tried."""
    snapshot = take_snapshot(busy().state)
    with pytest.raises(SnapshotDamaged, match=f"the manifest is incomplete: '{part}'"):
        load_snapshot(Policy(1), changed(snapshot, **{part: ...}), snapshot.segments)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("events_topic_id", "x"),
        ("journal_topic_id", 5),
        ("link", {}),
        ("link", 5),
        ("link", {"surplus": 1}),
        ("last_event", [1]),
        ("segments", [["ids"]]),
        ("segments", 5),
        ("closed_us", "x"),
    ],
)
def test_a_manifest_with_a_wrong_part_is_damaged(part: str, value: object) -> None:
    """A part of another form is damage as well."""
    snapshot = take_snapshot(busy().state)
    with pytest.raises(SnapshotDamaged, match="the manifest is incomplete"):
        load_snapshot(Policy(1), changed(snapshot, **{part: value}), snapshot.segments)


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b"{}", "layout None is unknown, this code reads 2"),
        (b'{"layout": 3}', "layout 3 is unknown, this code reads 2"),
        (b'{"layout": 2}', "incomplete"),
    ],
)
def test_what_is_no_manifest_is_damaged(manifest: bytes, reason: str) -> None:
    """Other bytes are no manifest, to whoever reads them."""
    with pytest.raises(SnapshotDamaged, match=reason):
        read_manifest(manifest)
    with pytest.raises(SnapshotDamaged, match=reason):
        load_snapshot(Policy(1), manifest, {})


def test_a_manifest_that_is_cut_is_damaged() -> None:
    """At whatever byte it ends."""
    manifest = take_snapshot(busy().state).manifest
    for size in range(0, len(manifest) - 1, 37):
        with pytest.raises(SnapshotDamaged):
            read_manifest(manifest[:size])


def test_a_snapshot_of_another_topic_is_refused() -> None:
    """With another number of partitions its teams would stand elsewhere."""
    snapshot = take_snapshot(busy().state)
    with pytest.raises(SnapshotDamaged, match="of a topic with 1 partitions, not 2"):
        load_snapshot(Policy(2), snapshot.manifest, snapshot.segments)


def test_a_missing_segment_is_damage() -> None:
    """Each segment must be there; the error says which is not, and of what kind."""
    snapshot = take_snapshot(busy().state)
    for kind, name in json.loads(snapshot.manifest)["segments"]:
        rest = {n: data for n, data in snapshot.segments.items() if n != name}
        with pytest.raises(SnapshotDamaged, match=rf"{name[:12]} \({kind}\) is missing"):
            load_snapshot(Policy(1), snapshot.manifest, rest)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "swap"])
def test_a_segment_with_other_bytes_is_damage(damage: str) -> None:
    """One bit, a missing byte, no bytes or another segment's do not match the hash."""
    snapshot = take_snapshot(busy().state)
    names = list(snapshot.segments)
    for i, name in enumerate(names):
        data = snapshot.segments[name]
        other = {
            "flip": bytes([data[0] ^ 1]) + data[1:],
            "cut": data[:-1],
            "empty": b"",
            "swap": snapshot.segments[names[i - 1]],
        }[damage]
        with pytest.raises(SnapshotDamaged, match=f"{name[:12]} .* does not match its hash"):
            load_snapshot(Policy(1), snapshot.manifest, {**snapshot.segments, name: other})


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("cells", b"x", "not an Arrow stream"),
        ("sessions", b"", "not an Arrow stream"),
        ("ids", b"x" * 23, "no whole number of ids"),
        ("catalog", b"{", "Expecting"),
        ("catalog", b"[[1]]", "missing 2 required"),
        ("catalog", b'[[1, 2, "{}"]]', "missing_field"),
        ("control", b"7", "not iterable"),
        ("grants", b"", "this kind of segment is unknown here"),
    ],
)
def test_a_segment_that_cannot_be_read_is_damage(kind: str, data: bytes, reason: str) -> None:
    """A segment whose hash fits and whose bytes mean nothing is named with what is wrong."""
    name = hashlib.sha256(kind.encode() + data).hexdigest()
    snapshot = take_snapshot(Partition().state)
    with pytest.raises(SnapshotDamaged, match=rf"segment {name[:12]} \({kind}\): .*{reason}"):
        load_snapshot(Policy(1), changed(snapshot, segments=[[kind, name]]), {name: data})


def test_a_segments_kind_is_part_of_its_name() -> None:
    """The same bytes under another kind are another segment."""
    snapshot = take_snapshot(busy().state)
    listed = json.loads(snapshot.manifest)["segments"]
    (name,) = [name for kind, name in listed if kind == "catalog"]
    with pytest.raises(SnapshotDamaged, match="does not match its hash"):
        load_snapshot(Policy(1), changed(snapshot, segments=[["control", name]]), snapshot.segments)


def test_damage_is_a_value_error() -> None:
    """Who catches ValueError catches damage."""
    assert issubclass(SnapshotDamaged, ValueError)
