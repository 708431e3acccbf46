"""What is said when no server can be reached: one sentence, what to do, a stable reason. Real servers, real TLS."""

import asyncio

import grpc
import pytest
from tests.client.lane_server import LaneServer
from tests.client.wrong_servers import OTHERS, OURS, grpc_server, mail, talker, tls, trusting, web
from tests.refusals import check

from assetlane import (
    AssetlaneError,
    Client,
    DeadlineExceeded,
    InvalidArgument,
    ServerFailed,
    Unauthenticated,
    Unavailable,
)
from assetlane.diagnosis import is_loopback, target_fault

SHORT_S = 2.0  # for what is tried until the call's time is over
LIMIT_S = 60.0


async def failure(
    target: str,
    credentials: grpc.ChannelCredentials | None = None,
    *,
    token: str | None = None,
    call_timeout: float = LIMIT_S,
) -> AssetlaneError:
    """Returns what a call to that target raises."""
    with pytest.raises(AssetlaneError) as raised:
        async with Client(target, credentials=credentials, token=token, call_timeout=call_timeout) as lane:
            await lane.get_asset("A1")
    return raised.value


@pytest.mark.parametrize(
    ("target", "reason", "instead"),
    [
        ("http://127.0.0.1:50151", "URL", "127.0.0.1:50151"),
        ("https://files.example.com", "URL", "files.example.com:50151"),
        ("grpc://host:1/path", "URL", "host:1"),
        ("127.0.0.1", "PORT_MISSING", "127.0.0.1:50151"),
        ("host:99999", "PORT_OUT_OF_RANGE", ""),
        ("host:0", "PORT_OUT_OF_RANGE", ""),
        ("::1", "BRACKETS_MISSING", "[::1]:50151"),
        ("", "NOT_HOST_PORT", ""),
        ("host:port", "NOT_HOST_PORT", ""),
        ("user@host:50151", "NOT_HOST_PORT", ""),
        ("host:50151/", "NOT_HOST_PORT", ""),
        ("two words:1", "NOT_HOST_PORT", ""),
    ],
)
async def test_a_target_that_is_none_is_refused_at_once(target: str, reason: str, instead: str) -> None:
    """Before anything is sent, with the target as it should be written."""
    error = await failure(target)
    assert isinstance(error, InvalidArgument)
    fault = target_fault(target)
    assert fault is not None
    assert (fault.reason, fault.instead, fault.needs_tls) == (reason, instead, target.startswith("https:"))
    assert error.fields == {"target": fault.message}
    check(
        error,
        reason="TARGET_INVALID",
        names=[instead, "--tls" if fault.needs_tls else ""],
        limits=[1, 65535] if reason == "PORT_OUT_OF_RANGE" else [],
    )
    assert error.message.count(". ") == 0, "it is one sentence"


@pytest.mark.parametrize(
    "target", ["127.0.0.1:1", "[::1]:50151", "a.b-c.example:443", "dns:///host:1", "unix:/run/a.sock", "ipv4:1.2.3.4:5"]
)
def test_a_target_that_grpc_knows_is_taken(target: str) -> None:
    """Names, addresses, and gRPC's own schemes."""
    assert target_fault(target) is None


