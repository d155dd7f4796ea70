"""The dashboards, rules and example settings for Grafana, Prometheus and Alertmanager fit each other and the daemon."""

import itertools
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader

from tests.conftest import need
from vqmon.telemetry.health import HealthServer, ProgressTracker
from vqmon.telemetry.metrics import METRICS, Meters

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
DASHBOARDS = sorted((CONFIG / "grafana" / "dashboards").glob("*.json"))
RULES = CONFIG / "prometheus" / "vqmon.rules.yml"
RULE_TESTS = sorted((ROOT / "tests" / "prometheus").glob("*.test.yml"))
VARIABLES = {"$__rate_interval": "5m", "$job": ".*", "$objective": "0.97"}
ELSEWHERE = {"up"}
"""Metrics that Prometheus itself makes."""


def loaded(file: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return dashboard


def panels_of(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Panels that show something: no rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def plain(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def expressions() -> Iterator[tuple[str, str]]:
    """Where it stands, and the PromQL there, of all dashboards and rules."""
    for file in DASHBOARDS:
        for panel in panels_of(loaded(file)):
            for target in panel["targets"]:
                yield f"{file.stem}: {panel['title']}", plain(target["expr"])
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            yield f"rules: {rule.get('alert') or rule['record']}", rule["expr"]


def recorded() -> set[str]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


@pytest.fixture(scope="module")
def scraped() -> set[str]:
    """Names of all series of a scrape of a health server, with every metric of the daemon used once."""
    meters = Meters(PrometheusMetricReader())
    try:
        for name, metric in METRICS.items():
            {"counter": meters.count, "gauge": meters.set, "histogram": meters.record}[metric.kind](name, 1)
        with (
            HealthServer("127.0.0.1", 0, progress=ProgressTracker(lambda: 0.0)) as server,
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer,
        ):
            lines = answer.read().decode().splitlines()
    finally:
        meters.close()
    return {re.split(r"[{ ]", line)[0] for line in lines if line and not line.startswith("#")}


def test_every_metric_that_is_asked_for_is_there(scraped: set[str]) -> None:
    """Names in dashboards and rules are those of a live scrape, or are recorded by a rule."""
    available = scraped | recorded() | ELSEWHERE
    asked = 0
    for location, expression in expressions():
        bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\b(by|on|without) \([^)]*\)|\[[^\]]*\]", " ", expression)
        names = re.findall(r"\b(?:vqmon[\w:]*|process_\w+|up)\b", bare)
        assert set(names) <= available, location
        asked += len(names)
    assert asked > 60


def test_no_metric_of_the_daemon_is_forgotten() -> None:
    """What people must see is on a dashboard: at least what is counted for quality, delivery and Kafka."""
    text = "".join(expression for _, expression in expressions())
    wanted = [
        name for name in METRICS if name.startswith(("vqmon.segment", "vqmon.notify", "vqmon.slo", "vqmon.alert"))
    ]
    assert [name for name in wanted if name.replace(".", "_") not in text] == []


@pytest.mark.promtool
def test_promtool_understands_every_expression(promtool: str, tmp_path: Path) -> None:
    """Those of panels too, as rules with their variables filled in."""
    rules = [{"record": f"panel:{number}", "expr": expression} for number, (_, expression) in enumerate(expressions())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    for arguments in (
        ["check", "rules", str(file)],
        ["check", "rules", str(RULES)],
        ["check", "config", str(CONFIG / "prometheus" / "prometheus.yml")],
        ["test", "rules", *(str(file) for file in RULE_TESTS)],
    ):
        run = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
        assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_rule_is_tested_and_says_what_to_do() -> None:
    """Each is expected once to fire in a unit test, has a summary, a service and a severity."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    tests = [test for file in RULE_TESTS for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == set(rules)
    for rule in rules.values():
        assert rule["annotations"]["summary"]
        assert rule["labels"]["service"] == "vqmon"
        assert rule["labels"]["severity"] in ("page", "ticket", "none")


@pytest.mark.alertmanager
def test_the_example_for_alertmanager_is_valid_and_knows_our_alerts(alertmanager: str) -> None:
    """amtool accepts it; pages and tickets go different ways."""
    amtool, file = shutil.which("amtool"), CONFIG / "alertmanager" / "alertmanager.yml"
    need("alertmanager", present=amtool is not None and bool(alertmanager), remedy="it brings amtool")

    def ask(*arguments: str) -> str:
        run = subprocess.run([str(amtool), *arguments], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return run.stdout

    ask("check-config", str(file))
    route = ["config", "routes", "test", f"--config.file={file}", "service=vqmon"]
    assert ask(*route, "severity=page", "alertname=VqmonLowScore").strip() == "on-call"
    assert ask(*route, "severity=ticket", "alertname=VqmonBlack").strip() == "tickets"
    assert ask(*route, "severity=none", "alertname=VqmonDeadMan").strip() == "dead-man"


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_is_whole(file: Path) -> None:
    """Classic model, a fixed uid, a data source to choose, panels with unit and description that do not overlap."""
    dashboard = loaded(file)
    assert dashboard["uid"] == file.stem
    assert dashboard["schemaVersion"] >= 36
    assert "id" not in dashboard
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert names[0] == "datasource"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels_of(dashboard):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0
        for owner in (panel, *panel["targets"]):
            assert owner["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= set(names), panel["title"]
            assert 'job=~"$job"' in target["expr"], panel["title"]
    for first_panel, other in itertools.combinations(dashboard["panels"], 2):
        assert not _overlap(first_panel["gridPos"], other["gridPos"]), (first_panel["title"], other["title"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in dashboard["panels"])


def _overlap(panel: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return all(panel[at] < other[at] + other[size] and other[at] < panel[at] + panel[size] for at, size in ("xw", "yh"))


def test_uids_and_titles_differ() -> None:
    """Two dashboards of one name would replace each other."""
    boards = [loaded(file) for file in DASHBOARDS]
    assert (
        len({dashboard["uid"] for dashboard in boards})
        == len({dashboard["title"] for dashboard in boards})
        == len(boards)
        >= 2
    )


def test_provisioning_names_what_is_there() -> None:
    """A Prometheus data source, and a provider of files."""
    folder = CONFIG / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))
    providers = yaml.safe_load((folder / "dashboards" / "vqmon.yaml").read_text(encoding="utf-8"))
    assert [source["type"] for source in sources["datasources"]] == ["prometheus"]
    assert sources["apiVersion"] == providers["apiVersion"] == 1
    assert [(provider["type"], bool(provider["options"]["path"])) for provider in providers["providers"]] == [
        ("file", True)
    ]
