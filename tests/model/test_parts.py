"""How a large object is cut into parts, and what may be asked about them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.refusals import raises
from tests.uploads.samples import ID, NOW, PICTURE, requested

from assetlane_server.model.admission import Terms, admit
from assetlane_server.model.errors import InvalidRequest
from assetlane_server.model.parts import (
    MAX_OBJECT_BYTES,
    MAX_PARTS,
    MAX_SIGNED_PARTS,
    MAX_SINGLE_PUT_BYTES,
    MIB,
    MIN_PART_BYTES,
    PartPromise,
    StoredPart,
    are_whole,
    check_promises,
    largest_object,
    multipart_variant,
    part_bytes,
    part_count,
    part_size_for,
)
from assetlane_server.model.upload import Upload, VariantPromise, request_digest

FILM = VariantPromise("original", "video/mp4", 64 * MIB + 1, promises_parts=True)
SUM = b"\x01" * 32


def cut(size_bytes: int = 40 * MIB + 1, wanted_bytes: int = 16 * MIB) -> VariantPromise:
    """A variant in parts."""
    return replace(FILM, size_bytes=size_bytes, part_size_bytes=part_size_for(size_bytes, wanted_bytes))


@given(
    share=st.floats(0, 1),
    wanted_bytes=st.integers(MIN_PART_BYTES, MAX_SINGLE_PUT_BYTES),
    max_parts=st.sampled_from([1, 3, 1_000, 9_999, MAX_PARTS]),
)
def test_any_object_is_cut_into_parts_that_the_store_takes(share: float, wanted_bytes: int, max_parts: int) -> None:
    """At most so many, each within S3's limits, and together exactly the object."""
    size_bytes = max(1, round(share * largest_object(max_parts)))
    variant = replace(FILM, size_bytes=size_bytes, part_size_bytes=part_size_for(size_bytes, wanted_bytes, max_parts))
    count = part_count(variant)
    assert 1 <= count <= max_parts
    assert wanted_bytes <= variant.part_size_bytes <= MAX_SINGLE_PUT_BYTES
    assert 1 <= part_bytes(variant, count) <= variant.part_size_bytes
    assert (count - 1) * variant.part_size_bytes + part_bytes(variant, count) == size_bytes


def admitted(terms: Terms, size_bytes: int) -> Upload:
    """Returns the upload of a film of this size."""
    return admit(replace(PICTURE, variants=(replace(FILM, size_bytes=size_bytes),)), terms, ID, NOW)


def test_the_largest_object_of_s3_is_48_8_tib() -> None:
    """10,000 parts of 5 GiB, exactly."""
    assert MAX_OBJECT_BYTES == 53_687_091_200_000
    assert cut(MAX_OBJECT_BYTES).part_size_bytes == MAX_SINGLE_PUT_BYTES
    assert part_count(cut(MAX_OBJECT_BYTES)) == MAX_PARTS
    assert part_count(cut(5 * 1024**4)) <= MAX_PARTS


def test_a_store_of_a_thousand_parts_gets_a_thousand_at_most() -> None:
    """Its parts are larger, and an object that does not fit is refused with the limit."""
    terms = Terms(multipart_max_parts=1_000, max_upload_bytes=largest_object(1_000))
    (variant,) = admitted(terms, 100 * 1024**3).variants
    assert (part_count(variant), variant.part_size_bytes) == (995, 103 * MIB)
    with raises(InvalidRequest, field="variants[0].size_bytes", limits=[5_368_709_120_000]):
        admitted(terms, largest_object(1_000) + 1)


def test_a_variant_arrives_in_parts_from_the_threshold_on() -> None:
    """One byte less is a single PUT; nothing at all is one too."""
    sizes = [0, 64 * MIB - 1, 64 * MIB]
    variants = tuple(replace(FILM, name=name, size_bytes=size) for name, size in zip("xyz", sizes, strict=True))
    upload = requested(variants=(FILM, *variants))
    assert [one.part_size_bytes for one in upload.variants] == [16 * MIB, 0, 0, 16 * MIB]
    assert upload.is_multipart
    assert not requested().is_multipart


def test_the_same_words_are_alike_whatever_the_settings_have_become() -> None:
    """A repeat after the operator changed the size of parts is the same request."""
    upload = requested(variants=(FILM,))
    other = replace(upload, variants=(replace(upload.variants[0], part_size_bytes=5 * MIB),))
    assert request_digest(upload) == request_digest(other)
    assert request_digest(upload) != request_digest(requested(variants=(replace(FILM, promises_parts=False),)))


def test_parts_are_whole_only_with_every_number_and_size() -> None:
    """A missing one, a wrong size, one too many: not whole."""
    variant = cut()
    parts = [StoredPart(number, part_bytes(variant, number), "") for number in (1, 2, 3)]
    assert [part.size_bytes for part in parts] == [16 * MIB, 16 * MIB, 8 * MIB + 1]
    assert are_whole(variant, parts)
    assert not are_whole(variant, parts[:2])
    assert not are_whole(variant, [parts[0], parts[2]])
    assert not are_whole(variant, [*parts[:2], replace(parts[2], size_bytes=8 * MIB)])
    assert not are_whole(variant, [*parts, StoredPart(4, 1, "")])


@pytest.mark.parametrize(
    ("promises", "fields"),
    [
        ([], ["parts"]),
        ([PartPromise(1, SUM)] * (MAX_SIGNED_PARTS + 1), ["parts"]),
        ([PartPromise(0, SUM), PartPromise(4, SUM)], ["parts[0].part_number", "parts[1].part_number"]),
        ([PartPromise(1, SUM), PartPromise(1, SUM)], ["parts[1].part_number"]),
        ([PartPromise(1)], ["parts[0].sha256"]),
        ([PartPromise(1, b"short")], ["parts[0].sha256"]),
    ],
)
def test_a_promise_that_cannot_be_signed_is_named(promises: list[PartPromise], fields: list[str]) -> None:
    """Each bad field, and nothing else."""
    check_promises(cut(), [PartPromise(1, SUM), PartPromise(3, SUM)])
    with pytest.raises(InvalidRequest) as refused:
        check_promises(cut(), promises)
    assert [violation.field for violation in refused.value.violations] == fields


def test_a_sha256_that_was_not_announced_is_refused() -> None:
    """Stores refuse it as well: all parts or none."""
    variant = replace(cut(), promises_parts=False)
    check_promises(variant, [PartPromise(1)])
    with raises(InvalidRequest, field="parts[0].sha256"):
        check_promises(variant, [PartPromise(1, SUM)])


@pytest.mark.parametrize("name", ["small", "nothing", ""])
def test_only_variants_in_parts_have_parts(name: str) -> None:
    """A single PUT and an unknown name are both refused, naming what would be right."""
    upload = requested(variants=(FILM, PICTURE.variants[1]))
    assert multipart_variant(upload, "original").name == "original"
    with raises(InvalidRequest, field="variant", names=["original"]):
        multipart_variant(upload, name)
