"""What lies in deploy/ fits the server: metrics, labels, settings and times that exist."""

import configparser
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import promql_parser as promql
import pytest
import yaml
from google.protobuf.descriptor_pool import Default
from prometheus_client.metrics import MetricWrapperBase

from assetlane_server.command.cli import _STOP_MARGIN_S
from assetlane_server.config.settings import CLIENTS, PREFIX, SECRETS, Settings
from assetlane_server.config.sources import SETTINGS_FILE
from assetlane_server.model.upload import Status
from assetlane_server.rpc.server import _SERVICES
from assetlane_server.telemetry.metrics import Metrics

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "assetlane.service").read_text()
CONTAINER = (DEPLOY / "Containerfile").read_text()

FROM_PROMETHEUS = {"job", "instance"}
PROCESS = {
    "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds",
}  # fmt: skip
VALUES = {
    "code": {code.name for code in grpc.StatusCode},
    "status": {status.value for status in Status},
    "outcome": {"ok", "failed", "cancelled"},
    "method": {
        f"{service.name}/{method.name}"
        for service in map(Default().FindServiceByName, _SERVICES)
        for method in service.methods
    },
}


def series() -> dict[str, set[str]]:
    """Returns the names of all time series that a server has, and their labels."""
    found: dict[str, set[str]] = {}
    for metric in vars(Metrics()).values():
        if not isinstance(metric, MetricWrapperBase):
            continue
        labels = set(metric._labelnames)
        match metric._type:
            case "counter":
                found[f"{metric._name}_total"] = labels
            case "histogram":
                found |= {f"{metric._name}_bucket": labels | {"le"}}
                found |= {f"{metric._name}_{end}": labels for end in ("sum", "count")}
            case _:
                found[metric._name] = labels
    found["assetlane_build_info"] = {"version", "python"}
    return found


SERIES = series()


def dashboard() -> list[str]:
    """Returns every query of the dashboard, with its variables filled in."""
    panels = json.loads((DEPLOY / "grafana/assetlane.json").read_text())["panels"]
    return [
        target["expr"].replace("$__rate_interval", "5m").replace("$job", ".+")
        for panel in panels
        for target in panel.get("targets", ())
    ]


def rules() -> list[dict[str, Any]]:
    """Returns the alert rules."""
    parsed = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    return [rule for group in parsed["groups"] for rule in group["rules"]]


def nodes(node: Any) -> Iterator[Any]:
    """Yields an expression and all that it is made of."""
    yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if (part := getattr(node, name, None)) is not None:
            yield from nodes(part)
    for part in getattr(node, "args", ()):
        yield from nodes(part)


def used(query: str) -> dict[str, set[str]]:
    """Returns the series that a query reads. Fails for a series, a label or a value that there is not."""
    found: dict[str, set[str]] = {}
    grouped: set[str] = set()
    for node in nodes(promql.parse(query)):
        if isinstance(node, promql.VectorSelector):
            assert node.name in SERIES.keys() | PROCESS | {"up"}, f"{node.name}: {query}"
            labels = SERIES.get(node.name, set()) | FROM_PROMETHEUS
            found[node.name] = labels
            for matcher in node.matchers.matchers:
                assert matcher.name in labels, f"{matcher.name} of {node.name}: {query}"
                for value in matcher.value.split("|") if matcher.name in VALUES else ():
                    assert value in VALUES[matcher.name], f"{value}: {query}"
        elif isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            grouped |= set(node.modifier.labels)
    assert found, query
    for label in grouped:
        assert any(label in labels for labels in found.values()), f"{label}: {query}"
    return found


def test_every_query_of_the_dashboard_reads_what_there_is() -> None:
    """Names, labels and the values of labels; and nothing that there is goes unseen."""
    seen = {name for query in dashboard() for name in used(query)}
    unseen = {name for name in SERIES if name not in seen and not name.endswith(("_sum", "_count", "_bucket"))}
    assert unseen == set()
    histograms = {name.removesuffix("_sum") for name in SERIES if name.endswith("_sum")}
    assert {name for name in histograms if f"{name}_bucket" not in seen} == set()


