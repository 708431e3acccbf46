"""How lines look, and where."""

import json
import os
import pty
import subprocess
import sys

import pytest

SCRIPT = (
    "import logging, sys; from assetlane_server.telemetry.log import log_to\n"
    "log_to(sys.stderr, level='info', form=sys.argv[1])\n"
    "logging.getLogger('somebody').warning('%s is %s', 'sky', 'blue', extra={'upload_id': '01k8'})\n"
    "logging.getLogger('botocore.auth').info('CanonicalRequest')\n"
    "logging.getLogger('somebody').debug('too much')\n"
)
READ_BYTES = 65_536


def on_a_terminal(form: str) -> str:
    """Returns what the script writes to a terminal."""
    ours, theirs = pty.openpty()
    try:
        environment = {**os.environ, "TERM": "xterm"}
        subprocess.run([sys.executable, "-c", SCRIPT, form], stderr=theirs, env=environment, timeout=60, check=True)
        return os.read(ours, READ_BYTES).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def in_a_pipe(form: str) -> str:
    """Returns what the script writes to a pipe."""
    run = subprocess.run([sys.executable, "-c", SCRIPT, form], capture_output=True, text=True, timeout=60, check=True)
    return run.stderr


@pytest.mark.parametrize(("write", "form"), [(in_a_pipe, "auto"), (in_a_pipe, "json"), (on_a_terminal, "json")])
def test_programs_read_json(write: object, form: str) -> None:
    """One object a line, of other people's loggers too; what came first is what people look for first."""
    assert callable(write)
    (line,) = write(form).splitlines()
    fields = json.loads(line)
    assert list(fields)[:4] == ["time", "level", "event", "logger"]
    assert fields["time"].endswith("Z")
    del fields["time"], fields["pid"]
    assert fields == {"level": "warning", "event": "sky is blue", "logger": "somebody", "upload_id": "01k8"}


@pytest.mark.parametrize(("write", "form"), [(on_a_terminal, "auto"), (on_a_terminal, "pretty"), (in_a_pipe, "pretty")])
def test_people_read_a_line_with_colours_where_there_are_some(write: object, form: str) -> None:
    """Pretty on a terminal, and plain where it was asked for in a pipe."""
    assert callable(write)
    (line,) = write(form).splitlines()
    assert not line.startswith("{")
    assert "sky is blue" in line
    assert ("\x1b[" in line) == (write is on_a_terminal)
