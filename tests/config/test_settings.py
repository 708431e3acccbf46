"""Settings from the environment."""

import re
from pathlib import Path
from typing import Any

import pytest
from tests.refusals import check, raises

from assetlane_server.config.settings import Settings, default_hosts, settings_from
from assetlane_server.model.errors import SettingsInvalid

LEAST = {"ASSETLANE_MONGO_URI": "mongodb://127.0.0.1", "ASSETLANE_S3_BUCKET": "bucket"}


def test_the_least_is_a_database_and_a_bucket() -> None:
    """All else has a default, and other people's variables do not matter."""
    settings = settings_from({**LEAST, "PATH": "/bin", "ASSETLANE_TARGET": "elsewhere:1"})
    assert settings.listen == "127.0.0.1:50151"
    assert settings.terms.write_url_lifetime.total_seconds() == 900


@pytest.mark.parametrize(
    ("hours", "days"),
    [({}, 3), ({"WRITE_URL_MAX_HOURS": "168"}, 9), ({"UPLOAD_HOURS": "25"}, 4), ({"UPLOAD_HOURS": "49.5"}, 5)],
)
def test_the_store_drops_no_multipart_upload_before_its_deadline(hours: dict[str, str], days: int) -> None:
    """Two days after the longest life of a write URL, or the longest deadline."""
    settings = settings_from({**LEAST, **{f"ASSETLANE_{name}": value for name, value in hours.items()}})
    assert settings.abort_multipart_days == days


