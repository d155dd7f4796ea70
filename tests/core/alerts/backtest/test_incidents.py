"""Alerts compared with known incidents, and the files that list these."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.factories import START
from vqmon.core.alerts.backtest.incidents import Incident, evaluate_alerts, parse_incidents
from vqmon.core.types import Alert, AlertEvidence
from vqmon.errors import SettingsError


def alert(
    seconds: float, *, stream: str = "news-1", rendition: str = "1080p", rule: str = "r", muted_by: str = ""
) -> Alert:
    at = START + timedelta(seconds=seconds)
    return Alert(
        id=f"{rule}{seconds}", rule=rule, series=f"{stream}/{rendition}/lite", stream_id=stream, rendition=rendition,
        severity="page", state="open", began_at=at, opened_at=at, resolved_at=None, summary="", muted_by=muted_by,
        evidence=AlertEvidence(event_id="e", reading="", value=None, threshold=None),
    )  # fmt: skip


def incident(began: float, ended: float, **more: str) -> Incident:
    return Incident(
        **({"stream": "news-*"} | more),
        began_at=START + timedelta(seconds=began),
        ended_at=START + timedelta(seconds=ended),
    )


def test_alerts_are_found_false_late_or_flapping() -> None:
    """Delay from the beginning to the first alert; a second alert of one series is flapping, of another rule is not."""
    alerts = [
        alert(40), alert(90), alert(60, rule="other"), alert(1000), alert(1020, muted_by="x"),
        alert(2010, rendition="group", stream="*"), alert(2020, stream="sports"),
    ]  # fmt: skip
    incidents = [incident(0, 100), incident(2000, 2100), incident(5000, 5100)]
    report = evaluate_alerts(alerts, incidents, stream_days=2.0)
    assert (
        report.alert_count,
        report.false_count,
        report.detected_count,
        report.incident_count,
        report.flapping_count,
    ) == (6, 2, 2, 3, 1)
    assert report.delays_seconds == (10.0, 40.0)
    assert report.false_per_stream_day == 1.0
    assert (report.delay_quantile(0.5), report.delay_quantile(0.95)) == (40.0, 40.0)
    assert evaluate_alerts([], [], stream_days=0.0).delay_quantile(0.5) is None


def test_a_fault_of_the_whole_ladder_is_one_alert_that_detects_it_in_every_rendition() -> None:
    """An alert that one of the others mutes detects its incident; muted by one that is not sent, it is no detection."""
    first = alert(40)
    alerts = [
        first, alert(70, rendition="720p", muted_by=first.id), alert(80, rendition="360p", muted_by="another"),
    ]  # fmt: skip
    incidents = [incident(0, 100, rendition=rendition) for rendition in ("1080p", "720p", "360p")]
    report = evaluate_alerts(alerts, incidents, stream_days=1.0)
    assert (report.alert_count, report.false_count, report.detected_count) == (1, 0, 2)
    assert report.delays_seconds == (40.0, 70.0)
    other = alert(50, rule="repeats", muted_by=first.id)
    report = evaluate_alerts([first, other], incidents[:1], stream_days=1.0, rule="repeats")
    assert (report.alert_count, report.detected_count, report.delays_seconds) == (0, 1, (50.0,))


def test_an_incident_has_a_little_room() -> None:
    """Half a minute before, two minutes after; only where it was."""
    short_incident = incident(100, 200, rendition="1080*")
    assert [short_incident.explains(alert(at)) for at in (60, 71, 319, 321)] == [False, True, True, False]
    assert not short_incident.explains(alert(150, rendition="720p"))


def test_incidents_come_from_csv_or_toml() -> None:
    """Times without a zone are UTC."""
    csv = "stream,rendition,began,ended\nnews-1,,2026-11-20T21:00:00,2026-11-20T23:00:00+01:00\n"
    toml = '[[incidents]]\nstream = "news-1"\nbegan = 2026-11-20T21:00:00\nended = 2026-11-20T22:00:00Z\n'
    expected = Incident(
        stream="news-1",
        began_at=datetime(2026, 11, 20, 21, tzinfo=UTC),
        ended_at=datetime(2026, 11, 20, 22, tzinfo=UTC),
    )
    assert parse_incidents(csv, origin="x.csv") == parse_incidents(toml, origin="x.toml") == (expected,)


@pytest.mark.parametrize(
    ("text", "origin", "message"),
    [
        ("stream,began\nnews-1,2026-11-20\n", "x.csv", "incident 1: ended: is missing"),
        ("stream,began,ended\na,yesterday,today\n", "x.csv", "incident 1: began: must be a time like .*'yesterday'"),
        ("stream,began,ended\na,2026-01-02,2026-01-01\n", "x.csv", "ended must be after began"),
        ("incidents = 3\n", "x.toml", "tables"),
        ("[[incident]]\nstream = 'a'\n", "x.toml", r"no incident .*a table \[\[incidents\]\]"),
        ("stream,began,ended\n", "x.csv", "no incident .*a line `stream,"),
        ("[[incidents]\n", "x.toml", "x.toml"),
    ],
)
def test_a_mistake_in_incidents_is_named(text: str, origin: str, message: str) -> None:
    """With file, place and key."""
    with pytest.raises(SettingsError, match=message):
        parse_incidents(text, origin=origin)
