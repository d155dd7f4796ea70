"""Inhibition: the strongest cause mutes the others, until it has resolved for long enough."""

from tests.core.alerts.regression.faulty_streams import CAUSES, QUICK, judged, ladder, mixed, planted


def test_the_strongest_cause_mutes_the_rest() -> None:
    """A fault of the encoder notifies once; the alerts that follow from it are stored and muted."""
    plain = '[rules.single]\nkind = "regression"\nscorer = "lite"\nmatch = { rendition = "1080p" }\n' + QUICK
    lanes = ladder(500, top=planted(300, 500, 14))
    alerts = judged(CAUSES + plain, mixed(*lanes))
    notified = [(alert.rule, alert.cause) for alert in alerts if not alert.muted_by]
    assert notified == [("encoder", "encoder")]
    fault = next(alert for alert in alerts if alert.rule == "encoder")
    muted = {alert.rule: alert.muted_by for alert in alerts if alert.muted_by}
    assert muted == {"single": fault.id, "packaging": fault.id}


def test_what_outlives_its_explanation_is_told() -> None:
    """Five minutes after the stronger alert closed the weaker one stands for itself, with the same id."""
    plain = '[rules.single]\nkind = "regression"\nscorer = "lite"\nmatch = { rendition = "1080p" }\n' + QUICK
    gone = ladder(900, top=planted(300, 900, 20), source=lambda n: -20 if n >= 330 else 0)
    alerts = [alert for alert in judged(CAUSES + plain, mixed(*gone)) if alert.rule in ("encoder", "single")]
    notified = [(alert.rule, alert.state, bool(alert.muted_by)) for alert in alerts]
    assert notified[:4] == [
        ("encoder", "open", False), ("single", "open", True), ("encoder", "resolved", False), ("single", "open", False),
    ]  # fmt: skip
    assert alerts[1].id == alerts[3].id
