"""The signer against AWS's published example and against botocore, its oracle."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
import botocore.auth
import botocore.credentials
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.refusals import raises

from assetlane_server.objects.s3.sigv4 import MAX_LIFETIME, Addressing, Credentials, Presigner

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

# What botocore leaves unsigned, or sets itself, has no oracle.
WITHOUT_ORACLE = {
    *botocore.auth.SIGNED_HEADERS_BLACKLIST,
    *("host", "date", "authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"),
}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60) | st.sampled_from(
    ["a b+c%41", "%2F", "a//b", "/a", "ü/ö", "'\"<>&", "~-_.", "a/../b", "?x=1#y", "\x00\n"]
)
buckets = st.from_regex(r"[a-z][a-z0-9-]{1,20}[a-z0-9]", fullmatch=True)
regions = st.sampled_from(["us-east-1", "eu-west-1", "ap-southeast-2", "cn-north-1", "auto"])
host_names = st.sampled_from(
    [
        "https://s3.eu-west-1.amazonaws.com",
        "https://storage.example:443/",
        "http://storage.example:80",
        "http://storage.example:443",
        "https://storage.example/s3",
        "https://Storage.Example",
    ]
)
ip_addresses = st.sampled_from(["http://127.0.0.1:8333", "https://[::1]:9000", "http://[::1]"])
addresses = st.tuples(host_names, st.sampled_from(["path", "virtual"])) | st.tuples(ip_addresses, st.just("path"))
lifetimes = st.integers(1, 604_800).map(lambda seconds: timedelta(seconds=seconds))
instants = st.datetimes(
    min_value=datetime(1971, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    max_value=datetime(2199, 12, 31),  # noqa: DTZ001
    timezones=st.timezones(),
)
credentials = st.builds(
    Credentials,
    access_key_id=st.text("ABCDEFGHIJ0123456789/+ ", min_size=1, max_size=20),
    secret_access_key=texts,
    session_token=st.just("") | st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=80),
)
names = st.from_regex(r"[A-Za-z0-9_!#$*.^|~+-]{1,20}", fullmatch=True).filter(
    lambda name: name.lower() not in WITHOUT_ORACLE
)
header_sets = st.dictionaries(
    names | st.sampled_from(["content-type", "content-length", "If-None-Match", "x-amz-checksum-sha256"]),
    st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" \t"), max_size=40),
    max_size=6,
).filter(lambda headers: len({name.lower() for name in headers}) == len(headers))
queries = st.dictionaries(
    st.sampled_from(["response-content-disposition", "partNumber", "A", "x", "uploadId", "ü"]) | names,
    texts,
    max_size=3,
)


def as_botocore(signer: Credentials) -> botocore.credentials.ReadOnlyCredentials:
    """The same credentials in botocore's own type."""
    return botocore.credentials.ReadOnlyCredentials(
        signer.access_key_id, signer.secret_access_key, signer.session_token or None
    )


def frozen(signed_at: datetime) -> pytest.MonkeyPatch:
    """Stops the clock that botocore signs with."""
    patch = pytest.MonkeyPatch()
    instant = signed_at.astimezone(UTC)
    patch.setattr(botocore.auth, "get_current_datetime", lambda *_args, **_options: instant)
    return patch


def signed_by_botocore(
    method: str,
    url: str,
    region: str,
    signer: Credentials,
    signed_at: datetime,
    lifetime: timedelta,
    headers: Mapping[str, str],
    query: Mapping[str, str],
) -> str:
    """What S3SigV4QueryAuth makes of an unsigned URL."""
    request = AWSRequest(method=method, url=url, headers=dict(headers), params=dict(query))
    auth = botocore.auth.S3SigV4QueryAuth(as_botocore(signer), "s3", region, expires=int(lifetime.total_seconds()))
    patch = frozen(signed_at)
    try:
        auth.add_auth(request)
    finally:
        patch.undo()
    return str(request.url)


def parts(url: str) -> tuple[str, str, str, list[tuple[str, str]]]:
    """A URL, whatever the order of its query."""
    scheme, netloc, path, query, _ = urlsplit(url)
    return scheme, netloc, path, sorted(parse_qsl(query, keep_blank_values=True, strict_parsing=True))


@lru_cache(maxsize=64)
def client(region: str, addressing: Addressing, endpoint: str) -> Any:
    """A boto3 client; making one costs more than all its signatures."""
    return boto3.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=EXAMPLE.access_key_id,
        aws_secret_access_key=EXAMPLE.secret_access_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": addressing},
            request_checksum_calculation="when_required",
        ),
    )