@pytest.mark.parametrize(
    ("variable", "value", "reason", "says"),
    [
        ("ASSETLANE_GRACE", "5", "SETTING_UNKNOWN", {}),
        ("ASSETLANE_LISTEN", "50151", "NOT_AN_ADDRESS", {}),
        ("ASSETLANE_LISTEN", "127.0.0.1:99999", "NOT_AN_ADDRESS", {}),
        ("ASSETLANE_LISTEN", "0.0.0.0:50151", "NOT_LOOPBACK", {"names": ["ASSETLANE_JWT_JWKS"]}),
        ("ASSETLANE_LISTEN", "example.com:50151", "NOT_LOOPBACK", {"names": ["ASSETLANE_ALLOW_ANONYMOUS=true"]}),
        ("ASSETLANE_S3_ENDPOINT", "localhost:9000", "NOT_AN_URL", {"names": ["http://", "https://"]}),
        ("ASSETLANE_S3_ADDRESSING", "dns", "SETTING_MALFORMED", {"names": ["auto", "path", "virtual"]}),
        ("ASSETLANE_WRITE_URL_SECONDS", "604801", "SETTING_OUT_OF_RANGE", {"limits": [604800]}),
        ("ASSETLANE_WRITE_URL_SECONDS", "soon", "SETTING_MALFORMED", {}),
        ("ASSETLANE_UPLOAD_HOURS", "nan", "SETTING_OUT_OF_RANGE", {"limits": [168]}),
        ("ASSETLANE_KEY_PREFIX", "no-slash", "NOT_A_PREFIX", {"limits": [256]}),
        ("ASSETLANE_KEY_PREFIX", "../", "NOT_A_PREFIX", {"limits": [256]}),
        (
            "ASSETLANE_S3_ACCESS_KEY_ID",
            "only-one",
            "SETTINGS_GO_TOGETHER",
            {"setting": "ASSETLANE_S3_SECRET_ACCESS_KEY"},
        ),
        ("ASSETLANE_S3_BUCKET", "b", "SETTING_OUT_OF_RANGE", {"limits": [3]}),
        ("ASSETLANE_JWT_JWKS", "http://example.com/keys", "NOT_A_FILE_OR_HTTPS_URL", {}),
        ("ASSETLANE_JWT_LEEWAY_SECONDS", "-1", "SETTING_OUT_OF_RANGE", {"limits": [0]}),
        ("ASSETLANE_POLICY_FILE", "policy.toml", "SETTING_NEEDS_ANOTHER", {"names": ["ASSETLANE_JWT_KEY_FILE"]}),
        ("ASSETLANE_JWT_ISSUER", "us", "SETTING_NEEDS_ANOTHER", {"names": ["ASSETLANE_JWT_KEY_FILE"]}),
        ("ASSETLANE_JWT_AUDIENCE", "us", "SETTING_NEEDS_ANOTHER", {"names": ["ASSETLANE_JWT_KEY_FILE"]}),
        ("ASSETLANE_TLS_CERT_FILE", "a.pem", "SETTINGS_GO_TOGETHER", {"setting": "ASSETLANE_TLS_KEY_FILE"}),
        ("ASSETLANE_TLS_KEY_FILE", "a.key", "SETTINGS_GO_TOGETHER", {"setting": "ASSETLANE_TLS_CERT_FILE"}),
        ("ASSETLANE_TLS_CLIENT_CA_FILE", "a.pem", "SETTING_NEEDS_ANOTHER", {"names": ["ASSETLANE_TLS_CERT_FILE"]}),
    ],
)
def test_a_wrong_setting_is_named_with_the_reason(variable: str, value: str, reason: str, says: dict[str, Any]) -> None:
    """The operator reads which variable it is and what would be right, and never a secret."""
    with raises(SettingsInvalid, reason=reason, **says) as refused:
        settings_from({**LEAST, variable: value})
    check(refused.value, setting=variable, names=[variable])
    assert "only-one" not in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("WRITE_URL_SECONDS", "soon", "WHOLE_NUMBER"),
        ("WORKERS", "1.5", "WHOLE_NUMBER"),
        ("GRACE_SECONDS", "soon", "NUMBER"),
        ("REFLECTION", "maybe", "BOOLEAN"),
        ("S3_ADDRESSING", "dns", "CHOICE"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_kind(setting: str, value: str, expected: str) -> None:
    """The operator reads what the setting takes: a number, true or false, one of a list."""
    with raises(SettingsInvalid, reason="SETTING_MALFORMED", setting=f"ASSETLANE_{setting}") as refused:
        settings_from({**LEAST, f"ASSETLANE_{setting}": value})
    assert [fault.expected for fault in refused.value.faults] == [expected]


def test_all_wrong_settings_are_named_at_once() -> None:
    """Fixed in one go."""
    with pytest.raises(SettingsInvalid) as refused:
        settings_from({"ASSETLANE_GRACE": "5", "ASSETLANE_LISTEN": "x"})
    named = ["ASSETLANE_GRACE", "ASSETLANE_LISTEN", "ASSETLANE_MONGO_URI", "ASSETLANE_S3_BUCKET"]
    assert [fault.settings for fault in refused.value.faults] == [(name,) for name in named]
    check(refused.value, reason="SETTINGS_INVALID", names=named)


def test_secrets_do_not_show() -> None:
    """A log line with the settings shows no password."""
    settings = settings_from({**LEAST, "ASSETLANE_MONGO_URI": "mongodb://ann:hunter2@127.0.0.1"})
    assert "hunter2" not in f"{settings!r} {settings}"


@pytest.mark.parametrize(
    "changes",
    [
        {"ASSETLANE_ALLOW_ANONYMOUS": "true"},
        {"ASSETLANE_JWT_KEY_FILE": "key.pem"},
        {"ASSETLANE_JWT_JWKS": "https://issuer.example/keys"},
        {"ASSETLANE_JWT_JWKS": "keys.json"},
    ],
)
def test_beyond_loopback_it_takes_proof_or_an_explicit_word(changes: dict[str, str]) -> None:
    """Either of them will do."""
    anywhere = {**LEAST, "ASSETLANE_LISTEN": "0.0.0.0:50151"}
    assert not settings_from({**anywhere, **changes}).is_loopback


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ASSETLANE_JWT_KEY_FILE": "a", "ASSETLANE_JWT_JWKS": "b"}, "SETTINGS_EXCLUDE_EACH_OTHER"),
        ({"ASSETLANE_JWT_KEY_FILE": "a", "ASSETLANE_ALLOW_ANONYMOUS": "true"}, "SETTING_MEANS_NOTHING"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, str], reason: str) -> None:
    """Before anybody believes that either of them holds."""
    with raises(SettingsInvalid, reason=reason, setting=list(changes)[-1]):
        settings_from({**LEAST, **changes})


@pytest.mark.parametrize(
    ("settings", "reason", "names"),
    [
        ({"METRICS_LISTEN": "9464"}, "NOT_AN_ADDRESS", []),
        ({"METRICS_LISTEN": "127.0.0.1:65535", "WORKERS": "2"}, "PORT_TOO_HIGH", []),
        ({"METRICS_LISTEN": "127.0.0.1:50150", "WORKERS": "2"}, "PORT_TAKEN", ["ASSETLANE_LISTEN"]),
        ({"LOG_FORMAT": "xml"}, "SETTING_MALFORMED", ["auto", "json", "pretty"]),
    ],
)
def test_metrics_have_a_port_per_worker_and_none_of_the_servers(
    settings: dict[str, str], reason: str, names: list[str]
) -> None:
    """Reported before anything starts."""
    with raises(SettingsInvalid, reason=reason, setting=f"ASSETLANE_{next(iter(settings))}", names=names):
        settings_from({**LEAST, **{f"ASSETLANE_{name}": value for name, value in settings.items()}})


