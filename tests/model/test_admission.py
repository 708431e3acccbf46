"""What a request may hold: each field against its limit."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.refusals import numbers_in
from tests.uploads.samples import ID, NOW, PICTURE, requested

from assetlane_server.model.admission import Terms, UploadRequest, admit
from assetlane_server.model.errors import InvalidRequest
from assetlane_server.model.extensions import ENDINGS
from assetlane_server.model.media_types import parse_media_type
from assetlane_server.model.parts import MAX_OBJECT_BYTES
from assetlane_server.model.paths import fault_in_path, object_key, upload_id_of
from assetlane_server.model.upload import Details, Notice, Status, VariantPromise, request_digest

ORIGINAL = VariantPromise("original", "image/jpeg", 1)


def variant(**changes: Any) -> dict[str, Any]:
    """Returns a change of the request: its only variant, changed."""
    return {"variants": (replace(ORIGINAL, **changes),)}


def nested(levels: int) -> dict[str, object]:
    """Returns an extra of that many levels."""
    extra: dict[str, object] = {}
    for _ in range(levels - 1):
        extra = {"deeper": extra}
    return extra


Limits = set[float]
# The field, why it is refused, the numbers that its message gives, and the change of the request.
BAD: list[tuple[str, str, Limits, dict[str, Any]]] = [
    ("file_path", "REQUIRED", set(), {"file_path": ""}),
    ("file_path", "DOTS", set(), {"file_path": "a/../../b"}),
    ("file_path", "DOTS", set(), {"file_path": "./a"}),
    ("file_path", "EMPTY_PART", set(), {"file_path": "a//b"}),
    ("file_path", "EMPTY_PART", set(), {"file_path": "/etc/passwd"}),
    ("file_path", "EMPTY_PART", set(), {"file_path": "a/"}),
    ("file_path", "CHARACTER_NOT_ALLOWED", set(), {"file_path": "a\0b"}),
    ("file_path", "CHARACTER_NOT_ALLOWED", set(), {"file_path": "a\nb"}),
    ("file_path", "CHARACTER_NOT_ALLOWED", set(), {"file_path": "a\\..\\b"}),
    ("file_path", "TOO_LONG", {1025, 1024}, {"file_path": "a" * 1025}),
    ("file_path", "TOO_LONG", {1026, 1024}, {"file_path": "é" * 513}),
    ("file_path", "NOT_NFC", set(), {"file_path": "e\u0301.jpg"}),
    ("file_path", "TOO_LONG", {1024}, {"file_path": "a" * 1000 + "/b"}),  # the key that it makes
    ("partition", "DOTS", set(), {"partition": "user/.."}),
    ("partition", "TOO_LONG", {257, 256}, {"partition": "p" * 257}),
    ("partition", "DOTS", set(), {"uid": ".."}),
    ("asset_partition", "EMPTY_PART", set(), {"asset_partition": "/public"}),
    ("uid", "REQUIRED", set(), {"uid": ""}),
    ("uid", "TOO_LONG", {129, 128}, {"uid": "u" * 129, "partition": "public"}),
    ("request_id", "TOO_LONG", {129, 128}, {"request_id": "r" * 129}),
    ("request_id", "CHARACTER_NOT_ALLOWED", set(), {"request_id": "r\n"}),
    ("session_id", "TOO_LONG", {130, 128}, {"session_id": "ü" * 65}),
    ("expiration_hours", "OUT_OF_RANGE", {1, 168}, {"expiration_hours": -1.0}),
    ("expiration_hours", "OUT_OF_RANGE", {1, 168}, {"expiration_hours": float("nan")}),
    ("expiration_hours", "OUT_OF_RANGE", {1, 168}, {"expiration_hours": float("inf")}),
    ("expiration_hours", "OUT_OF_RANGE", {1, 168}, {"expiration_hours": 168.001}),
    ("expiration_hours", "OUT_OF_RANGE", {1, 168}, {"expiration_hours": 0.0001}),
    ("details.title", "TOO_LONG", {1025, 1024}, {"details": Details(title="t" * 1025)}),
    ("details.caption", "TOO_LONG", {8193, 8192}, {"details": Details(caption="c" * 8193)}),
    ("details.caption", "NUL_CHARACTER", set(), {"details": Details(caption="c\0")}),
    ("details.color", "MALFORMED", set(), {"details": Details(color="blue")}),
    ("details.duration", "OUT_OF_RANGE", {0}, {"details": Details(duration=timedelta(seconds=-1))}),
    ("details.extra", "TOO_LONG", {16_385, 16_384}, {"extra_size_bytes": 16_385}),
    ("details.extra", "TOO_DEEP", {32}, {"details": Details(extra=nested(33))}),
    ("details.extra", "NUL_CHARACTER", set(), {"details": Details(extra={"a": [{"b\0": 1}]})}),
    ("variants", "WRONG_COUNT", {0, 1, 16}, {"variants": ()}),
    (
        "variants",
        "WRONG_COUNT",
        {17, 1, 16},
        {"variants": tuple(replace(ORIGINAL, name=f"v{i}") for i in range(17))},
    ),
    ("variants", "NO_ORIGINAL", set(), variant(name="small")),
    ("variants[1].name", "TWICE", set(), {"variants": (ORIGINAL, ORIGINAL)}),
    ("variants[1].name", "MALFORMED", {1, 32}, {"variants": (ORIGINAL, replace(ORIGINAL, name="../x"))}),
    ("variants[1].name", "MALFORMED", {1, 32}, {"variants": (ORIGINAL, replace(ORIGINAL, name=""))}),
    # A content type has the reasons of NotAMediaType.
    ("variants[0].content_type", "EMPTY", set(), variant(content_type="")),
    ("variants[0].content_type", "NO_SLASH", set(), variant(content_type="image")),
    ("variants[0].content_type", "CHARACTER_NOT_ALLOWED", {11}, variant(content_type="image/jpeg\r\nx-evil: 1")),
    ("variants[0].content_type", "WILDCARD", set(), variant(content_type="image/*")),
    ("variants[0].content_type", "CHARACTER_NOT_ALLOWED", {14}, variant(content_type="image/bild-größe")),
    ("variants[0].content_type", "TOO_LONG", {256, 255}, variant(content_type="text/" + "x" * 251)),
    ("variants[0].size_bytes", "OUT_OF_RANGE", {5, 0}, variant(size_bytes=-5)),
    ("variants[0].size_bytes", "OUT_OF_RANGE", {0, 53_687_091_200_000}, variant(size_bytes=MAX_OBJECT_BYTES + 1)),
    ("variants[0].sha256", "WRONG_LENGTH", {31, 32}, variant(sha256=b"x" * 31)),
    ("variants[0].width_px", "OUT_OF_RANGE", {0, 1_000_000}, variant(width_px=-1)),
    ("variants[0].height_px", "OUT_OF_RANGE", {0, 1_000_000}, variant(height_px=1_000_001)),
    ("notices", "WRONG_COUNT", {17, 16}, {"notices": (Notice("A", ""),) * 17}),
    ("notices[1].reason", "MALFORMED", {1, 64}, {"notices": (Notice("A", ""), Notice("", "No reason."))}),
    ("notices[0].reason", "MALFORMED", {1, 64}, {"notices": (Notice("A" * 65, ""),)}),
    ("notices[0].reason", "MALFORMED", {1, 64}, {"notices": (Notice("image_broken", ""),)}),
    ("notices[0].reason", "MALFORMED", {1, 64}, {"notices": (Notice("_A", ""),)}),
    ("notices[0].reason", "MALFORMED", {1, 64}, {"notices": (Notice("A\n", ""),)}),
    ("notices[0].reason", "MALFORMED", {1, 64}, {"notices": (Notice("Ä", ""),)}),
    ("notices[0].message", "TOO_LONG", {1025, 1024}, {"notices": (Notice("A", "ö" * 512 + "."),)}),
    ("notices[0].message", "NUL_CHARACTER", set(), {"notices": (Notice("A", "a\0"),)}),
]


@pytest.mark.parametrize(
    ("field", "reason", "limits", "changes"), BAD, ids=[f"{field}: {reason}" for field, reason, _, _ in BAD]
)
def test_a_bad_field_is_named_with_its_limit(field: str, reason: str, limits: Limits, changes: dict[str, Any]) -> None:
    """Each bad field alone is refused, and nothing but it is blamed."""
    with pytest.raises(InvalidRequest) as refused:
        requested(**changes)
    (violation,) = refused.value.violations
    assert (violation.field, violation.reason) == (field, reason)
    assert numbers_in(violation.limit) >= limits


def test_without_public_assets_none_may_be_public() -> None:
    """The field and the way out are named; all else is admitted."""
    private = Terms(public_assets=False)
    with pytest.raises(InvalidRequest) as refused:
        admit(replace(PICTURE, expiration_hours=0.0), private, ID, NOW)
    (violation,) = refused.value.violations
    assert (violation.field, violation.reason) == ("expiration_hours", "PRIVATE_ONLY")
    assert numbers_in(violation.limit) == {0, 168}
    assert admit(replace(PICTURE, expiration_hours=168.0), private, ID, NOW).status is Status.PENDING
    assert admit(replace(PICTURE, expiration_hours=None), private, ID, NOW).status is Status.PENDING


def test_all_bad_fields_are_named_at_once() -> None:
    """A caller fixes a request in one go."""
    with pytest.raises(InvalidRequest) as refused:
        requested(file_path="", expiration_hours=-1.0, **variant(size_bytes=-1))
    assert {violation.field for violation in refused.value.violations} == {
        "file_path", "expiration_hours", "variants[0].size_bytes",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"file_path": "a" * 600},
        {"file_path": "Fotos/Grüße 🏝/…/it's (1) + 100%.JPG"},
        {"expiration_hours": 1 / 3600},
        {"expiration_hours": 168.0},
        {"details": Details(extra=nested(32))},
        {"extra_size_bytes": 16_384},
        variant(size_bytes=0),
        variant(size_bytes=MAX_OBJECT_BYTES),
        variant(content_type='text/plain; charset="utf-8";format=flowed'),
        {"notices": (Notice("A" * 64, "ö" * 512), Notice("A_1", "")) * 8},
        variant(content_type="image/jpeg;  q=1"),
        variant(name="a" * 32) | {"variants": (ORIGINAL, replace(ORIGINAL, name="a" * 32))},
    ],
)
def test_what_is_at_its_limit_is_admitted(changes: dict[str, Any]) -> None:
    """Limits are inclusive."""
    assert requested(**changes).status is Status.PENDING


def test_defaults_are_private_and_a_day() -> None:
    """A missing expiry means private for 24 hours; a missing partition is the caller's own."""
    upload = requested()
    assert upload.expiration_hours == 24
    assert not upload.is_public
    assert upload.partition == upload.asset_partition == "user/7f3a"
    assert upload.expire_time == NOW + timedelta(hours=24)


