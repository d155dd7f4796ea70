"""Every alert that vqmon ships leads to an entry of the runbooks."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import yaml

from pipelines.daemon.overload import OVERLOADED_RULE
from pipelines.fleet.judging.judge import REJECTED_RULE
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.transport.notify.labels import LabelConfig, alert_annotations

ROOT = Path(__file__).parents[2]
ANCHORS = set(re.findall(r"\{#(\w+)\}", (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")))
PAGE = "https://vqmon.example.org/docs/runbooks.html"


def test_every_shipped_rule_of_prometheus_has_the_address_of_its_runbook() -> None:
    """The anchor is the name of the alert."""
    groups = yaml.safe_load((ROOT / "config" / "prometheus" / "vqmon.rules.yml").read_text(encoding="utf-8"))["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]

    assert {rule["alert"]: rule["annotations"].get("runbook_url") for rule in alerts} == {
        rule["alert"]: f"{PAGE}#{rule['alert'].lower()}" for rule in alerts
    }
    assert [rule["alert"] for rule in alerts if rule["alert"].lower() not in ANCHORS] == []


def test_every_shipped_rule_of_vqmon_has_a_runbook() -> None:
    """`notify.runbook_url` and the anchor; so have alerts about partitions and origins of a fleet."""
    rules = tomllib.loads((ROOT / "config" / "rules.toml").read_text(encoding="utf-8"))["rules"]
    config = LabelConfig(runbook_url=PAGE)
    urls = {
        name: alert_annotations(replace(ALERT, rule=name), config)["runbook_url"]
        for name in (*rules, REJECTED_RULE, OVERLOADED_RULE, "partition-stopped", "origin-away")
    }

    assert urls["low-score"] == f"{PAGE}#vqmonlowscore"
    assert [name for name, url in urls.items() if url.removeprefix(f"{PAGE}#") not in ANCHORS] == []
    assert "runbook_url" not in alert_annotations(ALERT, LabelConfig())