@pytest.mark.parametrize(
    ("settings", "setting", "reason"),
    [
        ({"WEB_LISTEN": "50152"}, "WEB_LISTEN", "NOT_AN_ADDRESS"),
        ({"WEB_LISTEN": "127.0.0.1:50151"}, "WEB_LISTEN", "PORT_TAKEN"),
        (
            {"WEB_LISTEN": "127.0.0.1:9465", "METRICS_LISTEN": "127.0.0.1:9464", "WORKERS": "2"},
            "WEB_LISTEN",
            "PORT_TAKEN",
        ),
        ({"WEB_LISTEN": "10.0.0.7:50152"}, "WEB_LISTEN", "NOT_LOOPBACK"),
        ({"WEB_LISTEN": "0.0.0.0:50152", "ALLOW_ANONYMOUS": "true"}, "WEB_HOSTS", "HOSTS_MISSING"),
        ({"WEB_ORIGINS": "https://app.example"}, "WEB_ORIGINS", "SETTING_NEEDS_ANOTHER"),
        ({"WEB_HOSTS": "files.example"}, "WEB_HOSTS", "SETTING_NEEDS_ANOTHER"),
        *(
            ({"WEB_LISTEN": "127.0.0.1:50152", "WEB_ORIGINS": origin}, "WEB_ORIGINS", "NOT_AN_ORIGIN")
            for origin in ("*", "app.example", "https://app.example/", "https://*.app.example", "null", "https://a b")
        ),
        *(
            ({"WEB_LISTEN": "127.0.0.1:50152", "WEB_HOSTS": host}, "WEB_HOSTS", "NOT_A_HOST")
            for host in ("*", "files.example:443", "https://files.example", "a b", "files.example/x")
        ),
    ],
)
def test_a_web_port_is_whole_or_refused(settings: dict[str, str], setting: str, reason: str) -> None:
    """Reported before anything starts."""
    with raises(SettingsInvalid, reason=reason, setting=f"ASSETLANE_{setting}"):
        settings_from({**LEAST, **{f"ASSETLANE_{name}": value for name, value in settings.items()}})


@pytest.mark.parametrize(
    ("listen", "hosts"),
    [
        ("127.0.0.1:50152", ("127.0.0.1", "localhost", "::1")),
        ("[::1]:50152", ("127.0.0.1", "localhost", "::1")),
        ("10.0.0.7:50152", ("10.0.0.7",)),
        ("0.0.0.0:50152", ()),
        ("[::]:50152", ()),
    ],
)
def test_a_web_port_has_the_names_of_its_address(listen: str, hosts: tuple[str, ...]) -> None:
    """Unless others are listed."""
    assert default_hosts(listen) == hosts


def test_origins_and_hosts_are_lists() -> None:
    """Joined by commas, in brackets or without."""
    web = {"WEB_LISTEN": "127.0.0.1:50152", "WEB_ORIGINS": "https://a.example, http://localhost:5173",
           "WEB_HOSTS": "files.example,[::1],10.0.0.7"}  # fmt: skip
    settings = settings_from({**LEAST, **{f"ASSETLANE_{name}": value for name, value in web.items()}})
    assert settings.web_origins == ("https://a.example", "http://localhost:5173")
    assert settings.web_hosts == ("files.example", "::1", "10.0.0.7")