def test_keys_are_the_servers() -> None:
    """Prefix, visibility, partition, folders, id and variant make a key; only zero hours make it public."""
    terms = Terms(key_prefix="prod/")
    private = admit(PICTURE, terms, ID, NOW)
    public = admit(replace(PICTURE, expiration_hours=0, asset_partition="team/42"), terms, ID, NOW)
    assert [one.key for one in private.variants] == [
        f"prod/private/user/7f3a/albums/2026/{ID}/original.jpg",
        f"prod/private/user/7f3a/albums/2026/{ID}/small.jpg",
    ]
    assert public.variants[0].key == f"prod/public/team/42/albums/2026/{ID}/original.jpg"


def test_a_key_ends_as_its_declared_type_does() -> None:
    """The caller's ending never gets into a key; neutral and unknown types have none."""
    keys = {
        path: requested(file_path=path, **variant(content_type=kind)).variants[0].key.rpartition("/")[2]
        for path, kind in [
            ("photo", "image/png"),
            ("photo.JPEG", "image/png"),
            (".hidden", "Text/Plain; charset=utf-8"),
            ("a.b c", "application/x-unheard-of"),
            ("archive.tar.gz", "application/gzip"),
            ("p.html", "application/octet-stream"),
            ("p.svg", "binary/octet-stream"),
            ("page.html", "image/jpeg"),
            ("clip.webm", "video/webm;codecs=vp8,opus"),
        ]
    }
    assert keys == {
        "photo": "original.png",
        "photo.JPEG": "original.png",
        ".hidden": "original.txt",
        "a.b c": "original",
        "archive.tar.gz": "original.gz",
        "p.html": "original",
        "p.svg": "original",
        "page.html": "original.jpg",
        "clip.webm": "original.webm",
    }


