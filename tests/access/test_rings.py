"""Rings of keys: their states, and their files."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.refusals import check, raises

from assetlane_server.access.ring_files import RingFiles, ring_document
from assetlane_server.model.errors import Advice
from assetlane_server.model.rings import MAX_KEYS, WAIT, Ring, RingDamaged, RingsUnreadable, RingUnchanged
from assetlane_server.uploads.rings import change_ring

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
SECRET = b"s" * 32


def test_the_first_key_signs_at_once_and_the_next_one_after_a_while() -> None:
    """Until then the one before signs."""
    ring = Ring("clinic").with_key("a", SECRET, NOW)
    assert [key.state(NOW) for key in ring.keys] == ["in use"]
    ring = ring.with_key("b", SECRET, NOW)
    assert [key.state(NOW) for key in ring.keys] == ["in use", "waiting"]
    for instant, key_id in ((NOW, "a"), (NOW + WAIT, "b")):
        signing = ring.signing_key(instant)
        assert signing is not None
        assert signing.key_id == key_id


def test_the_last_key_that_signs_is_not_retired() -> None:
    """One that waits does not count: between the two nobody could make a token."""
    ring = Ring("clinic").with_key("a", SECRET, NOW).with_key("b", SECRET, NOW)
    with raises(RingUnchanged, reason="LAST_KEY_IN_USE"):
        ring.retired("a", NOW)
    later = NOW + WAIT
    ring = ring.retired("a", later)
    assert [key.state(later) for key in ring.keys] == ["retired", "in use"]
    for key_id, reason in (("a", "KEY_RETIRED"), ("b", "LAST_KEY_IN_USE"), ("c", "KEY_UNKNOWN")):
        with raises(RingUnchanged, reason=reason):
            ring.retired(key_id, later)
    assert [key.key_id for key in ring.dropped("a").keys] == ["b"]
    with raises(RingUnchanged, reason="KEY_UNKNOWN"):
        ring.dropped("c")


def test_a_ring_does_not_grow_for_ever() -> None:
    """The refusal says what to do."""
    ring = Ring("clinic")
    for number in range(MAX_KEYS):
        ring = ring.with_key(f"k{number}", SECRET, NOW)
    with raises(RingUnchanged, reason="RING_FULL", limits=[MAX_KEYS]):
        ring.with_key("more", SECRET, NOW)


def test_a_secret_is_not_in_what_is_printed_of_a_key() -> None:
    """Logs print keys, by mistake or in a traceback."""
    ring = Ring("clinic").with_key("a", b"a secret of thirty-two characters", NOW)
    assert "thirty" not in repr(ring)


async def test_files_hold_what_was_written(tmp_path: Path) -> None:
    """For nobody else to read, and only after the state that the writer has seen."""
    files = RingFiles(tmp_path / "rings")
    assert await files.read_rings() == {}
    ring = await change_ring(files, "clinic", lambda one: one.with_key("a", SECRET, NOW))
    ring = await change_ring(files, "clinic", lambda one: one.with_key("b", SECRET, NOW))
    ring = await change_ring(files, "clinic", lambda one: one.retired("a", NOW + WAIT))
    assert await RingFiles(tmp_path / "rings").read_rings() == {"clinic": ring}
    assert not await files.write_ring(ring)
    assert not await files.write_ring(replace(ring, revision=9))
    assert (tmp_path / "rings" / "clinic.json").stat().st_mode & 0o077 == 0
    assert await files.drop_ring("clinic")
    assert not await files.drop_ring("clinic")
    assert await files.read_rings() == {}


GOOD = ring_document(Ring("clinic").with_key("a", SECRET, NOW))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": [], "revision": 0}',
        b'{"keys": [], "revision": true}',
        b'{"keys": {}, "revision": "1"}',
        b"\xff",
        json.dumps({**GOOD, "keys": GOOD["keys"] * 2}).encode(),
        json.dumps({**GOOD, "keys": [{**GOOD["keys"][0], "secret": "c2hvcnQ="}]}).encode(),
        json.dumps({**GOOD, "keys": [{**GOOD["keys"][0], "secret": "not base64"}]}).encode(),
        json.dumps({**GOOD, "keys": [{**GOOD["keys"][0], "use_time": "soon"}]}).encode(),
        json.dumps({**GOOD, "keys": [{**GOOD["keys"][0], "key_id": "../x"}]}).encode(),
        b"[" * 200_000,
        b" " * 300_000,
    ],
)
async def test_a_file_that_is_no_ring_is_reported_by_its_name(tmp_path: Path, content: bytes) -> None:
    """And quotes nothing of it; other rings are read all the same, and it can be dropped."""
    (tmp_path / "clinic.json").write_bytes(content)
    files = RingFiles(tmp_path)
    lab = await change_ring(files, "lab", lambda one: one.with_key("a", SECRET, NOW))
    rings = await files.read_rings()
    assert rings["lab"] == lab
    assert rings["clinic"].keys == ()
    with pytest.raises(RingDamaged) as refused:
        await change_ring(files, "clinic", lambda one: one.with_key("a", SECRET, NOW))
    assert (refused.value.ring, refused.value.advice) == ("clinic", Advice.DROP_RING)
    check(refused.value, names=["clinic"])
    assert "c2hvcnQ" not in str(refused.value)
    assert await files.drop_ring("clinic")
    assert (await change_ring(files, "clinic", lambda one: one.with_key("a", SECRET, NOW))).revision == 1


async def test_what_the_system_refuses_is_reported(tmp_path: Path) -> None:
    """A folder that is a file."""
    (tmp_path / "rings").write_text("x")
    with raises(RingsUnreadable, names=[str(tmp_path / "rings")]):
        await change_ring(RingFiles(tmp_path / "rings"), "clinic", lambda one: one.with_key("a", SECRET, NOW))
