"""What counts as a proof, on a store in memory."""

import asyncio
import hashlib
from dataclasses import replace

import pytest
from tests.memory.object_store import MemoryObject, MemoryObjectStore
from tests.uploads.samples import NOW, QUARTER, requested

from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import Failure, Upload, VariantPromise
from assetlane_server.uploads.proving import SMALL_BYTES, Prover

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(40)
LARGE_JPEG = JPEG + bytes(SMALL_BYTES)
HTML = b"<!DOCTYPE html><html><body>a page</body></html>"
LIMIT_S = 20.0


class CountingStore(MemoryObjectStore):
    """Counts what is asked; with a gate set, HEADs are answered when so many wait.

    `reports_by_get`: whether the answer to a GET holds the checksum too.
    """

    heads = 0
    starts = 0
    wholes = 0
    reports_by_get = True
    gate: asyncio.Barrier | None = None

    async def head(self, key: str):  # type: ignore[no-untyped-def]
        """See ObjectStore."""
        self.heads += 1
        if self.gate is not None:
            await self.gate.wait()
        return await super().head(key)

    async def read_start(self, key: str, length_bytes: int) -> bytes:
        """See ObjectStore."""
        self.starts += 1
        return await super().read_start(key, length_bytes)

    async def read_small(self, key: str, limit_bytes: int) -> tuple[StoredObject, bytes] | None:
        """See ObjectStore."""
        self.wholes += 1
        stored = await MemoryObjectStore.head(self, key)
        if stored is None:
            return None
        if not self.reports_by_get:
            stored = replace(stored, sha256=b"")
        return stored, self.objects[key].data[:limit_bytes]


def promised(name: str, content: bytes, content_type: str = "image/jpeg", *, hashed: bool = True) -> VariantPromise:
    """A promise that the content keeps."""
    return VariantPromise(name, content_type, len(content), hashlib.sha256(content).digest() if hashed else b"")


def upload_of(*variants: VariantPromise) -> Upload:
    """An upload of these variants."""
    return requested(variants=variants, notices=())


async def put(store: MemoryObjectStore, upload: Upload, *contents: bytes) -> None:
    """Sends each variant as its write URL wants it."""
    for variant, content in zip(upload.variants, contents, strict=True):
        request = store.presign_put(variant, store.now, QUARTER)
        assert (await store.send(request, content)).status == 200


async def proof(store: MemoryObjectStore, upload: Upload, *, accept_mislabelled: bool = False) -> str:
    """The reason why there is no proof; empty: there is."""
    prover = Prover(store, accept_mislabelled=accept_mislabelled)
    failure = await prover.prove(upload, await prover.find(upload))
    return "" if not isinstance(failure, Failure) else f"{failure.reason} {failure.message.partition(':')[0]}"


async def test_what_was_promised_and_sent_is_proved() -> None:
    """One HEAD a variant, and first bytes only where a type can be recognized by them and there are any.

    A small object of such a type needs one request.
    """
    store = CountingStore()
    upload = upload_of(
        promised("original", LARGE_JPEG),
        promised("small", JPEG),
        promised("text", b"words", "text/plain"),
        promised("empty", b"", "text/css"),
        promised("blank", b"", "image/jpeg"),
    )
    await put(store, upload, LARGE_JPEG, JPEG, b"words", b"", b"")
    assert await proof(store, upload) == ""
    assert (store.heads, store.starts, store.wholes) == (4, 1, 1)


async def test_a_store_that_reports_checksums_with_a_head_only_is_asked_twice() -> None:
    """A promised checksum is looked for before it is missed."""
    store = CountingStore()
    store.reports_by_get = False
    upload = upload_of(promised("original", JPEG))
    await put(store, upload, JPEG)
    assert await proof(store, upload) == ""
    assert (store.heads, store.starts, store.wholes) == (1, 1, 1)
    altered(store, upload, sha256=bytes(32))
    assert await proof(store, upload) == "CHECKSUM_MISMATCH original"


