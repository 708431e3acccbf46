"""`assetlane-server doctor` and `reconcile` as an operator calls them."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator

import pytest

from assetlane_server.composition.app import new_id, object_store
from assetlane_server.config.settings import Settings

LIMIT_S = 60.0


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that mean these settings, and none of our own."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("ASSETLANE_")}
    return own | dict(_variables(settings))


def _variables(settings: Settings) -> Iterator[tuple[str, str]]:
    for name in ("mongo_uri", "s3_access_key_id", "s3_secret_access_key"):
        yield f"ASSETLANE_{name.upper()}", getattr(settings, name).get_secret_value()
    for name in ("mongo_database", "s3_endpoint", "s3_region", "s3_bucket", "key_prefix", "listen"):
        yield f"ASSETLANE_{name.upper()}", getattr(settings, name)
    yield "ASSETLANE_CORS_ORIGINS", ",".join(settings.cors_origins)


async def command(environment: dict[str, str], *words: str) -> tuple[int, str, str]:
    """Runs the command and returns its status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "assetlane_server", *words,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_doctor_ends_with_0_on_a_sound_set_up(settings: Settings) -> None:
    """One line for each check, no secret in any."""
    status, out, err = await command(environment_of(settings), "doctor")

    assert (status, err) == (0, "")
    assert all(line.startswith("ok ") for line in out.splitlines())
    assert settings.s3_secret_access_key is not None
    assert settings.s3_secret_access_key.get_secret_value() not in out


async def test_doctor_ends_with_1_and_prints_json_for_programs(settings: Settings) -> None:
    """An object for each line, the first fault among them."""
    environment = environment_of(settings) | {"ASSETLANE_S3_BUCKET": "nobody-made-this-one"}
    status, out, _ = await command(environment, "doctor", "--json")

    findings = [json.loads(line) for line in out.splitlines()]
    assert status == 1
    assert [one["name"] for one in findings if one["verdict"] == "FAILED"] == ["bucket"]
    assert all(set(one) == {"name", "verdict", "detail", "advice"} for one in findings)


async def test_doctor_reports_settings_that_cannot_be_read(settings: Settings) -> None:
    """All of them at once, and nothing else is looked at."""
    environment = environment_of(settings) | {"ASSETLANE_GRACE": "5", "ASSETLANE_LISTEN": "x"}
    status, out, _ = await command(environment, "doctor")

    assert status == 1
    assert out.startswith("FAILED   settings")
    assert "ASSETLANE_GRACE" in out
    assert "ASSETLANE_LISTEN" in out


async def test_reconcile_ends_with_0_when_all_agrees_and_refuses_an_age_that_is_too_low(settings: Settings) -> None:
    """Nothing there on both sides is agreement; the reason for the age is given."""
    environment = environment_of(settings)
    assert await command(environment, "reconcile") == (
        0, "Compared 0 objects and 0 assets: 0 orphans, 0 phantoms, 0 lingering multiparts, 0 foreign keys.\n", "",
    )  # fmt: skip
    status, _, err = await command(environment, "reconcile", "--delete-orphans", "--older-than", "0.1")
    assert status == 2
    assert "--older-than" in err


@pytest.mark.parametrize("is_json", [False, True])
async def test_reconcile_leaves_young_and_foreign_keys_alone(settings: Settings, is_json: bool) -> None:
    """As a program and as a person reads it."""
    keys = [f"{settings.key_prefix}private/a/{new_id()}/original.jpg", f"{settings.key_prefix}strange"]
    async with object_store(settings) as store:
        for key in keys:
            await store.connection.ask(
                lambda client, bucket, key=key: client.put_object(Bucket=bucket, Key=key, Body=b"1")  # type: ignore[misc]
            )
        words = ["reconcile", "--delete-orphans", *(["--json"] if is_json else [])]
        status, out, _ = await command(environment_of(settings), *words)
        left = {one.key for one in (await store.list_keys("", "")).objects}
        await store.delete(keys)

    assert status == 0
    assert left == set(keys)
    first, *_, last = out.splitlines()
    if is_json:
        assert json.loads(first)["kind"] == "foreign"
        assert json.loads(last)["summary"]["foreign"] == 1
    else:
        assert (
            first == "Compared 2 objects and 0 assets: 0 orphans, 0 phantoms, 0 lingering multiparts, 1 foreign keys."
        )