def test_the_example_of_the_specification_has_its_published_signature() -> None:
    """GET examplebucket/test.txt, as in "Authenticating Requests: Using Query Parameters"."""
    presigner = Presigner("https://s3.amazonaws.com", "examplebucket", "us-east-1", "virtual")

    url = presigner.presign("GET", "test.txt", EXAMPLE, datetime(2013, 5, 24, tzinfo=UTC), timedelta(seconds=86400))

    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt"
        "?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from(["PUT", "GET", "HEAD", "DELETE", "POST"]),
    address=addresses,
    bucket=buckets,
    region=regions,
    key=keys,
    signer=credentials,
    signed_at=instants,
    lifetime=lifetimes,
    headers=header_sets,
    query=queries,
)
def test_every_url_is_the_one_that_botocore_signs(
    method: str,
    address: tuple[str, Addressing],
    bucket: str,
    region: str,
    key: str,
    signer: Credentials,
    signed_at: datetime,
    lifetime: timedelta,
    headers: dict[str, str],
    query: dict[str, str],
) -> None:
    """Any method, headers, query, key, instant and credentials: the same parameters, the same signature."""
    endpoint, addressing = address
    presigner = Presigner(endpoint, bucket, region, addressing)

    ours = presigner.presign(method, key, signer, signed_at, lifetime, headers, query)

    theirs = signed_by_botocore(method, presigner.url(key), region, signer, signed_at, lifetime, headers, query)
    assert parts(ours) == parts(theirs)


@settings(max_examples=150, deadline=None)
@given(
    endpoint=st.sampled_from(["https://s3.eu-west-1.amazonaws.com", "http://storage.example:8333"]),
    bucket=buckets,
    region=st.sampled_from(["us-east-1", "eu-west-1"]),
    addressing=st.sampled_from(["path", "virtual"]),
    key=keys,
    signed_at=instants,
    lifetime=lifetimes,
    size_bytes=st.integers(0, 5 * 1024**3),
    content_type=st.sampled_from(["image/jpeg", 'video/webm; codecs="vp8, opus"', "application/octet-stream"]),
    sha256=st.none() | st.binary(min_size=32, max_size=32).map(lambda digest: digest.hex()),
    name=st.sampled_from(["attachment", "inline; filename=\"a b;_.txt\"; filename*=UTF-8''a%20b%3B%C3%BC.txt"]),
    kms_key_id=st.sampled_from(["", "1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:x:1:key/x", "alias/x"]),
)
def test_a_write_url_is_the_one_that_a_boto3_client_generates(
    endpoint: str,
    bucket: str,
    region: str,
    addressing: Addressing,
    key: str,
    signed_at: datetime,
    lifetime: timedelta,
    size_bytes: int,
    content_type: str,
    sha256: str | None,
    name: str,
    kms_key_id: str,
) -> None:
    """The whole way from bucket and key: addressing and the encoding of the key are boto3's too."""
    headers = {
        "content-type": content_type,
        "content-length": str(size_bytes),
        "if-none-match": "*",
        "content-disposition": name,
        "cache-control": "private",
    }
    parameters = {
        "ContentType": content_type,
        "ContentLength": size_bytes,
        "IfNoneMatch": "*",
        "ContentDisposition": name,
        "CacheControl": "private",
    }
    if kms_key_id:
        headers["x-amz-server-side-encryption"] = parameters["ServerSideEncryption"] = "aws:kms"
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = parameters["SSEKMSKeyId"] = kms_key_id
    if sha256 is not None:
        headers["x-amz-checksum-sha256"] = parameters["ChecksumSHA256"] = sha256

    ours = Presigner(endpoint, bucket, region, addressing).presign("PUT", key, EXAMPLE, signed_at, lifetime, headers)

    patch = frozen(signed_at)
    try:
        theirs = client(region, addressing, endpoint).generate_presigned_url(
            "put_object",
            Params={"Bucket": bucket, "Key": key, **parameters},
            ExpiresIn=int(lifetime.total_seconds()),
        )
    finally:
        patch.undo()
    assert parts(ours) == parts(theirs)


def test_urls_signed_on_two_days_and_with_two_credentials_do_not_share_a_key() -> None:
    """The cached signing key is one of a day and of credentials, whatever order they come in."""
    presigner = Presigner("https://s3.example", "bucket", "eu-west-1")
    other = Credentials(EXAMPLE.access_key_id, "another secret")
    for signer in (EXAMPLE, other, EXAMPLE):
        for signed_at in (NOON, NOON + timedelta(days=1), NOON):
            ours = presigner.presign("GET", "key", signer, signed_at, MINUTE)
            url = presigner.url("key")
            theirs = signed_by_botocore("GET", url, "eu-west-1", signer, signed_at, MINUTE, {}, {})
            assert parts(ours) == parts(theirs)