async def test_all_variants_are_looked_at_at_once() -> None:
    """No HEAD waits for another one's answer."""
    store = CountingStore()
    upload = upload_of(*(promised(name, LARGE_JPEG) for name in ("original", "small", "medium", "large")))
    await put(store, upload, *[LARGE_JPEG] * 4)
    store.gate = asyncio.Barrier(4)
    async with asyncio.timeout(LIMIT_S):
        assert await proof(store, upload) == ""


@pytest.mark.parametrize("name", ["original", "small", "preview"])
async def test_the_first_bytes_of_any_variant_belie_its_type(name: str) -> None:
    """A page, a program: under a picture's type nobody may store them. Where mislabelling is accepted they pass."""
    names = ["original", "small", "preview"]
    for content in (HTML, b"MZ" + bytes(60), b"\x7fELF" + bytes(60)):
        store = CountingStore()
        contents = [content if one == name else JPEG for one in names]
        upload = upload_of(*(promised(one, body) for one, body in zip(names, contents, strict=True)))
        await put(store, upload, *contents)
        assert await proof(store, upload) == f"CONTENT_TYPE_MISMATCH {name}"
        before = store.starts, store.wholes
        assert await proof(store, upload, accept_mislabelled=True) == ""
        assert (store.starts, store.wholes) == before


@pytest.mark.parametrize("content", [JPEG, LARGE_JPEG], ids=["small", "large"])
async def test_a_variant_that_is_gone_is_lost(content: bytes) -> None:
    """An object that was found and is gone when the proof reads it fails the upload as VARIANT_LOST."""
    store = CountingStore()
    upload = upload_of(promised("original", JPEG), promised("small", content))
    await put(store, upload, JPEG, content)
    await store.delete([upload.variants[1].key])
    assert await proof(store, upload) == "VARIANT_LOST small"


def altered(store: MemoryObjectStore, upload: Upload, **changes: object) -> None:
    """Puts another object in the place of the first variant, as nothing that keeps to its write URL can."""
    key = upload.variants[0].key
    found: MemoryObject = store.objects[key]
    store.objects[key] = replace(found, **changes)  # type: ignore[arg-type]  # a test's fields


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": JPEG + b"!"}, "SIZE_MISMATCH original"),
        ({"headers": {"content-type": "text/html"}}, "CONTENT_TYPE_MISMATCH original"),
        ({"sha256": bytes(32)}, "CHECKSUM_MISMATCH original"),
        ({"sha256": b""}, "CHECKSUM_MISSING original"),
    ],
    ids=["size", "type", "checksum", "no checksum"],
)
async def test_another_object_than_the_promised_one_is_no_proof(changes: dict[str, object], reason: str) -> None:
    """Each difference fails the upload with its reason, a missing checksum too where the store reports them."""
    store = CountingStore()
    upload = upload_of(promised("original", JPEG))
    await put(store, upload, JPEG)
    altered(store, upload, **changes)
    assert await proof(store, upload) == reason


async def test_a_checksum_that_nobody_can_expect_is_not_missed() -> None:
    """None was promised, the store reports none, or the object arrived in parts: the upload is proved without it."""
    upload = upload_of(promised("original", JPEG, hashed=False))
    store = CountingStore()
    await put(store, upload, JPEG)
    assert await proof(store, upload) == ""

    upload = upload_of(promised("original", JPEG))
    silent = CountingStore(reports_sha256=False)
    await put(silent, upload, JPEG)
    assert await proof(silent, upload) == ""

    in_parts = replace(upload, variants=(replace(upload.variants[0], part_size_bytes=5 * 1024**2),))
    altered(store, replace(upload), sha256=b"")
    assert await proof(store, in_parts) == ""


async def test_a_store_that_is_down_is_no_proof_of_anything() -> None:
    """The proof raises StoreUnavailable, so that it is tried again: the upload does not fail."""
    store = CountingStore(lambda: NOW)
    upload = upload_of(promised("original", JPEG), promised("small", JPEG))
    await put(store, upload, JPEG, JPEG)
    store.is_down = True
    with pytest.raises(StoreUnavailable):
        await proof(store, upload)
