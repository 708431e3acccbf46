"""The script: what every client is asked to do, and what has to come of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

PROTOCOL: Final = 1
SCRIPT: Final = Path(__file__).parent / "script.json"


@dataclass(frozen=True, slots=True)
class MakeFile:
    """The driver makes a file: its `.path`, `.sha256` (hexadecimal) and `.size_bytes` are values from then on."""

    name: str
    text: str | None
    jpeg: tuple[int, int] | None  # width and height in pixels


@dataclass(frozen=True, slots=True)
class RestartServer:
    """The driver stops the server with SIGTERM, as a deployment does, and starts it again on the same port."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The client does something, and answers."""

    do: str
    arguments: Mapping[str, Any]
    expect: Mapping[str, Any]
    means: str
    save: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


Step = MakeFile | RestartServer | Ask


@dataclass(frozen=True, slots=True)
class Scenario:
    """Steps that need nothing of other scenarios."""

    name: str
    steps: tuple[Step, ...]
    is_of_backend: bool = False
    """Whether the client begins as a service caller, on a server that verifies tokens; else it is the user `ann`."""


def scenarios(path: Path = SCRIPT) -> tuple[Scenario, ...]:
    """Reads the script. Raises KeyError or ValueError when it is none."""
    script = json.loads(path.read_text())
    if script["protocol"] != PROTOCOL:
        raise ValueError(f"{path.name} is for protocol {script['protocol']}, this driver for {PROTOCOL}")
    return tuple(_scenario(entry) for entry in script["scenarios"])


def scenarios_of(caller: Literal["user", "backend"]) -> tuple[Scenario, ...]:
    """Returns the scenarios of the script that begin as this caller."""
    return tuple(scenario for scenario in scenarios() if scenario.is_of_backend == (caller == "backend"))


def _scenario(entry: Mapping[str, Any]) -> Scenario:
    caller = entry.get("as", "user")
    if caller not in ("user", "backend"):
        raise ValueError(f"{entry['name']}: no such caller: {caller}")
    return Scenario(entry["name"], tuple(_step(step) for step in entry["steps"]), caller == "backend")


def _step(entry: Mapping[str, Any]) -> Step:
    match entry:
        case {"make": name}:
            jpeg = entry.get("jpeg")
            return MakeFile(name, entry.get("text"), (jpeg[0], jpeg[1]) if jpeg else None)
        case {"driver": "restart_server"}:
            return RestartServer()
        case {"do": do, "with": arguments, "expect": expect, "means": means}:
            return Ask(do, arguments, expect, means, entry.get("save", {}))
    raise ValueError(f"no such step: {entry}")