def test_the_cache_of_signing_keys_is_bounded() -> None:
    """Credentials that change every hour do not pile up for as long as the server runs."""
    presigner = Presigner("https://s3.example", "bucket", "eu-west-1")
    for number in range(1000):
        presigner.presign("GET", "key", Credentials(f"AKID{number}", "secret"), NOON, MINUTE)
    assert len(presigner._days) <= 64


def test_the_fraction_of_a_second_does_not_change_the_url() -> None:
    """Signed instants are whole seconds."""
    presigner = Presigner("https://s3.example", "bucket", "eu-west-1")

    late = presigner.presign("GET", "key", EXAMPLE, NOON.replace(microsecond=999_999), MINUTE)

    assert late == presigner.presign("GET", "key", EXAMPLE, NOON, MINUTE)


@pytest.mark.parametrize(
    "lifetime",
    [timedelta(0), -MINUTE, timedelta(seconds=1.5), timedelta(microseconds=1), MAX_LIFETIME + MINUTE],
    ids=str,
)
def test_a_lifetime_that_is_not_1_to_604800_whole_seconds_is_refused(lifetime: timedelta) -> None:
    """Stores refuse such URLs later: better now."""
    presigner = Presigner("https://s3.example", "bucket", "eu-west-1")
    with raises(ValueError, limits=[1, 604_800]):
        presigner.presign("GET", "key", EXAMPLE, NOON, lifetime)


def test_an_instant_without_a_time_zone_is_refused() -> None:
    """It would be read as local time."""
    presigner = Presigner("https://s3.example", "bucket", "eu-west-1")
    with raises(ValueError, names=["signed_at"]):
        presigner.presign("GET", "key", EXAMPLE, NOON.replace(tzinfo=None), MINUTE)


def test_an_empty_key_is_refused() -> None:
    """A URL of the bucket itself is never meant."""
    presigner = Presigner("https://s3.example", "bucket", "eu-west-1")
    with raises(ValueError, names=["key"]):
        presigner.presign("GET", "", EXAMPLE, NOON, MINUTE)


@pytest.mark.parametrize("endpoint", ["", "s3.example", "ftp://s3.example", "https://", "https://s3.example?x=1"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    """A missing scheme would otherwise sign URLs of nowhere."""
    with raises(ValueError, names=["endpoint"]):
        Presigner(endpoint, "bucket", "eu-west-1")


def test_an_ip_address_has_no_virtual_hosts() -> None:
    """`bucket.127.0.0.1` is no address; boto3 would silently sign another one."""
    with raises(ValueError, names=["http://127.0.0.1:8333"]):
        Presigner("http://127.0.0.1:8333", "bucket", "eu-west-1", "virtual")


def test_secrets_are_not_in_the_text_of_credentials() -> None:
    """Logs and tracebacks print values."""
    assert "secret" not in repr(Credentials("AKID", "secret", "secret token"))


@settings(deadline=None)
@given(
    st.sampled_from(["HEAD", "GET"]), keys, buckets, regions, addresses, credentials, instants, header_sets
)  # fmt: skip
def test_signed_headers_are_botocores(
    method: str,
    key: str,
    bucket: str,
    region: str,
    address: tuple[str, Addressing],
    signer: Credentials,
    signed_at: datetime,
    headers: dict[str, str],
) -> None:
    """Byte for byte, whatever the key, the credentials and the headers."""
    presigner = Presigner(address[0], bucket, region, address[1])
    request = AWSRequest(method=method, url=presigner.url(key), headers=dict(headers))
    patch = frozen(signed_at)
    try:
        botocore.auth.S3SigV4Auth(as_botocore(signer), "s3", region).add_auth(request)
    finally:
        patch.undo()

    signed = presigner.signed_headers(method, key, signer, signed_at, headers)

    sent = {name.lower(): value for name, value in request.headers.items()}
    assert signed["authorization"] == sent["Authorization".lower()]
    for name in ("x-amz-date", "x-amz-content-sha256"):
        assert signed[name] == sent[name]
    assert signed.get("x-amz-security-token", "") == sent.get("x-amz-security-token", "")


def test_headers_are_signed_for_a_key_at_an_instant() -> None:
    """Anything else would be another request."""
    presigner = Presigner("https://s3.eu-west-1.amazonaws.com", "bucket", "eu-west-1")
    with raises(ValueError, names=["key"]):
        presigner.signed_headers("HEAD", "", EXAMPLE, NOON)
    with raises(ValueError, names=["signed_at"]):
        presigner.signed_headers("HEAD", "key", EXAMPLE, NOON.replace(tzinfo=None))
