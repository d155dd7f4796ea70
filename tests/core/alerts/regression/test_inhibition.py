"""Inhibition: the strongest cause, or the first alert of a fault, mutes the others until it has resolved for long."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.core.alerts.regression.faulty_streams import (
    CAUSES,
    DROP,
    LOW,
    MID,
    QUICK,
    TOP,
    falling,
    judged,
    ladder,
    mixed,
    planted,
    series,
)
from vqmon.core.alerts.conditions.regression import RegressionState
from vqmon.core.alerts.regression.inhibition import Inhibitor
from vqmon.core.alerts.regression.series_alert import AlertTransition
from vqmon.core.alerts.state import RenditionSeries, StateStore
from vqmon.core.types import Outcome

TICKET = DROP.replace('"page"', '"ticket"')


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


def fallen_ladder(drops: Sequence[float], *, at: Sequence[int] = (200, 200, 200), until: int = 480) -> list[Outcome]:
    """Three renditions of one stream that fall by so many points, from these segments on."""
    lanes = [
        series(falling(540, first, until, drop, seed=20 + number), rendition=rendition)
        for number, (rendition, drop, first) in enumerate(zip((TOP, MID, LOW), drops, at, strict=True))
    ]
    return mixed(*lanes)


@pytest.mark.parametrize(
    ("drops", "at", "sent"),
    [
        ((12, 9, 8), (200, 200, 200), ["1080p"]),
        # another fault, 16 minutes later; and one that the first ticket does not tell the size of
        ((12, 9, 8), (200, 200, 440), ["1080p", "360p"]),
        ((40, 9, 8), (215, 200, 200), ["720p", "1080p"]),
    ],
    ids=["whole ladder", "later", "larger"],
)
def test_one_fault_of_a_stream_is_one_ticket(drops: Sequence[float], at: Sequence[int], sent: Sequence[str]) -> None:
    """The first alert of a fall is sent; those of other renditions are stored, muted by it, and resolve."""
    alerts = judged(TICKET, fallen_ladder(drops, at=at))
    assert [alert.rendition for alert in alerts if alert.state == "open" and not alert.muted_by] == sent
    for state in ("open", "resolved"):
        assert {alert.rendition for alert in alerts if alert.state == state} == {"1080p", "720p", "360p"}
    assert {alert.rendition for alert in alerts if alert.state == "resolved" and not alert.muted_by} == set(sent)


@pytest.mark.parametrize(("minutes", "is_muted"), [(-16, False), (-14, True), (14, True), (16, False)])
def test_drops_that_began_at_other_times_are_other_faults(minutes: int, *, is_muted: bool) -> None:
    """Also one that began long before the first alert's and opens later, as it was small or slow."""
    first, later = (alert for alert in judged(TICKET, fallen_ladder((12, 0, 10))) if alert.state == "open")
    later = replace(later, began_at=first.began_at + timedelta(minutes=minutes), muted_by="")
    inhibitor = Inhibitor(StateStore())
    sent = []
    for alert in (first, later):
        key = RenditionSeries(rendition_key=f"{alert.stream_id}/{alert.rendition}", subject="lite")
        state = RegressionState(rule=alert.rule, series=key, alert=alert)
        sent += inhibitor.apply(state, AlertTransition(kind="open", alert=alert), at=alert.opened_at.timestamp())
    assert [bool(alert.muted_by) for alert in sent] == [False, is_muted]


def test_a_ticket_mutes_no_page() -> None:
    """But a page mutes the tickets of the same fault."""
    page = TICKET.replace("ticket", "page").replace("rules.drop", "rules.urgent") + 'match = { rendition = "720p" }\n'
    page += "page_segments = 100\n"
    alerts = judged(TICKET + page, fallen_ladder((12, 9, 8)))
    opened = [(alert.rule, bool(alert.muted_by)) for alert in alerts if alert.state == "open"]
    assert ("urgent", False) in opened
    assert [muted for rule, muted in opened if rule == "drop"].count(False) <= 1


def test_a_rendition_that_stays_low_is_told() -> None:
    """Five minutes after the first ticket has resolved, with the id that it had while it was muted."""
    lanes = [series(falling(500, 200, until, 12, seed=20 + n), rendition=rendition)
             for n, (rendition, until) in enumerate(((TOP, 260), (MID, 500)))]  # fmt: skip
    alerts = judged(TICKET, mixed(*lanes))
    facts = [(alert.rendition, alert.state, bool(alert.muted_by)) for alert in alerts]
    assert facts == [
        ("1080p", "open", False), ("720p", "open", True), ("1080p", "resolved", False), ("720p", "open", False),
    ]  # fmt: skip
    assert alerts[1].id == alerts[3].id


def test_of_several_renditions_that_stay_low_one_is_told() -> None:
    """The others have it as what mutes them, and do not become tickets of their own."""
    lanes = [series(falling(560, 200, until, 12, seed=20 + n), rendition=rendition)
             for n, (rendition, until) in enumerate(((TOP, 260), (MID, 560), (LOW, 560)))]  # fmt: skip
    alerts = judged(TICKET, mixed(*lanes))
    sent = [alert for alert in alerts if alert.state == "open" and not alert.muted_by]
    assert [alert.rendition for alert in sent] == ["1080p", "720p"]
    last = {alert.rendition: alert for alert in alerts}
    assert (last["360p"].state, last["360p"].muted_by) == ("open", sent[1].id)
