"""A back end that is known by its client certificate, over TLS."""

from pathlib import Path

import aiohttp
import grpc
from tests.access.certificates import Authority
from tests.access.tokens import Issuer
from tests.journeys.backends import with_services
from tests.journeys.conftest import Stubs
from tests.journeys.guarded import Person
from tests.journeys.lanes import request_for
from tests.servers import served

from assetlane_server.config.settings import Settings

SERVICE = """
[[service]]
name = "scanner"
certificate = "scanner.example"
users = ["ann"]
read = []
write = ["user/{uid}"]
"""


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
        for pair, token, told in (
            (by_name, None, None),
            (by_common_name, None, None),
            (other, None, "TOKEN_MISSING"),
            (by_name, issuer.token("bob"), "UID_MISMATCH"),
        ):
            credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.chain)
            async with grpc.aio.secure_channel(f"localhost:{target.rpartition(':')[2]}", credentials) as channel:
                caller = Person(Stubs.on(channel), web, token)
                refused = await caller.refusal("RequestUpload", request_for(uid="ann"))
                assert (None if refused is None else refused.reason) == told
                if told is None:
                    reply = await caller.call("RequestUpload", request_for(uid="ann"))
                    assert [change.acted_by for change in reply.upload.history] == ["scanner", "scanner"]
                    refused = await caller.refusal("RequestUpload", request_for(uid="zoe"))
                    assert refused is not None
                    assert refused.reason == "UID_MISMATCH"
