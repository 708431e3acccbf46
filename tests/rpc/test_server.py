"""The options of both ends, side by side."""

from assetlane.calls import CHANNEL_OPTIONS
from assetlane_server.config.settings import Settings
from assetlane_server.rpc.server import server_options

CLIENT = dict(CHANNEL_OPTIONS)


def server(*, shares_port: bool = False) -> dict[str, int]:
    """Returns the options of a server with the default settings."""
    keepalive_seconds = Settings.model_fields["keepalive_seconds"].default
    return dict(server_options(max_message_bytes=1, keepalive_seconds=keepalive_seconds, shares_port=shares_port))


def test_our_client_is_never_asked_to_calm_down() -> None:
    """It pings at half the pace that the server allows or slower, between calls too if the server lets it."""
    assert CLIENT["grpc.keepalive_time_ms"] >= 2 * server()["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert CLIENT["grpc.keepalive_permit_without_calls"] <= server()["grpc.keepalive_permit_without_calls"]


def test_a_dead_client_is_noticed_within_a_minute() -> None:
    """Pinged after a silence, and given up when it does not answer; the core knows two names for the latter."""
    options = server()
    assert options["grpc.keepalive_timeout_ms"] == options["grpc.http2.ping_timeout_ms"]
    assert options["grpc.keepalive_time_ms"] + options["grpc.http2.ping_timeout_ms"] <= 60_000


def test_only_workers_share_a_port() -> None:
    """A second server on a port in use is refused, not given half of the callers."""
    assert (server()["grpc.so_reuseport"], server(shares_port=True)["grpc.so_reuseport"]) == (0, 1)
