"""What a document says: every field and back, and how much of it may be unknown."""

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, timedelta
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.uploads.samples import NOW, QUARTER, completed, requested

from assetlane_server.model.cut_plan import CutFormat, CutPlan, CutSize
from assetlane_server.model.progress import Progress, Stage
from assetlane_server.model.upload import Details, Failure, Notice, Upload
from assetlane_server.records.documents import (
    SCHEMA,
    RecordUnreadable,
    asset_advance,
    change_ids_of,
    progress_document,
    progress_of,
    upload_advance,
    upload_document,
    upload_of,
)

Document = dict[str, Any]
TZ_AWARE: Any = bson.CodecOptions(tz_aware=True, tzinfo=UTC)


def stored(document: Document) -> Document:
    """Returns a document as it comes back from MongoDB."""
    found: Document = bson.decode(bson.encode(document), TZ_AWARE)
    return found


def whole() -> Upload:
    """Returns a completed upload of which no field is empty."""
    upload = replace(
        requested(
            notices=(Notice("A", "b"),),
            details=Details("t", "c", "#000000", timedelta(microseconds=7), {"a": [1.5, None, {"$b.c": True}]}),
            partition="team/1",
            asset_partition="team/2",
            expiration_hours=1.5,
        ),
        cut_plan=CutPlan((CutSize("tiny", 10),), CutFormat.WEBP, 7, place="x/", required=True),
        multipart_ids={"original": "m-1"},
        is_swept=True,
        write_url_lifetime=timedelta(hours=6),
        kept_for=timedelta(days=3),
    ).initialized(NOW, QUARTER)
    return replace(completed(upload), failure=Failure("NONE", "but said"), sweep_time=NOW)


def test_every_field_comes_back_with_its_type() -> None:
    """Of an upload, its asset and all that is within; nothing is lost and nothing is another class."""
    upload = whole()
    found = upload_of(stored(upload_document(upload)))
    assert found == upload
    assert repr(found) == repr(upload)  # an enumeration equals its value, and looks otherwise
    for field in fields(upload):
        assert getattr(upload, field.name) not in (None, "", b"", (), {}, False), f"{field.name} is not tried"


def test_an_upload_with_next_to_nothing_comes_back() -> None:
    """Everything that can be empty is."""
    upload = requested(request_id="", session_id="", details=Details(), notices=())
    document = upload_document(upload)
    assert upload_of(stored(document)) == upload
    assert document["schema"] == SCHEMA
    assert not {"session_id", "details", "notices", "cut_plan", "failure", "asset", "listed_in"} & document.keys()


def test_no_field_of_a_document_is_null() -> None:
    """No query tests for null: a field is there or it is not."""

    def nulls(value: object, path: str = "") -> list[str]:
        if isinstance(value, dict):
            ours = {name: item for name, item in value.items() if name != "extra"}
            return [found for name, item in ours.items() for found in nulls(item, f"{path}.{name}")]
        if isinstance(value, (list, tuple)):
            return [found for item in value for found in nulls(item, path)]
        return [path] if value is None else []

    bare = replace(whole(), details=Details())
    for upload in (requested(details=Details()), bare, replace(bare, sweep_time=None)):
        assert nulls(upload_document(upload)) == []
        if upload.asset is not None:
            change = upload_advance(upload, 2)
            assert nulls(change.update) == []
            assert nulls(asset_advance(upload.asset.deleted(NOW)).update) == []


def test_each_change_is_recognised_by_an_id_of_its_own() -> None:
    """Each entry of the history has one, and so has each change of an asset."""
    upload = whole()
    document = upload_document(upload)
    ids = [entry["id"] for entry in document["history"]]
    assert len(set(ids)) == len(upload.history)
    assert upload_advance(upload, 2).change_id != upload_advance(upload, 2).change_id
    document["asset"]["change_ids"] = [b"1", b"2"]
    assert change_ids_of(document) == {*ids, b"1", b"2"}


