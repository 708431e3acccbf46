"""TLS: certificates that change under open streams, clients that have to show one, and what is no good."""

import asyncio
import ssl
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from tests.access.certificates import Authority, Pair
from tests.access.tokens import Issuer
from tests.commands import finished, ran, started
from tests.journeys.guarded import guarded
from tests.journeys.steps import request_for
from tests.log_events import logged, seen
from tests.refusals import raises
from tests.servers import served

from assetlane import Client
from assetlane.v1.upload_service_pb2 import CancelUploadRequest, WatchUploadRequest
from assetlane_server.access.certificates import CertificateFiles, read_certificates
from assetlane_server.config.settings import Settings
from assetlane_server.model.errors import NotReady
from assetlane_server.rpc import tls

LIMIT_S = 20.0


def secured(settings: Settings, folder: Path, pair: Pair, client_ca: bytes | None = None) -> Settings:
    """Returns the settings of a server with TLS."""
    chain, key = pair.put(folder)
    changes: dict[str, Any] = {"tls_cert_file": chain, "tls_key_file": key}
    if client_ca is not None:
        changes["tls_client_ca_file"] = folder / "clients.pem"
        changes["tls_client_ca_file"].write_bytes(client_ca)
    return settings.model_copy(update=changes)


async def shown(target: str, authority: Authority, version: ssl.TLSVersion | None = None) -> tuple[str, str]:
    """Shakes hands, and returns the common name that the server shows and the version spoken."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.set_alpn_protocols(["h2"])
    if version is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what this is about
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
        context.set_ciphers("ALL:@SECLEVEL=0")
    host, _, port = target.rpartition(":")
    async with asyncio.timeout(LIMIT_S):
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        spoken = writer.get_extra_info("ssl_object")
        certificate = x509.load_der_x509_certificate(spoken.getpeercert(binary_form=True))
        return certificate.subject.rfc4514_string().removeprefix("CN="), spoken.version()
    finally:
        writer.close()


@pytest.fixture
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets servers look at their files every 20 ms."""
    monkeypatch.setattr(tls, "LOOK_INTERVAL", timedelta(milliseconds=20))


async def until_shown(target: str, authority: Authority, name: str) -> None:
    """Returns once new connections are shown that certificate."""
    async with asyncio.timeout(LIMIT_S):
        while (await shown(target, authority))[0] != name:  # noqa: ASYNC110 - files are no events
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("looking_often")
async def test_a_new_certificate_reaches_new_connections_and_ends_no_stream(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A watch that was open before it changed goes on; one that is no good changes nothing and is logged once."""
    authority = Authority()
    secure = secured(settings, tmp_path, authority.signed("one"))
    async with served(secure) as target:
        credentials = grpc.ssl_channel_credentials(authority.pem)
        async with Client(target, credentials=credentials) as client:
            upload_id = (await client.request_upload(request_for())).upload.upload_id
            watch: Any = client._server._upload_watches.WatchUpload(WatchUploadRequest(upload_id=upload_id))
            assert [(await watch.read()).status.upload.revision for _ in range(2)] == [1, 2]
            assert (await shown(target, authority))[0] == "one"
            authority.signed("two").put(tmp_path)
            await until_shown(target, authority, "two")
            (tmp_path / "server.key").write_bytes(Authority().signed("x").key)
            await seen(caplog, "CERTIFICATE_REFUSED")
            assert (await shown(target, authority))[0] == "two"
            authority.signed("three").put(tmp_path)
            await until_shown(target, authority, "three")
            await client._server.uploads.CancelUpload(CancelUploadRequest(upload_id=upload_id))
            last = await watch.read()
            assert last.status.upload.revision == 3
            assert await watch.read() is grpc.aio.EOF
    assert len(logged(caplog, "CERTIFICATE_REFUSED")) <= 2  # a look may fall between the two files of a pair
    assert "PRIVATE" not in caplog.text


async def test_one_dot_two_is_the_least(settings: Settings, tmp_path: Path) -> None:
    """Older versions find no common tongue."""
    authority = Authority()
    async with served(secured(settings, tmp_path, authority.signed("one"))) as target:
        assert (await shown(target, authority))[1] == "TLSv1.3"
        assert (await shown(target, authority, ssl.TLSVersion.TLSv1_2))[1] == "TLSv1.2"
        with pytest.raises(OSError):  # noqa: PT011 - a handshake fails in several ways
            await shown(target, authority, ssl.TLSVersion.TLSv1_1)


async def test_who_has_to_show_a_certificate_and_has_none_gets_no_connection(
    settings: Settings, tmp_path: Path
) -> None:
    """Nor with one that another authority signed."""
    authority, clients = Authority(), Authority("the clients' authority")
    good, foreign = clients.signed("ann"), Authority("another").signed("ann")
    async with served(secured(settings, tmp_path, authority.signed("one"), clients.pem)) as target:
        for pair, is_let_in in ((good, True), (foreign, False), (None, False)):
            keys = () if pair is None else (pair.key, pair.chain)
            async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(authority.pem, *keys)) as channel:
                if is_let_in:
                    await asyncio.wait_for(channel.channel_ready(), LIMIT_S)
                    continue
                state = channel.get_state(try_to_connect=True)
                async with asyncio.timeout(LIMIT_S):
                    while state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        await channel.wait_for_state_change(state)
                        state = channel.get_state()


async def test_the_command_speaks_tls_and_sends_a_token(settings: Settings, tmp_path: Path) -> None:
    """With a file of authorities, and a token from a file, which never shows."""
    authority, issuer = Authority(), Issuer()
    secure = guarded(secured(settings, tmp_path, authority.signed("one")), tmp_path, issuer)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    token = tmp_path / "token"
    token.write_text(issuer.token("ann") + "\n")
    (tmp_path / "a.txt").write_text("hello")
    options = ("--ca-file", tmp_path / "ca.pem", "--token-file", token)
    async with served(secure) as target:
        uploaded = await ran(target, *options, "upload", tmp_path / "a.txt")
        assert (uploaded.code, uploaded.err) == (0, "")
        listed = await ran(target, *options, "ls", "user/ann")
        assert "a.txt" in listed.out
        token.write_text(issuer.token("ann", lifetime_s=-1))
        refused = await ran(target, *options, "ls", "user/ann")
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.endswith("[TOKEN_EXPIRED]\n")
        missing = await ran(target, "--ca-file", tmp_path / "ca.pem", "ls", "user/ann")
        assert missing.err.endswith("[TOKEN_MISSING]\n")
        token.write_text("")
        empty = await finished(await started(target, *options, "ls", "user/ann"))
        assert (empty.code, "there is no token in it" in empty.err) == (1, True)


@pytest.mark.parametrize("broken", ["server.key", "server.pem"])
async def test_files_that_do_not_fit_keep_a_server_from_starting(
    settings: Settings, tmp_path: Path, broken: str
) -> None:
    """With the setting in the sentence."""
    secure = secured(settings, tmp_path, Authority().signed("one"))
    Authority().signed("two").put(tmp_path, "other")
    (tmp_path / broken).write_bytes((tmp_path / broken.replace("server", "other")).read_bytes())
    with raises(NotReady, reason="KEY_OF_ANOTHER_CERTIFICATE", setting="ASSETLANE_TLS_KEY_FILE"):
        async with served(secure):
            pytest.fail("it serves")


def test_what_is_the_same_again_is_not_changed(tmp_path: Path) -> None:
    """Two readings of the same files are equal: most looks find nothing."""
    files = CertificateFiles(*Authority().signed("one").put(tmp_path))
    assert read_certificates(files) == read_certificates(files)
