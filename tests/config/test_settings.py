"""Settings from the environment."""

import re
from pathlib import Path

import pytest
from tests.refusals import raises

from assetlane_server.config.settings import Settings, default_hosts, settings_from
from assetlane_server.model.errors import NotReady, SettingsInvalid

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
    ("variable", "value", "reason"),
    [
        ("ASSETLANE_GRACE", "5", "there is no such setting"),
        ("ASSETLANE_LISTEN", "50151", "must look like"),
        ("ASSETLANE_LISTEN", "127.0.0.1:99999", "must look like"),
        ("ASSETLANE_LISTEN", "0.0.0.0:50151", "loopback"),
        ("ASSETLANE_S3_ENDPOINT", "localhost:9000", "http://"),
        ("ASSETLANE_S3_ADDRESSING", "dns", "must be auto, path or virtual"),
        ("ASSETLANE_WRITE_URL_SECONDS", "604801", "must be at most 604800"),
        ("ASSETLANE_WRITE_URL_SECONDS", "soon", "must be a whole number"),
        ("ASSETLANE_UPLOAD_HOURS", "nan", "must be"),
        ("ASSETLANE_KEY_PREFIX", "no-slash", "ends with one '/'"),
        ("ASSETLANE_KEY_PREFIX", "../", "ends with one '/'"),
        ("ASSETLANE_S3_ACCESS_KEY_ID", "only-one", "go together"),
        ("ASSETLANE_S3_BUCKET", "b", "must have at least 3 characters"),
        ("ASSETLANE_LISTEN", "example.com:50151", "ASSETLANE_ALLOW_ANONYMOUS"),
        ("ASSETLANE_JWT_JWKS", "http://example.com/keys", "https"),
        ("ASSETLANE_JWT_LEEWAY_SECONDS", "-1", "must be at least 0"),
        ("ASSETLANE_POLICY_FILE", "policy.toml", "needs ASSETLANE_JWT_KEY_FILE"),
        ("ASSETLANE_JWT_ISSUER", "us", "needs ASSETLANE_JWT_KEY_FILE"),
        ("ASSETLANE_JWT_AUDIENCE", "us", "needs ASSETLANE_JWT_KEY_FILE"),
        ("ASSETLANE_TLS_CERT_FILE", "a.pem", "go together"),
        ("ASSETLANE_TLS_KEY_FILE", "a.key", "go together"),
        ("ASSETLANE_TLS_CLIENT_CA_FILE", "a.pem", "needs ASSETLANE_TLS_CERT_FILE"),
    ],
)
def test_a_wrong_setting_is_named_with_the_reason(variable: str, value: str, reason: str) -> None:
    """The operator reads which variable it is and what would be right, and never a secret."""
    with pytest.raises(NotReady) as refused:
        settings_from({**LEAST, variable: value})
    message = str(refused.value)
    assert variable in message
    assert reason in message
    assert "only-one" not in message


def test_all_wrong_settings_are_named_at_once() -> None:
    """Fixed in one go."""
    with pytest.raises(NotReady) as refused:
        settings_from({"ASSETLANE_GRACE": "5", "ASSETLANE_LISTEN": "x"})
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        "ASSETLANE_GRACE", "ASSETLANE_LISTEN", "ASSETLANE_MONGO_URI", "ASSETLANE_S3_BUCKET",
    ]  # fmt: skip


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
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "is not UTF-8"),
        (b"x" * 70_000, "longer than 65536 bytes"),
    ],
)
def test_a_file_of_a_secret_that_is_no_good_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """With its variable, its path and the reason, never with what it holds."""
    file = tmp_path / "uri"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(NotReady) as refused:
        settings_from({"ASSETLANE_S3_BUCKET": "bucket", "ASSETLANE_MONGO_URI_FILE": str(file)})
    first = str(refused.value).splitlines()[-1]
    assert first.startswith(f"ASSETLANE_MONGO_URI_FILE: {file} ")
    assert reason in first


def test_only_secrets_have_files_and_only_once(tmp_path: Path) -> None:
    """A value and its file exclude each other; other settings have none."""
    (tmp_path / "uri").write_text("mongodb://a")
    with pytest.raises(NotReady) as refused:
        settings_from(
            {
                **LEAST,
                "ASSETLANE_MONGO_URI_FILE": str(tmp_path / "uri"),
                "ASSETLANE_S3_BUCKET_FILE": str(tmp_path / "uri"),
            }
        )
    assert str(refused.value).splitlines() == [
        "ASSETLANE_MONGO_URI_FILE and ASSETLANE_MONGO_URI exclude each other: set one",
        "ASSETLANE_S3_BUCKET_FILE: there is no such setting",
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
    ("text", "reasons"),
    [
        ("s3_bukket = 'x'", ["FILE: s3_bukket: there is no such setting"]),
        ("[s3]\nbucket = 'x'", ["FILE: s3: there is no such setting"]),
        ("workers = 'many'", ["FILE: workers: must be a whole number"]),
        (
            "workers = 0\ngrace_seconds = 'x'",
            ["FILE: workers: must be at least 1", "FILE: grace_seconds: must be a number"],
        ),
        ("listen = 5", ["FILE: listen: must be a text"]),
        ("reflection = 'maybe'", ["FILE: reflection: must be true or false"]),
        ("grace_seconds = inf", ["FILE: grace_seconds: must be at most 600"]),
        ("no toml", ["ASSETLANE_SETTINGS_FILE: FILE is not TOML: "]),
        (None, ["ASSETLANE_SETTINGS_FILE: FILE cannot be read: No such file or directory"]),
    ],
)
def test_a_settings_file_that_is_wrong_is_named(tmp_path: Path, text: str | None, reasons: list[str]) -> None:
    """File, setting and reason, all at once."""
    file = tmp_path / "assetlane.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(NotReady) as refused:
        settings_from({**LEAST, "ASSETLANE_SETTINGS_FILE": str(file)})
    message = str(refused.value).replace(str(file), "FILE")
    assert all(reason in message for reason in reasons), message


def test_no_words_of_a_library_reach_the_operator() -> None:
    """Whatever kind of value is wrong: every field is given every kind of nonsense."""
    for name, field in Settings.model_fields.items():
        for nonsense in ("", "-1", "nan", "1e99", "x" * 5000, "no", "0"):
            try:
                settings_from({**LEAST, f"ASSETLANE_{name.upper()}": nonsense})
            except NotReady as error:
                for line in str(error).splitlines():
                    assert not re.search(
                        r"[Ii]nput should|valid (integer|number|boolean)|[Vv]alue error|pydantic", line
                    ), line
                    assert not line.endswith("is not a value that this setting takes"), (field, line)
