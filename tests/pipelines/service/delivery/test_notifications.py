"""What the settings say about telling: who, what is kept back, and what is wrong with them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.commands.installation.check import run_checks
from pipelines.service.delivery.notifications import mute_filter_of, open_receivers
from tests import factories
from tests.receivers import receiving
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.reactions.notifications import QueuedAlert
from vqmon.core.types import Alert
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings, load_settings
from vqmon.testing import MemoryWebhook


def notice(alert: Alert, *, age: timedelta) -> QueuedAlert:
    """An alert that came in now, about media of some age."""
    now = datetime.now(UTC)
    alert = replace(alert, began_at=now - age, opened_at=now - age)
    return QueuedAlert(alert=alert, opened=alert, queued_at=now, changed_at=now)


def test_alerts_about_old_segments_are_kept_back_until_the_media_is_of_today() -> None:
    """A backfill wakes nobody; what still holds when its rendition has caught up is told."""
    held = mute_filter_of(Settings().notify)
    fresh, old = notice(ALERT, age=timedelta(minutes=5)), notice(replace(ALERT, id="b" * 32), age=timedelta(hours=2))
    assert held([fresh, old]) == {old.alert.id}
    late = replace(factories.segment(sequence=1), starts_at=datetime.now(UTC) - timedelta(hours=1))
    held.media_ends_at[late.rendition.key] = late.ends_at
    assert held([old]) == {old.alert.id}
    held.media_ends_at[late.rendition.key] = datetime.now(UTC) - timedelta(seconds=20)
    assert held([old]) == set()


def test_a_late_alert_of_a_group_is_told_when_the_media_is_of_today() -> None:
    """No segment has the name of a group; those of its series tell."""
    held = mute_filter_of(Settings().notify)
    old = notice(replace(ALERT, stream_id="*", rendition="group", series="all/group/lite"), age=timedelta(hours=2))
    assert held([old]) == {old.alert.id}
    held.media_ends_at["news/hd"] = datetime.now(UTC) - timedelta(hours=1)
    assert held([old]) == {old.alert.id}
    held.media_ends_at["news/hd"] = datetime.now(UTC) - timedelta(seconds=20)
    assert held([old]) == set()


def test_windows_and_severities_keep_back(tmp_path: Path) -> None:
    """As the settings file says it."""
    now = datetime.now(UTC)
    file = tmp_path / "vqmon.toml"
    file.write_text(
        '[notify]\nseverities = ["page"]\n[notify.windows.swap]\nstreams = ["news-*"]\n'
        f"from = {(now - timedelta(hours=1)).isoformat()}\nuntil = {(now + timedelta(hours=1)).isoformat()}\n",
        encoding="utf-8",
    )
    held = mute_filter_of(load_settings(file).notify)
    none = timedelta()
    assert held([notice(ALERT, age=none)]) == {ALERT.id}
    assert held([notice(replace(ALERT, stream_id="sports"), age=none)]) == set()
    assert held([notice(replace(ALERT, stream_id="sports", severity="ticket"), age=none)]) == {ALERT.id}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[notify.windows.a]\nfrm = 2026-12-01T02:00:00Z\n",
            "unknown setting 'notify.windows.a.frm'; did you mean 'from'",
        ),
        ("[notify.webhooks.a]\nurl = 'ftp://x'\n", "notify.webhooks.a.url: must be an address that begins"),
        ("[notify.webhooks.a]\nurl = 'https://x'\nsecret = 'y'\n", "did you mean 'secret_files'"),
        ("[notify]\nalertmanager = ['http://x']\n", "did you mean 'notify.alertmanagers'"),
        ("[notify.windows.a]\nfrom = 2026-12-01T02:00:00\n", "notify.windows.a.from: must be a moment with its zone"),
    ],
)
def test_wrong_settings_are_named_with_their_remedy(tmp_path: Path, text: str, message: str) -> None:
    """Also inside tables that have names of their own."""
    file = tmp_path / "vqmon.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert message in str(caught.value)


def test_a_window_without_an_end_is_refused(tmp_path: Path) -> None:
    """It names the window."""
    file = tmp_path / "vqmon.toml"
    file.write_text("[notify.windows.a]\ndaily_from = 02:00:00\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"notify.windows.a: .*daily_until"):
        mute_filter_of(load_settings(file).notify)


def test_targets_are_those_of_the_settings_with_their_secrets(tmp_path: Path) -> None:
    """A token and keys come from files; a missing one is named, a label that Prometheus cannot take too."""
    (tmp_path / "key").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    hook = {"url": "https://x.example.org", "secret_files": [tmp_path / "key"]}
    notify = {"alertmanagers": ["http://am:9093/"], "webhooks": {"chat": hook}, "token_file": tmp_path / "key"}
    receivers = open_receivers(Settings(notify=notify).notify, MemoryWebhook())  # type: ignore[arg-type]
    assert [target.name for target in receivers] == ["http://am:9093", "webhook chat"]
    hook["secret_files"] = [tmp_path / "none"]
    with pytest.raises(SettingsError, match="none: cannot read this secret"):
        open_receivers(Settings(notify=notify).notify, MemoryWebhook())  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"notify\.labels: label 'a-b'"):
        open_receivers(Settings(notify={"labels": {"a-b": "c"}}).notify, MemoryWebhook())  # type: ignore[arg-type]


def test_check_asks_every_alertmanager(tmp_path: Path) -> None:
    """One that takes a list of no alerts is well; the answer of one that does not is shown."""
    file = tmp_path / "vqmon.toml"
    with receiving() as receiver:
        receiver.answers = [(200, {}), (404, {})]
        file.write_text(f'[notify]\nalertmanagers = ["{receiver.url}"]\n', encoding="utf-8")
        checks = [{check.subject: check for check in run_checks(file, offline=False)}["notify"] for _ in range(2)]
    assert [check.passed for check in checks] == [True, False]
    assert "404" in checks[1].text
    assert [body for _, _, body, _ in receiver.came] == [b"[]", b"[]"]
