"""A back end that is known by its client certificate, over TLS."""

from pathlib import Path

import aiohttp
import grpc
import pytest
from tests.access.certificates import Authority, Pair
from tests.access.tokens import Issuer
from tests.journeys.backends import add_rings, with_services
from tests.journeys.conftest import Stubs
from tests.journeys.guarded import Person
from tests.journeys.steps import request_for
from tests.refusals import raises
from tests.servers import served

from assetlane.v1.access_service_pb2 import CreateTokenRequest, PartitionScope
from assetlane.v1.asset_service_pb2 import GetAssetRequest
from assetlane_server.composition.security import read_policy
from assetlane_server.config.settings import Settings, settings_from
from assetlane_server.model.errors import NotReady

SERVICE = """
[[service]]
name = "scanner"
certificate = "scanner.example"
users = ["ann"]
read = []
write = ["user/{uid}"]
"""


ONLY_CERTIFICATES = "read = []\nwrite = []\n" + SERVICE.replace("read = []", 'read = ["user/{uid}"]')


async def test_a_server_without_an_issuer_knows_its_back_ends_by_certificate(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """They bring files in and make tokens for devices; a token of anybody else's making opens nothing."""
    authority, issuer = Authority(), Issuer()
    chain, key = authority.signed("server").put(tmp_path)
    ca, policy = tmp_path / "ca.pem", tmp_path / "policy.toml"
    ca.write_bytes(authority.pem)
    policy.write_text(ONLY_CERTIFICATES)
    await add_rings(tmp_path, "scanner")
    ours = settings_from(
        {},
        **{
            **settings.model_dump(exclude_unset=True),
            "policy_file": policy,
            "token_keys": str(tmp_path / "rings"),
            "tls_cert_file": chain,
            "tls_key_file": key,
            "tls_client_ca_file": ca,
        },
    )
    scanner, device = authority.signed("scanner.example"), authority.signed("a device")

    def channel_of(pair: Pair, target: str) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.chain)
        return grpc.aio.secure_channel(f"localhost:{target.rpartition(':')[2]}", credentials)

    async with served(ours) as target, channel_of(scanner, target) as one, channel_of(device, target) as other:
        backend = Person(Stubs.on(one), web, None)
        asset = await backend.asset(uid="ann")
        scope = PartitionScope(read=["user/ann"])
        token = (await backend.call("CreateToken", CreateTokenRequest(uid="ann", partitions=scope))).token.token
        request = GetAssetRequest(asset_id=asset.asset_id)
        assert (await Person(Stubs.on(other), web, token).call("GetAsset", request)).asset.asset_id == asset.asset_id
        for stubs, given, reason in (
            (Stubs.on(other), None, "TOKEN_MISSING"),
            (Stubs.on(other), issuer.token("ann"), "TOKEN_INVALID"),
            (Stubs.on(one), issuer.token("ann"), "TOKEN_INVALID"),
        ):
            refused = await Person(stubs, web, given).refusal("GetAsset", request)
            assert refused is not None
            assert refused.reason == reason


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("read = []\nwrite = []\n", "POLICY_WITHOUT_SERVICES"),
        (ONLY_CERTIFICATES.replace('certificate = "scanner.example"', 'subject = "scanner"'), "SERVICE_NEEDS_TOKENS"),
        (
            ONLY_CERTIFICATES.replace('certificate = "scanner.example"', 'certificate = "s"\nclaim = { azp = "s" }'),
            "SERVICE_NEEDS_TOKENS",
        ),
    ],
)
def test_without_an_issuer_a_policy_for_tokens_is_refused(tmp_path: Path, policy: str, reason: str) -> None:
    """Nobody could be what it names."""
    file = tmp_path / "policy.toml"
    file.write_text(policy)
    given = {"mongo_uri": "mongodb://127.0.0.1", "s3_bucket": "bucket", "policy_file": file}
    tls = {"tls_cert_file": file, "tls_key_file": file, "tls_client_ca_file": file}
    with raises(NotReady, reason=reason, setting="ASSETLANE_POLICY_FILE"):
        read_policy(settings_from({}, **given, **tls))


async def test_a_certificate_stands_for_a_back_end_without_a_token(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Another certificate of the same authority stands for nobody, and a token over this one is its user's."""
    authority, issuer = Authority(), Issuer()
    chain, key = authority.signed("server").put(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    ours = with_services(
        settings, tmp_path, issuer, tls_cert_file=chain, tls_key_file=key, tls_client_ca_file=ca
    )  # fmt: skip
    policy = tmp_path / "policy.toml"
    policy.write_text(policy.read_text() + SERVICE)
    by_name = authority.signed("a machine", names=("scanner.example",))
    by_common_name, other = authority.signed("scanner.example"), authority.signed("other")
    async with served(ours) as target:
        for pair, token, reason in (
            (by_name, None, None),
            (by_common_name, None, None),
            (other, None, "TOKEN_MISSING"),
            (by_name, issuer.token("bob"), "UID_MISMATCH"),
        ):
            credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.chain)
            async with grpc.aio.secure_channel(f"localhost:{target.rpartition(':')[2]}", credentials) as channel:
                caller = Person(Stubs.on(channel), web, token)
                refused = await caller.refusal("RequestUpload", request_for(uid="ann"))
                assert (None if refused is None else refused.reason) == reason
                if reason is None:
                    reply = await caller.call("RequestUpload", request_for(uid="ann"))
                    assert [change.acted_by for change in reply.upload.history] == ["scanner", "scanner"]
                    refused = await caller.refusal("RequestUpload", request_for(uid="zoe"))
                    assert refused is not None
                    assert refused.reason == "UID_MISMATCH"
