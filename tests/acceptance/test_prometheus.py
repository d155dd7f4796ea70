"""A real Prometheus that scrapes `vqmon run` and `vqmon web`: shipped rules and dashboards find what they ask for."""

import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.streams import BLACK
from tests.conftest import need
from tests.media.clips import clip, x264
from tests.ports import free_port
from tests.receivers import receiving, wait_until
from tests.test_dashboards import CONFIG, DASHBOARDS, RULES, loaded, panels_of, plain

pytestmark = pytest.mark.promtool

SETTINGS = """
[source]
kind = "folder"
folder = "incoming"
folder_stream_id = "tv"
folder_settle_seconds = 0.1
[daemon]
health_port = {health_port}
[web]
port = {web_port}
[metrics]
streams = ["*"]
[notify.webhooks.hook]
url = "{hook_url}"
"""

NOT_HERE = re.compile("vqmon_kafka_.*|vqmon_watchdog_breach_total|vqmon_origin_closed|vqmon_stream_left_out")
"""Metrics of a daemon over Kafka, of several workers, or of what does not occur here."""


class Prometheus:
    """The HTTP API of a running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **query: str) -> Any:
        """The `data` of an answer; raises HTTPError for an expression that cannot be evaluated."""
        with urllib.request.urlopen(f"{self._url}/{path}?{urllib.parse.urlencode(query)}", timeout=10) as reply:
            answer = json.load(reply)
        assert answer["status"] == "success"
        assert not answer.get("warnings"), answer
        return answer["data"]

    def value(self, expression: str) -> list[Any]:
        """The series that an expression gives now."""
        series: list[Any] = self.ask("query", query=expression)["result"]
        return series

    def is_up(self, *, targets: int) -> bool:
        """Whether so many targets were scraped."""
        try:
            return len(self.value("up == 1")) == targets
        except OSError:
            return False


@contextmanager
def prometheus_at(folder: Path, *, ports: Mapping[str, int]) -> Iterator[Prometheus]:
    """Run a Prometheus with the shipped settings and rules, but for the ports, and every second."""
    program = shutil.which("prometheus")
    need("promtool", present=program is not None, remedy="install Debian's `prometheus`")
    shutil.copy(RULES, folder)
    settings = yaml.safe_load((CONFIG / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    settings["global"] = dict.fromkeys(settings["global"], "1s")
    del settings["alerting"]
    for job in settings["scrape_configs"]:
        job["static_configs"][0]["targets"] = [f"127.0.0.1:{ports[job['job_name']]}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    port = free_port()
    options = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "tsdb",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "warn",
    }
    command = [str(program), *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(command, stderr=log) as server:
        try:
            prometheus = Prometheus(port)
            wait_until(lambda: prometheus.is_up(targets=0), seconds=30)
            yield prometheus
        finally:
            server.terminate()


def asked_for() -> Iterator[tuple[str, str]]:
    """Where it stands, and the PromQL there, of all panels and all recording rules."""
    for file in DASHBOARDS:
        dashboard = loaded(file)
        for panel in panels_of(dashboard):
            for target in panel["targets"]:
                yield f"{file.stem}: {panel['title']}: {target['refId']}", plain(target["expr"])
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                yield f"rules: {rule['record']}", rule["expr"]


def metrics_in(expression: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\b(by|on|without) \([^)]*\)|\[[^\]]*\]", " ", expression)
    return set(re.findall(r"\b(?:vqmon[\w:]*|process_\w+|up)\b", bare))


def test_rules_and_dashboards_are_about_what_is_scraped(tmp_path: Path) -> None:
    """Every expression can be evaluated; all have data but those about Kafka; of the alerts the dead man fires alone.

    Counters have a zero before the first of what they count: otherwise `increase()` does not see it.
    """
    (tmp_path / "incoming").mkdir()
    ports = {"vqmon": free_port(), "vqmon-web": free_port()}
    good, black = (clip(*x264(), size="192x108", seconds=2, **more) for more in ({}, {"source": BLACK}))
    with receiving() as hook, prometheus_at(tmp_path, ports=ports) as prometheus, ExitStack() as stack:
        hook.answers = [(503, {})]
        facts = {"health_port": ports["vqmon"], "web_port": ports["vqmon-web"], "hook_url": hook.url}
        (tmp_path / "vqmon.toml").write_text(SETTINGS.format(**facts), encoding="utf-8")
        stack.enter_context(running("run", folder=tmp_path))
        wait_until(lambda: prometheus.value('vqmon_alert_transition_total{state="resolved"}'), seconds=60)
        publish(tmp_path, 1, [black])
        wait_until((tmp_path / "vqmon.db").exists, seconds=30)
        stack.enter_context(running("web", folder=tmp_path))
        wait_until(lambda: hook.came, seconds=60)
        publish(tmp_path, 2, [b"no media", good, good, good])
        wait_until(lambda: prometheus.value('vqmon_alert_transition_total{state="resolved"} > 0'), seconds=60)
        wait_until(lambda: prometheus.is_up(targets=2), seconds=30)
        # two scrapes of everything, and two evaluations of all rules
        with suppress(TimeoutError):
            wait_until(lambda: not missing_data(prometheus), seconds=30)

        assert missing_data(prometheus) == []
        (transitions,) = prometheus.value('sum(increase(vqmon_alert_transition_total{state="open"}[5m]))')
        assert float(transitions["value"][1]) > 0
        assert prometheus.value("vqmon_notify_given_up_total == 0")
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"]: rule["lastError"] for rule in rules if rule["health"] != "ok"} == {}
        assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == ["VqmonDeadMan"]


@contextmanager
def running(command: str, *, folder: Path) -> Iterator[None]:
    """Run a sub-command of vqmon in a folder."""
    with (
        (folder / f"{command}.log").open("wb") as log,
        subprocess.Popen([sys.executable, "-m", "vqmon", command], cwd=folder, stderr=log) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=40)


def publish(folder: Path, first: int, segments: Sequence[bytes]) -> None:
    for number, segment in enumerate(segments, start=first):
        (folder / "incoming" / f"{number}.ts").write_bytes(segment)


def missing_data(prometheus: Prometheus) -> list[str]:
    """The expressions that have no data now, but for those that ask for a metric of `NOT_HERE`."""
    return [
        f"{location}: {expression}"
        for location, expression in asked_for()
        if not any(NOT_HERE.fullmatch(name) for name in metrics_in(expression)) and not prometheus.value(expression)
    ]