def test_keys_of_earlier_versions_are_still_ours() -> None:
    """They end as the file did."""
    for ending in (".html", ".JPG", ".x7", ""):
        assert upload_id_of(f"p/private/user/u/{ID}/original{ending}", "p/") == ID


def test_every_ending_is_one_that_a_key_can_have() -> None:
    """`upload_id_of` finds the upload of every key that this version makes, and the neutral types have none."""
    for content_type, ending in ENDINGS.items():
        assert str(parse_media_type(content_type)) == content_type
        assert upload_id_of(object_key(f"private/p/{ID}/", "original", content_type), "") == ID
        assert ending.startswith(".")
    assert not {"application/octet-stream", "binary/octet-stream"} & ENDINGS.keys()


def test_media_types_are_kept_in_one_form() -> None:
    """A repeat of a request in other words for the same type is the same request, records of old included."""
    upload = requested(**variant(content_type=" Video/WebM ;codecs=vp8,opus;"))
    assert upload.variants[0].content_type == 'video/webm; codecs="vp8,opus"'
    older = replace(upload, variants=(replace(upload.variants[0], content_type='video/webm;codecs="vp8,opus"'),))
    assert request_digest(upload) == request_digest(older)
    other = replace(upload, variants=(replace(upload.variants[0], content_type="video/webm"),))
    assert request_digest(upload) != request_digest(other)


@given(st.text(max_size=80), st.text(max_size=40))
def test_no_text_escapes_its_place(path: str, partition: str) -> None:
    """Whatever a caller writes: refused, or filed below its own partition and above its own id."""
    request = UploadRequest(uid="u", file_path=path, partition=partition, variants=(ORIGINAL,))
    try:
        key = admit(request, Terms(key_prefix="p/"), ID, NOW).variants[0].key
    except (InvalidRequest, UnicodeEncodeError):  # a lone surrogate, which no message can carry
        return
    place = f"p/private/{partition or 'user/u'}/"
    assert key.startswith(place)
    assert fault_in_path(key, 1024) is None
    assert key.removeprefix(place).split("/")[-2] == ID
