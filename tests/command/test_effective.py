"""`assetlane-server config`: what a server would use, and where each setting comes from."""

import json
import subprocess
from pathlib import Path

from tests.command.test_cli import COMMAND, LIMIT_S, environment, refused

from assetlane_server.config.settings import Settings

PASSWORD = "corr3ct-horse"  # noqa: S105
SECRETS = {
    "mongo_uri": f"mongodb://ann:{PASSWORD}@db1.example/?replicaSet=rs0",
    "s3_access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "s3_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
GIVEN = {
    **SECRETS,
    "s3_bucket": "lane-of-tests",
    "s3_endpoint": "https://ann:corr3ct-horse@store.example",
    "grace_seconds": 7,
    "cors_origins": "https://a.example,https://b.example",
}


def config(folder: Path, *options: str) -> str:
    """Returns what the command prints."""
    run = subprocess.run(
        [*COMMAND, "config", *options], env=environment(folder, **GIVEN), capture_output=True, text=True,
        timeout=LIMIT_S, check=True,
    )  # fmt: skip
    assert run.stderr == ""
    assert not any(secret in run.stdout for secret in (PASSWORD, *SECRETS.values()))
    return run.stdout


def test_every_setting_is_reported_with_its_source_and_no_secret(tmp_path: Path) -> None:
    """One object per line, in the order of docs/configuration.md; what was not set has its default."""
    shown = {one["name"]: one for one in map(json.loads, config(tmp_path, "--json").splitlines())}
    assert list(shown) == [f"ASSETLANE_{name.upper()}" for name in Settings.model_fields]
    sources = {name: one["source"] for name, one in shown.items()}
    assert {name for name, source in sources.items() if source == "environment"} == {
        f"ASSETLANE_{name.upper()}" for name in GIVEN
    }
    assert set(sources.values()) == {"environment", "default"}
    assert {shown[f"ASSETLANE_{name.upper()}"]["value"] for name in SECRETS} == {"***"}
    assert shown["ASSETLANE_GRACE_SECONDS"]["value"] == 7
    assert shown["ASSETLANE_S3_BUCKET"]["value"] == "lane-of-tests"
    assert shown["ASSETLANE_S3_ENDPOINT"]["value"] == "https://***@store.example"
    assert shown["ASSETLANE_CORS_ORIGINS"]["value"] == GIVEN["cors_origins"]
    assert shown["ASSETLANE_JWT_KEY_FILE"]["value"] is None
    assert shown["ASSETLANE_LISTEN"]["value"] == "127.0.0.1:50151"


def test_people_read_the_same_as_a_table(tmp_path: Path) -> None:
    """Name, source, value."""
    table = [line.split() for line in config(tmp_path).splitlines()]
    assert ["ASSETLANE_S3_SECRET_ACCESS_KEY", "environment", "***"] in table
    assert ["ASSETLANE_LOG_LEVEL", "default", "info"] in table
    assert ["ASSETLANE_METRICS_LISTEN", "default", "unset"] in table


def test_settings_that_are_wrong_are_listed_instead(tmp_path: Path) -> None:
    """As by every command."""
    assert "ASSETLANE_GRACE: there is no such setting" in refused(tmp_path, "config", grace=5)
