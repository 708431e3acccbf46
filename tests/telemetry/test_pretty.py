"""What people read on a terminal."""

import logging
import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.leaks import leaks

from assetlane_server.telemetry.log import formatter
from assetlane_server.telemetry.pretty import COLUMNS
from assetlane_server.telemetry.redaction import Redaction

NONE: Mapping[str, object] = {}
COLORS = re.compile(r"\x1b\[[0-9;]*m")
FIRST = re.compile(r"\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error|critical) +")
CALL = {
    "request_id": "0123456789abcdef",
    "method": "UploadService/RequestUpload",
    "uid": "auth0|5f7c8ec7c33c6c004bbafe82",
    "upload_id": "01k8m3v9q2w4x6y8z0a1b2c3d4",
    "code": "RESOURCE_EXHAUSTED",
    "duration_ms": 12.345,
    "reason": "TOO_MANY_UPLOADS",
}


def written(message: str, fields: Mapping[str, object] = NONE, *, has_colors: bool = False) -> str:
    """Returns what is written of a record."""
    record = logging.getLogger("assetlane_server.calls").makeRecord(
        "assetlane_server.calls", logging.WARNING, __file__, 1, message, (), None, extra=dict(fields)
    )
    return formatter(is_pretty=True, has_colors=has_colors, redaction=Redaction(["correct horse battery"])).format(
        record
    )


@pytest.mark.parametrize("has_colors", [False, True])
def test_the_time_comes_first_then_the_level_and_the_event(has_colors: bool) -> None:
    """Fields follow, all of them, and what does not fit goes on in indented lines."""
    text = COLORS.sub("", written("call ended", CALL, has_colors=has_colors))
    lines = text.split("\n")
    assert FIRST.match(lines[0])
    assert FIRST.sub("", lines[0]).startswith("call ended  ")
    assert all(line.startswith("    ") for line in lines[1:])
    assert max(map(len, lines)) <= COLUMNS
    for name, value in CALL.items():
        assert re.search(rf"\b{name}='?{re.escape(str(value))}", text), name


@given(
    st.text(max_size=300),
    st.dictionaries(st.sampled_from(["uid", "why", "path"]), st.text(max_size=300) | st.integers() | st.none()),
)
def test_no_line_is_wider_than_100_columns(message: str, fields: dict[str, object]) -> None:
    """Whatever is logged; and nothing in it begins a line of its own."""
    lines = written(message.replace("%", ""), fields).split("\n")
    assert max(map(len, lines)) <= COLUMNS
    assert FIRST.match(lines[0])
    assert all(line.startswith("    ") for line in lines[1:])


@pytest.mark.parametrize("before", range(60, 130))
def test_a_secret_that_would_be_broken_in_two_is_hidden_before(before: int) -> None:
    """Wherever the end of the line falls."""
    text = written("x" * before + " https://store/b?X-Amz-Signature=0123456789abcdef0123 correct horse battery")
    assert leaks(text) == []
    assert "correct" not in text
    assert "89abcdef" not in text


def test_a_traceback_follows_in_lines_of_its_own() -> None:
    """As Python writes it."""
    try:
        raise ValueError("broken")
    except ValueError as error:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, __file__, 1, "failed", (), (type(error), error, error.__traceback__)
        )
    text = formatter(is_pretty=True, has_colors=False, redaction=Redaction()).format(record)
    assert text.split("\n")[1] == "Traceback (most recent call last):"
    assert text.endswith("ValueError: broken")