def test_only_the_environment_that_is_given_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the process, of which another program may have made use."""
    monkeypatch.setenv("ASSETLANE_MAX_CALLS", "7")
    monkeypatch.setenv("ASSETLANE_MONGO_URI", "mongodb://elsewhere")
    assert settings_from(LEAST).max_calls == Settings.model_fields["max_calls"].default
    assert settings_from(LEAST).mongo_uri.get_secret_value() == LEAST["ASSETLANE_MONGO_URI"]
    with raises(SettingsInvalid, reason="SETTING_MISSING", setting="ASSETLANE_MONGO_URI"):
        settings_from({name: value for name, value in LEAST.items() if name != "ASSETLANE_MONGO_URI"})
    assert settings_from({**LEAST, "ASSETLANE_MAX_CALLS": "8"}).max_calls == 8


@pytest.mark.parametrize(
    ("source", "is_good"),
    [
        ("/etc/keys.json", True),
        ("https://id.example.com/keys", True),
        ("HTTPS://id.example.com/keys", True),
        ("http://127.0.0.1:8080/keys", True),
        ("http://localhost/keys", True),
        ("http://[::1]:8080/keys", True),
        ("http://id.example.com/keys", False),
        ("HTTP://id.example.com/keys", False),
        ("http://127.0.0.1.example.com/keys", False),
        ("http://localhost@id.example.com/keys", False),
        ("http://10.0.0.1/keys", False),
        ("ftp://127.0.0.1/keys", False),
        ("file:///etc/keys.json", False),
        ("https://", False),
    ],
)
def test_keys_are_fetched_in_the_clear_from_this_machine_only(source: str, is_good: bool) -> None:
    """Anybody on the way could hand out keys of their own."""
    if is_good:
        settings = settings_from({**LEAST, "ASSETLANE_JWT_JWKS": source})
        assert settings.has_jwks_url == ("://" in source)
    else:
        with raises(SettingsInvalid, reason="NOT_A_FILE_OR_HTTPS_URL", setting="ASSETLANE_JWT_JWKS"):
            settings_from({**LEAST, "ASSETLANE_JWT_JWKS": source})


def test_each_worker_has_metrics_on_a_port_of_its_own() -> None:
    """From the setting upwards; a free one each for port 0."""
    settings = settings_from({**LEAST, "ASSETLANE_METRICS_LISTEN": "[::1]:9464", "ASSETLANE_WORKERS": "3"})
    assert [settings.of_worker(n).metrics_listen for n in (1, 2, 3)] == ["[::1]:9464", "[::1]:9465", "[::1]:9466"]
    anywhere = settings.model_copy(update={"metrics_listen": "127.0.0.1:0"})
    assert anywhere.of_worker(3).metrics_listen == "127.0.0.1:0"
    assert settings_from(LEAST).of_worker(2).metrics_listen is None


def test_the_largest_object_follows_from_the_number_of_parts() -> None:
    """48.8 TiB by default; less where the store takes fewer parts; more than fits is refused by name."""
    assert settings_from(LEAST).terms.max_upload_bytes == 53_687_091_200_000
    thousand = settings_from({**LEAST, "ASSETLANE_MULTIPART_MAX_PARTS": "1000"}).terms
    assert (thousand.max_upload_bytes, thousand.multipart_max_parts) == (5_368_709_120_000, 1000)
    fits = {**LEAST, "ASSETLANE_MULTIPART_MAX_PARTS": "1000", "ASSETLANE_MAX_UPLOAD_BYTES": "5368709120000"}
    assert settings_from(fits).terms.max_upload_bytes == 5_368_709_120_000
    parts, largest = 1_000, 5_368_709_120_000
    with raises(
        SettingsInvalid,
        reason="SETTING_OUT_OF_RANGE",
        setting="ASSETLANE_MULTIPART_MAX_PARTS",
        limits=[parts, largest],
    ):
        settings_from({**fits, "ASSETLANE_MAX_UPLOAD_BYTES": "5368709120001"})


def test_secrets_come_from_files(tmp_path: Path) -> None:
    """As container platforms mount them, with a line break at the end or without."""
    files = {"mongo_uri": "mongodb://ann:hunter2@db\n", "s3_access_key_id": "id", "s3_secret_access_key": "key\r\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    settings = settings_from(
        {
            "ASSETLANE_S3_BUCKET": "bucket",
            **{f"ASSETLANE_{name.upper()}_FILE": str(tmp_path / name) for name in files},
        }
    )
    assert settings.mongo_uri.get_secret_value() == "mongodb://ann:hunter2@db"
    assert settings.s3_secret_access_key is not None
    assert settings.s3_secret_access_key.get_secret_value() == "key"
    assert settings.source_of("mongo_uri") == "secret file"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "FILE_UNREADABLE"),
        (b"", "FILE_EMPTY"),
        (b"\n", "FILE_EMPTY"),
        (b"\xff", "FILE_MALFORMED"),
        (b"x" * 70_000, "FILE_MALFORMED"),
    ],
)
def test_a_file_of_a_secret_that_is_no_good_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """With its variable, its path, the reason and the limit, never with what it holds."""
    file = tmp_path / "uri"
    if content is not None:
        file.write_bytes(content)
    limits = [65536] if reason == "FILE_MALFORMED" else []
    with raises(
        SettingsInvalid, reason=reason, setting="ASSETLANE_MONGO_URI_FILE", names=[str(file)], limits=limits
    ) as refused:
        settings_from({"ASSETLANE_S3_BUCKET": "bucket", "ASSETLANE_MONGO_URI_FILE": str(file)})
    assert "xxx" not in str(refused.value)


def test_only_secrets_have_files_and_only_once(tmp_path: Path) -> None:
    """A value and its file exclude each other; other settings have none."""
    (tmp_path / "uri").write_text("mongodb://a")
    with pytest.raises(SettingsInvalid) as refused:
        settings_from(
            {
                **LEAST,
                "ASSETLANE_MONGO_URI_FILE": str(tmp_path / "uri"),
                "ASSETLANE_S3_BUCKET_FILE": str(tmp_path / "uri"),
            }
        )
    assert [(fault.reason, fault.settings) for fault in refused.value.faults] == [
        ("SETTINGS_EXCLUDE_EACH_OTHER", ("ASSETLANE_MONGO_URI_FILE", "ASSETLANE_MONGO_URI")),
        ("SETTING_UNKNOWN", ("ASSETLANE_S3_BUCKET_FILE",)),
    ]


def test_a_settings_file_holds_the_same_settings(tmp_path: Path) -> None:
    """By their names in lower case; the environment wins, and each knows where it comes from."""
    (tmp_path / "uri").write_text("mongodb://in-a-file")
    file = tmp_path / "assetlane.toml"
    file.write_text(
        f"""
        mongo_uri_file = "{tmp_path / "uri"}"
        s3_bucket = "from-the-file"
        grace_seconds = 7
        workers = 2
        reflection = false
        cors_origins = ["https://a.example", "https://b.example"]
        """
    )
    settings = settings_from({"ASSETLANE_SETTINGS_FILE": str(file), "ASSETLANE_WORKERS": "3"})
    assert settings.mongo_uri.get_secret_value() == "mongodb://in-a-file"
    assert (settings.s3_bucket, settings.grace_seconds, settings.workers) == ("from-the-file", 7, 3)
    assert (settings.reflection, settings.cors_origins) == (False, ("https://a.example", "https://b.example"))
    sources = [settings.source_of(name) for name in ("mongo_uri", "s3_bucket", "workers", "listen")]
    assert sources == ["secret file", "file", "environment", "default"]


@pytest.mark.parametrize(
    ("text", "faults", "limits"),
    [
        ("s3_bukket = 'x'", [("s3_bukket", "SETTING_UNKNOWN", "")], []),
        ("[s3]\nbucket = 'x'", [("s3", "SETTING_UNKNOWN", "")], []),
        ("workers = 'many'", [("workers", "SETTING_MALFORMED", "WHOLE_NUMBER")], []),
        (
            "workers = 0\ngrace_seconds = 'x'",
            [("grace_seconds", "SETTING_MALFORMED", "NUMBER"), ("workers", "SETTING_OUT_OF_RANGE", "")],
            [1],
        ),
        ("listen = 5", [("listen", "SETTING_MALFORMED", "TEXT")], []),
        ("reflection = 'maybe'", [("reflection", "SETTING_MALFORMED", "BOOLEAN")], []),
        ("grace_seconds = inf", [("grace_seconds", "SETTING_OUT_OF_RANGE", "")], [600]),
        ("no toml", [("", "FILE_MALFORMED", "")], []),
        (None, [("", "FILE_UNREADABLE", "")], []),
    ],
)
def test_a_settings_file_that_is_wrong_is_named(
    tmp_path: Path, text: str | None, faults: list[tuple[str, str, str]], limits: list[float]
) -> None:
    """File, setting and reason, all at once; of a file that cannot be read, the variable that names it."""
    file = tmp_path / "assetlane.toml"
    if text is not None:
        file.write_text(text)
    with raises(SettingsInvalid, names=[str(file)], limits=limits) as refused:
        settings_from({**LEAST, "ASSETLANE_SETTINGS_FILE": str(file)})
    assert [(fault.settings, fault.reason, fault.expected) for fault in refused.value.faults] == [
        ((f"{file}: {name}" if name else "ASSETLANE_SETTINGS_FILE",), reason, expected)
        for name, reason, expected in faults
    ]


def test_no_words_of_a_library_reach_the_operator() -> None:
    """Whatever kind of value is wrong: every field is given every kind of nonsense."""
    refused = 0
    for name, field in Settings.model_fields.items():
        for nonsense in ("", "-1", "nan", "1e99", "x" * 5000, "no", "0"):
            try:
                settings_from({**LEAST, f"ASSETLANE_{name.upper()}": nonsense})
            except SettingsInvalid as error:
                refused += len(error.faults)
                for fault in error.faults:
                    assert not re.search(
                        r"[Ii]nput should|valid (integer|number|boolean)|[Vv]alue error|pydantic", fault.message
                    ), fault
                    assert fault.reason != "SETTING_MALFORMED" or fault.expected, (field, fault)
    assert refused > len(Settings.model_fields), "most settings refuse some of it"
