"""What doctor says of the web port: where it listens, which pages can finish an upload, which names are answered."""

import socket
from pathlib import Path
from typing import Any

import pytest
from tests.access.certificates import Authority
from tests.doctor.test_guard import given

from assetlane_server.config.settings import Settings
from assetlane_server.doctor.finding import Finding, Verdict
from assetlane_server.doctor.web import web_findings

PAGE = "https://app.example"


async def findings(settings: Settings) -> dict[str, Finding]:
    """Returns what is found, by name."""
    return {found.name: found async for found in web_findings(settings)}


def served(**changes: Any) -> Settings:
    """Returns settings with a web port."""
    return given(**{"web_listen": "127.0.0.1:0", **changes})


async def test_without_a_web_port_nothing_is_said() -> None:
    """It is off by default."""
    assert await findings(given()) == {}


async def test_all_is_well_with_listed_pages_that_the_bucket_knows() -> None:
    """By their text, by a pattern, or because it knows all."""
    for cors in (("*",), (PAGE,), ("https://*.example",)):
        found = await findings(served(web_origins=(PAGE,), cors_origins=cors))
        assert {name: one.verdict for name, one in found.items()} == dict.fromkeys(
            ("web address", "web origins", "web hosts"), Verdict.OK
        )


async def test_a_port_that_is_in_use_is_named_with_its_setting() -> None:
    """By this very server, maybe."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        found = await findings(served(web_listen=f"127.0.0.1:{holder.getsockname()[1]}"))
    assert found["web address"].verdict is Verdict.WARNING
    assert "ASSETLANE_WEB_LISTEN" in found["web address"].advice


@pytest.mark.parametrize("cors", [("https://other.example",), ("http://app.example",), ("https://app.example:8443",)])
async def test_pages_that_may_call_but_not_put_are_named(cors: tuple[str, ...]) -> None:
    """Their uploads would be accepted and never arrive."""
    found = (await findings(served(web_origins=(PAGE, "http://localhost:3000"), cors_origins=cors)))["web origins"]
    assert found.verdict is Verdict.WARNING
    assert PAGE in found.detail
    assert "ASSETLANE_CORS_ORIGINS" in found.advice


async def test_pages_in_the_clear_are_named_beyond_this_machine() -> None:
    """A page of this machine is a secure context without TLS too."""
    found = (await findings(served(web_origins=("http://localhost:3000", "http://10.0.0.7"))))["web origins"]
    assert found.verdict is Verdict.WARNING
    assert "http://10.0.0.7 " in found.detail
    assert "localhost" not in found.detail


@pytest.mark.parametrize(
    ("names", "hosts", "foreign"),
    [
        (("files.example",), ("files.example", "localhost"), ""),
        (("*.example",), ("FILES.example",), ""),
        (("*.example",), ("a.b.example",), "a.b.example"),
        (("files.example",), ("files.example", "other.example"), "other.example"),
    ],
)
async def test_names_that_the_certificate_is_not_for_are_reported(
    tmp_path: Path, names: tuple[str, ...], hosts: tuple[str, ...], foreign: str
) -> None:
    """A wildcard stands for one label."""
    chain, key = Authority().signed("server", names=names).put(tmp_path)
    found = (await findings(served(web_hosts=hosts, tls_cert_file=chain, tls_key_file=key)))["web hosts"]
    assert found.verdict is (Verdict.WARNING if foreign else Verdict.OK)
    assert foreign in found.detail