def test_every_panel_says_what_it_shows() -> None:
    """With an id of its own, in a place of its own, as wide as the page."""
    panels = json.loads((DEPLOY / "grafana/assetlane.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    assert all(panel["type"] == "row" or (panel["description"] and panel["targets"]) for panel in panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_every_alert_reads_what_there_is_and_says_what_to_do() -> None:
    """A sentence for the person who is woken, and the next step."""
    assert len({rule["alert"] for rule in rules()}) == len(rules()) > 8
    for rule in rules():
        used(rule["expr"])
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "action"}
        # What a summary names is left of the aggregation.
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            by = re.findall(r"by \(([^)]*)\)", rule["expr"])
            assert not by or any(label in group.split(", ") for group in by), rule["alert"]


@pytest.mark.parametrize(
    "query",
    [
        "assetlane_call_total",
        'assetlane_calls_total{status="OK"}',
        'assetlane_calls_total{code="FAILED"}',
        "sum by (uid) (assetlane_calls_total)",
    ],
)
def test_the_check_itself_finds_what_is_wrong(query: str) -> None:
    """A name, a label, a value, a grouping."""
    with pytest.raises(AssertionError):
        used(query)


@pytest.mark.parametrize(
    "text", [UNIT, CONTAINER, (ROOT / "docs" / "production.md").read_text()], ids=["unit", "container", "production"]
)
def test_every_setting_that_is_named_exists(text: str) -> None:
    """The client's own aside."""
    settings = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    known = settings | CLIENTS | {SETTINGS_FILE} | {f"{PREFIX}{name.upper()}_FILE" for name in SECRETS}
    named = set(re.findall(r"\bASSETLANE_[A-Z0-9_]*[A-Z0-9]\b(?!_?\*)", text))
    assert named
    assert {name for name in named if name not in known} <= {"ASSETLANE_JWT", "ASSETLANE_CUT"}


def test_the_units_times_fit_the_servers() -> None:
    """Systemd waits longer than the supervisor, which waits longer than a worker."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT)
    service = unit["Service"]
    grace_s = Settings.model_fields["grace_seconds"].default
    assert float(service["TimeoutStopSec"]) >= grace_s + _STOP_MARGIN_S
    assert service["ExecStart"].endswith("/assetlane-server serve")
    assert int(service["LimitNOFILE"]) > Settings.model_fields["max_watches"].default
    assert (service["DynamicUser"], service["ProtectSystem"], service["CapabilityBoundingSet"]) == ("yes", "strict", "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    """No unknown setting; exposed to less than a fifth of what there is."""
    systemd_analyze = shutil.which("systemd-analyze") or ""
    unit = tmp_path / "assetlane.service"
    program = tmp_path / "assetlane-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit.write_text(UNIT.replace("/opt/assetlane/bin/assetlane-server", str(program)))
    verified = subprocess.run(
        [systemd_analyze, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert "assetlane.service" not in verified.stderr, verified.stderr
    security = subprocess.run(
        [systemd_analyze, "security", "--offline=true", unit], capture_output=True, text=True, timeout=60, check=False
    )
    exposure = re.search(r"Overall exposure level for assetlane.service: ([\d.]+)", security.stdout)
    assert exposure is not None, security.stderr
    assert float(exposure[1]) < 2


def test_the_image_is_built_of_files_that_are_there_and_runs_as_nobody() -> None:
    """Ports as the settings in it say, and what it copies is not ignored."""
    copied = [words[:-1] for words in (line.split()[1:] for line in CONTAINER.splitlines() if line.startswith("COPY "))]
    sources = [source for words in copied for source in words if not words[0].startswith("--from")]
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert let_in == set(sources)
    ports = re.findall(r"ASSETLANE_(?:METRICS_)?LISTEN=0\.0\.0\.0:(\d+)", CONTAINER)
    exposed = re.search(r"^EXPOSE (.+)$", CONTAINER, flags=re.MULTILINE)
    assert exposed is not None
    assert exposed[1].split() == ports
    assert f"http://127.0.0.1:{ports[1]}/livez" in CONTAINER
    assert ports[0] == Settings.model_fields["listen"].default.rpartition(":")[2]
    # The last user that is named is the one who runs it.
    assert re.findall(r"^USER (\d+):\d+$", CONTAINER, flags=re.MULTILINE)[-1] != "0"


def test_the_image_installs_what_was_tested() -> None:
    """Its lock file names no other version than the developers'."""
    pins = [
        set(re.findall(r"^([a-z0-9._-]+==\S+)", (ROOT / f"requirements/{name}.txt").read_text(), flags=re.MULTILINE))
        for name in ("server", "dev")
    ]
    assert pins[0] <= pins[1]
    assert {"structlog", "prometheus-client", "motor"} <= {pin.partition("==")[0] for pin in pins[0]}
    assert not {"pytest", "mypy", "secantusdb"} & {pin.partition("==")[0] for pin in pins[0]}