def test_what_routes_a_change_lies_at_the_top_and_changes_with_it() -> None:
    """A change stream names only top-level fields whose value an update changed."""
    upload = whole()
    update = upload_advance(upload, 2).update["$set"]
    assert update["route"] == {"revision": 4, "session_id": "phone", "uid": "7f3a"}
    assert update["asset_route"] == {"revision": 1, "partition": "team/2"}
    assert upload.asset is not None
    update = asset_advance(upload.asset.refreshed(NOW)).update["$set"]
    assert update["asset_route"] == {"revision": 2, "partition": "team/2"}
    assert not {"route", "revision", "status"} & update.keys()


NEWER: dict[str, Callable[[Document], object]] = {
    "a field": lambda one: one.update(held_for="a verdict"),
    "a field of a variant": lambda one: one["variants"][0].update(encryption="kms"),
    "a field of the asset": lambda one: one["asset"].update(verdict={"by": "ann"}),
    "a field of an asset's variant": lambda one: one["asset"]["variants"][1].update(tier="cold"),
    "a field of the details": lambda one: one["details"].update(rating=5),
    "a field of the history": lambda one: one["history"][2].update(by="ann"),
    "a field of the cut plan": lambda one: one["cut_plan"].update(crop="face"),
    "a status in the history": lambda one: one["history"].insert(
        3, {"id": b"9", "revision": 4, "status": "HELD", "time": NOW}
    ),
    "another schema": lambda one: one.update(schema=SCHEMA + 1),
    "marks of another kind": lambda one: one.update(marks=["7 other"]),
}


@pytest.mark.parametrize("change", NEWER.values(), ids=NEWER)
def test_what_a_newer_version_added_is_ignored(change: Callable[[Document], object]) -> None:
    """The record says what it said before."""
    document = stored(upload_document(whole()))
    change(document)
    if any(entry["status"] == "HELD" for entry in document["history"]):
        document["history"][4]["revision"] = document["revision"] = 5
        found = upload_of(stored(document))
        assert [one.revision for one in found.history] == [1, 2, 3, 5]
        assert [one.status for one in found.after(2)] == ["UPLOADED", "COMPLETED"]
        return
    assert upload_of(stored(document)) == whole()


BROKEN: dict[str, Callable[[Document], object]] = {
    "an unknown status": lambda one: one.update(status="HELD"),
    "a history that does not end with the status": lambda one: one["history"].pop(),
    "no history": lambda one: one.pop("history"),
    "an empty history": lambda one: one["history"].clear(),
    "no owner": lambda one: one.pop("uid"),
    "a number for a name": lambda one: one.update(uid=7),
    "a text for an instant": lambda one: one.update(create_time="today"),
    "variants that are none": lambda one: one.update(variants="all of them"),
    "an unknown format of cuts": lambda one: one["cut_plan"].update(format="JXL"),
    "an asset that is none": lambda one: one.update(asset=[]),
    "an asset without its variants": lambda one: one["asset"].pop("variants"),
    "an upload of version 0.1.0": lambda one: (one.pop("request_key"), one.pop("schema")),
    "nothing but an id": lambda one: [one.pop(name) for name in list(one) if name != "_id"],
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read_raises_one_exception(damage: Callable[[Document], object]) -> None:
    """Whatever it is: who reads many records skips it."""
    document = stored(upload_document(whole()))
    damage(document)
    with pytest.raises(RecordUnreadable):
        upload_of(document)


@given(st.data())
def test_whatever_a_field_holds_is_read_or_refused(data: st.DataObject) -> None:
    """Any value in any field gives an upload or RecordUnreadable, and no other error."""
    document = stored(upload_document(whole()))
    junk = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )
    name = data.draw(st.sampled_from(sorted(document)))
    document[name] = data.draw(junk)
    try:
        assert isinstance(upload_of(document), Upload)
    except RecordUnreadable:
        assert name != "schema"


def test_progress_comes_back_or_is_refused() -> None:
    """A stage that is not known yet is no reason to stop."""
    progress = Progress("u", "s", "ann", Stage.CUTTING, {"original": 1}, {"original": 2}, NOW)
    document = stored(progress_document(progress))
    assert progress_of(document) == progress
    for damage in ({"stage": "SCANNING"}, {"variants": 7}, {"uid": ...}):
        broken = {name: value for name, value in {**document, **damage}.items() if value is not ...}
        with pytest.raises(RecordUnreadable):
            progress_of(broken)
