"""Alerts reach people through a real Alertmanager: once per incident, grouped, closed again, over any sudden end."""

import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.acceptance.notifier import hold_against, kill_often, settings_for
from tests.acceptance.streams import BLACK
from tests.media.clips import clip, x264
from tests.ports import free_port
from tests.receivers import alertmanager_at, receiving, wait_until

pytestmark = pytest.mark.alertmanager

WAIT_SECONDS = 120.0
"""For any one event; it comes within seconds on a machine that does nothing else."""

KILLS = 20
"""`python -m bench notify` kills 200 times."""

CONFIG = """
[source]
kind = "folder"
folder = "incoming"
folder_stream_id = "tv"
folder_settle_seconds = 0.3
[notify]
alertmanagers = ["{first}", "{second}"]
public_url = "https://vqmon.example.org"
labels = {{ site = "oslo" }}
[notify.windows.swap]
renditions = ["360p"]
from = 2020-01-01T00:00:00Z
until = 2099-01-01T00:00:00Z
[notify.webhooks.hook]
url = "{hook}/direct"
secret_files = ["{secret}"]
[daemon]
health_port = {port}
"""


def test_an_incident_is_one_notification_grouped_and_closed(alertmanager: str, tmp_path: Path) -> None:
    """Two renditions go black: both replicas know, people hear once of both, and once that it is over.

    A third rendition is in maintenance: its alert is stored, and nobody hears of it.
    """
    good, black = (clip(*x264(), size="192x108", seconds=4, **more) for more in ({}, {"source": BLACK}))
    folders = {name: tmp_path / "incoming" / name for name in ("1080p", "720p", "360p")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    port = free_port()
    first_port = free_port()
    with receiving() as people, alertmanager_at(alertmanager, tmp_path / "b") as second, receiving() as hook:
        first = f"http://127.0.0.1:{first_port}"
        facts = {"first": first, "second": second.url, "hook": hook.url, "port": port}
        (tmp_path / "vqmon.toml").write_text(CONFIG.format(**facts, secret=tmp_path / "secret"), encoding="utf-8")
        command = [sys.executable, "-m", "vqmon", "run"]
        with ExitStack() as stack, (tmp_path / "log").open("wb") as log:
            daemon = stack.enter_context(subprocess.Popen(command, cwd=tmp_path, stderr=log))
            stack.callback(daemon.terminate)
            for folder in folders.values():
                (folder / "1.ts").write_bytes(black)
            about = "?filter=" + quote('rule="black"')
            wait_until(lambda: len(second.alerts(about)) == 2, seconds=WAIT_SECONDS)
            # it comes up when both are open, and gets both at once: how far apart they were opened is no matter
            replica = alertmanager_at(
                alertmanager, tmp_path / "a", hook=people.url, wait="2s", interval="2s", port=first_port
            )
            replicas = (stack.enter_context(replica), second)
            wait_until(lambda: people.came, seconds=WAIT_SECONDS)
            (alert, _) = replicas[0].alerts(about)
            scrape = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
            for number in (2, 3):
                for folder in folders.values():
                    (folder / f"{number}.ts").write_bytes(good)
            wait_until(lambda: not any(replica.alerts(about) for replica in replicas), seconds=WAIT_SECONDS)
            wait_until(
                lambda: any(notification["status"] == "resolved" for notification in people.notifications),
                seconds=WAIT_SECONDS,
            )
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(timeout=WAIT_SECONDS) == 0

    assert alert["labels"].items() >= {"site": "oslo", "stream": "tv", "signal": "black", "severity": "ticket"}.items()
    assert alert["generatorURL"].startswith("https://vqmon.example.org/alerts/")
    groups = [
        notification
        for notification in people.notifications
        if notification["groupLabels"]["alertname"] == "VqmonBlack"
    ]
    heard = [{alert["labels"]["rendition"]: alert["status"] for alert in group["alerts"]} for group in groups]
    assert heard[0] == {"1080p": "firing", "720p": "firing"}
    # the two may end on either side of a moment at which Alertmanager sends; the last one then tells both again
    assert [group["status"] for group in groups] in (["firing", "resolved"], ["firing", "firing", "resolved"])
    ends = {rendition for alerts in heard[1:] for rendition, status in alerts.items() if status == "resolved"}
    assert ends == {"1080p", "720p"}
    assert re.search(rf'vqmon_notify_sent_total{{.*state="open",target="{first}"}} \d', scrape)
    assert re.search(rf'vqmon_notify_waiting{{.*target="{second.url}"}} 0', scrape)
    ids = [headers["webhook-id"] for _, headers, body, _ in hook.came if b'"black"' in body]
    assert len(ids) == len(set(ids)) == 4
    assert not any("360p" in body.decode() for _, _, body, _ in hook.came)


def test_nothing_is_lost_or_doubled_over_many_kills(alertmanager: str, tmp_path: Path) -> None:
    """Killed at random moments: each change reaches a webhook, and people hear of each incident exactly once."""
    path = tmp_path / "history.db"
    with (
        receiving() as people,
        alertmanager_at(alertmanager, tmp_path / "am", hook=people.url, wait="0s", by="...") as replica,
        receiving() as hook,
    ):
        kill_often(path, settings_for([replica.url], hook.url), people=people.url, kills=KILLS, seed=11)
        ids = [headers["webhook-id"] for _, headers, _, _ in hook.came]
        wait_until(lambda: hold_against(path, ids, people.notifications).never_ended == 0, seconds=WAIT_SECONDS)
        result = hold_against(path, ids, people.notifications)
        assert replica.alerts() == []

    assert result.alerts > KILLS
    assert (result.lost, result.disordered, result.unnoticed, result.doubled) == (0, 0, 0, 0)
    # Only what was on its way at a kill is said again, with the same id.
    assert result.repeated <= KILLS