@pytest.mark.parametrize(
    ("target", "is_it"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("unix:/a", True),
        ("127.0.0.1.example.com:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example.com:1", False),
        ("[2001:db8::1]:1", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(target: str, is_it: bool) -> None:
    """The whole host decides: one that only begins like loopback is another machine."""
    assert is_loopback(target) is is_it


async def test_nobody_listens() -> None:
    """A refused connection is repeated for as long as the call may take, then reported."""
    error = await failure("127.0.0.1:1", call_timeout=SHORT_S)
    assert isinstance(error, Unavailable)
    check(error, reason="UNAVAILABLE", names=["127.0.0.1:1"])


async def test_a_host_that_is_not_there() -> None:
    """A name that cannot be resolved is HOST_UNKNOWN, and the message shows the target."""
    error = await failure("nowhere.invalid:50151", call_timeout=SHORT_S)
    check(error, reason="HOST_UNKNOWN", names=["nowhere.invalid:50151"])


async def test_tls_against_a_plain_server_and_the_reverse() -> None:
    """Each says what to do, without waiting: no repeat would help."""
    async with grpc_server() as plain, grpc_server(tls()) as secure:
        assert (await failure(plain, trusting())).reason == "TLS_NOT_SPOKEN"
        check(await failure(secure), reason="TLS_REQUIRED", names=[secure, "--tls", "--ca-file"])


async def test_certificates_that_do_not_fit() -> None:
    """An unknown authority, another name and an unreadable file have a reason each."""
    async with grpc_server(tls()) as secure:
        for credentials in (trusting(OTHERS), grpc.ssl_channel_credentials()):
            error = await failure(secure, credentials)
            check(error, reason="CERTIFICATE_UNTRUSTED", names=[secure, "--ca-file", "ASSETLANE_CA_FILE"])
        assert (await failure(secure, grpc.ssl_channel_credentials(b"no PEM"))).reason == "CERTIFICATE_UNREADABLE"
        port = secure.rpartition(":")[2]
        unknown = await failure(f"ip6-localhost.invalid:{port}", trusting(), call_timeout=SHORT_S)
        assert unknown.reason == "HOST_UNKNOWN"
    elsewhere = OURS.signed("elsewhere", names=("elsewhere.example",))
    async with grpc_server(tls(elsewhere)) as secure:
        assert (await failure(secure, trusting())).reason == "CERTIFICATE_NAME_MISMATCH"


async def test_a_server_that_wants_a_certificate() -> None:
    """A client without one, or with a foreign one, is asked for one; in the clear it learns of TLS first."""
    async with grpc_server(tls(client_ca=OURS.pem)) as secure:
        for credentials in (trusting(), trusting(pair=OTHERS.signed("client"))):
            assert (await failure(secure, credentials)).reason == "CLIENT_CERTIFICATE_REQUIRED"
        assert (await failure(secure)).reason == "TLS_REQUIRED"


async def test_servers_of_another_kind() -> None:
    """A web server, a mail server, another gRPC server and a silent one are reported with the target."""
    for talk in (web, mail):
        async with talker(talk) as target:
            check(await failure(target), reason="NOT_GRPC", names=[target])
    async with grpc_server() as target:
        foreign = await failure(target)
        assert isinstance(foreign, ServerFailed)
        check(foreign, reason="UNIMPLEMENTED", names=[target])
    over = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()

    async with talker(silent) as target:
        late = await failure(target, call_timeout=SHORT_S)
        over.set()
        assert isinstance(late, DeadlineExceeded)
        check(late, names=[target], limits=[SHORT_S])


@pytest.mark.parametrize("token", ["two\nlines", "se cret", "umläut", "tab\t"])
async def test_a_token_that_is_none_is_never_sent(server: LaneServer, token: str) -> None:
    """GRPC's own words for it are names of classes. The token is not in ours."""
    error = await failure(server.target, token=token)
    assert isinstance(error, Unauthenticated)
    assert error.reason == "TOKEN_MALFORMED"
    assert token not in str(error)
    assert server.calls == []


async def test_a_token_of_the_wrong_size_is_reported(server: LaneServer) -> None:
    """A whole file that was given by mistake is refused by its size, and not shown."""
    token = "x" * 20_000
    error = await failure(server.target, token=token)
    assert isinstance(error, Unauthenticated)
    assert error.reason == "TOKEN_TOO_LARGE"
    assert token not in str(error)
    assert server.calls == []


async def test_a_watch_ends_where_no_repeat_would_help() -> None:
    """It goes on through what may pass, for ever; a wrong kind of connection does not pass."""
    async with grpc_server(tls()) as secure, Client(secure) as lane:
        with pytest.raises(Unavailable) as raised:
            await anext(lane.watch_upload("U1"))
        assert raised.value.reason == "TLS_REQUIRED"


async def test_a_token_in_the_clear_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """A client warns once, and not for a server on this machine."""
    async with Client("10.255.255.1:50151", token="t"), Client("127.0.0.1:50151", token="t"):
        pass
    logged = [(record.levelname, record.args) for record in caplog.records if record.name == "assetlane.calls"]
    assert logged == [("WARNING", ("10.255.255.1:50151",))]
