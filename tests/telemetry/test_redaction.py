"""What is taken out of a line, and what stays."""

import json
import logging
import subprocess
import sys

import pytest
from tests.leaks import LogSearch, leaks

from assetlane_server.telemetry.log import formatter
from assetlane_server.telemetry.redaction import Redaction

SIGNED = (
    "https://s3.eu-west-1.amazonaws.com/lane/a%20b.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260101%2Feu-west-1%2Fs3%2Faws4_request"
    "&X-Amz-Security-Token=FwoGZXIvYXdzE&X-Amz-Signature=fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024"
)
TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl-c2ln_bmF0dXJl"  # noqa: S105 - it says: header, ann, signature
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ\n-----END PRIVATE KEY-----"
HEADER = (
    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3/aws4_request,"
    " SignedHeaders=host, Signature=fe5f80f77d5fa3beca038a248ff027d0"
)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"GET {SIGNED} failed", "GET https://s3.eu-west-1.amazonaws.com/lane/a%20b.jpg?*** failed"),
        (f'{{"url": "{SIGNED}"}}', '{"url": "https://s3.eu-west-1.amazonaws.com/lane/a%20b.jpg?***"}'),
        ("/lane/a?X-Amz-Signature=fe5f80&x=1", "/lane/a?X-Amz-Signature=***&x=1"),
        ("X-Amz-Credential%3DAKIA%2F2026", "X-Amz-Credential%3D***"),
        (HEADER, "AWS4-HMAC-SHA256 Credential=***, SignedHeaders=host, Signature=***"),
        (f"authorization: Bearer {TOKEN}", "authorization: Bearer ***"),
        ("authorization: basic YW5uOnB3", "authorization: basic ***"),
        (f"('authorization', '{TOKEN}')", "('authorization', '***')"),
        (f"key {PEM} read", "key *** read"),
        (json.dumps({"key": PEM}), '{"key": "***"}'),
        ("mongodb://ann:pa%40ss@db1,db2/lane?replicaSet=rs0", "mongodb://***@db1,db2/lane?***"),
        ("serving on 127.0.0.1:50151", "serving on 127.0.0.1:50151"),
        ("upload 01jd expired without original, small", "upload 01jd expired without original, small"),
        ("metrics on http://127.0.0.1:9464/metrics", "metrics on http://127.0.0.1:9464/metrics"),
    ],
)
def test_what_nobody_may_read_is_taken_out_and_the_rest_stays(text: str, clean: str) -> None:
    """In prose, in JSON and in a repr."""
    assert Redaction().clean(text) == clean


@pytest.mark.parametrize("secret", ["wJalrXUtnFEMI/K7MDENG+bPx", 'quo"te\\and back', "ümlaut geheim"])
def test_the_secrets_of_the_settings_go_in_every_spelling(secret: str) -> None:
    """As they are, percent-encoded, and as JSON has them."""
    from urllib.parse import quote, quote_plus

    redaction = Redaction([secret])
    for spelling in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]):
        assert redaction.clean(f"<{spelling}>") == "<***>"


def test_a_short_secret_does_not_take_words_along() -> None:
    """The `admin` of a store for development."""
    assert Redaction(["admin", ""]).clean("the administrator") == "the administrator"


@pytest.mark.parametrize("is_pretty", [False, True])
def test_nothing_is_written_past_the_redaction(is_pretty: bool) -> None:
    """Not from the message, its arguments, extra fields, objects, or a traceback."""
    writing = formatter(is_pretty=is_pretty, has_colors=is_pretty, redaction=Redaction(["correct horse battery"]))
    try:
        raise ValueError(f"refused: {SIGNED}") from KeyError(f"Bearer {TOKEN}")
    except ValueError:
        record = logging.getLogger("somebody").makeRecord(
            "somebody", logging.ERROR, __file__, 1, "%s and %r", (SIGNED, {"authorization": TOKEN}), sys.exc_info(),
            extra={"token": "opaque", "url": SIGNED, "why": ["correct horse battery"], "key": PEM},
        )  # fmt: skip
    line = writing.format(record)
    assert leaks(line) == []
    assert not any(word in line for word in ("AKIA", "fe5f80", "correct horse", "opaque", "MC4C", "c2lnbmF0"))
    assert "ValueError" in line
    assert "s3.eu-west-1.amazonaws.com/lane/a%20b.jpg" in line


def test_the_search_of_the_run_finds_what_there_is() -> None:
    """Else its silence would mean nothing: a line of ours is held to it before the redaction."""
    search = LogSearch()
    ours = logging.LogRecord("assetlane_server.x", logging.INFO, __file__, 1, "%s", (SIGNED,), None)
    search.emit(ours)
    assert len(search.found) == 1
    assert len(leaks("\n".join((SIGNED, f"Bearer {TOKEN}", TOKEN, HEADER, PEM)))) >= 5
    assert leaks(Redaction().clean("\n".join((SIGNED, f"Bearer {TOKEN}", TOKEN, HEADER, PEM)))) == []


def test_a_line_that_cannot_be_written_is_mentioned_without_what_it_says() -> None:
    """`logging` itself would print message and arguments."""
    script = (
        "import logging, sys; from assetlane_server.telemetry.log import log_to\n"
        "log_to(sys.stderr, level='info', form='json')\n"
        f"logging.getLogger('lib').info('%d', 'Bearer {TOKEN}')\n"
        "import warnings; warnings.warn('old ways')\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    first, second = run.stderr.splitlines()
    assert first == "a line of lib could not be logged (TypeError)"
    fields = json.loads(second)
    assert (fields["level"], fields["logger"]) == ("warning", "py.warnings")
    assert "old ways" in fields["event"]
