"""SIGKILL at any moment: what was committed is there, once, and the next start goes on from there."""

import os
import random
import signal
import time
from pathlib import Path

from tests import factories
from tests.factories import RENDITION
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, LaneCursor, Outcome
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history

RULES = parse_rules((Path(__file__).parents[3] / "config" / "rules.toml").read_text())
KILLS = 20


def outcome_of_number(number: int) -> Outcome:
    """What there is to say about a segment; low for half a minute in every two."""
    return (
        factories.failure(sequence=number)
        if number % 17 == 0
        else factories.event(sequence=number, score=20 if number % 30 > 22 else 70)
    )


def publish_for_ever(history_location: HistoryLocation, ready: int) -> None:
    """A daemon: goes on after the cursor, judges, publishes one to three segments at a time."""
    with open_history(history_location, "write") as history:
        judge = Judge(RULES, states=history.queries.states())
        cursor = history.queries.cursors("news-1").get(RENDITION.key)
        number = cursor.sequence + 1 if cursor else 0
        while True:
            outcomes = [outcome_of_number(n) for n in range(number, number + 1 + number % 3)]
            alerts = [alert for outcome in outcomes for alert in judge.judge(outcome)]
            last = outcomes[-1].segment
            history.publish(
                outcomes,
                alerts=alerts,
                states=judge.drain_changes(),
                cursors=[
                    LaneCursor(lane=RENDITION.key, sequence=last.sequence, segment_key=last.key, ends_at=last.ends_at)
                ],
                thumbnails={outcome.id: [(0.0, b"\xff\xd8" * 2000)] for outcome in outcomes},
            )
            if number == 30:
                history.maintenance.checkpoint()
            number = last.sequence + 1
            os.write(ready, b".")


def test_nothing_is_lost_or_doubled_over_many_kills(history_location: HistoryLocation) -> None:
    """After twenty kills: every segment up to the cursor once, and the alerts of an undisturbed run."""
    chance = random.Random(11)
    reached = -1
    for _ in range(KILLS):
        read_end, ready = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                publish_for_ever(history_location, ready)
            finally:
                os._exit(1)
        os.close(ready)
        assert os.read(read_end, 1) == b"."
        time.sleep(chance.random() * 0.06)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        os.close(read_end)

        with open_history(history_location, "read") as history:
            last = history.queries.cursors("news-1")[RENDITION.key].sequence
            assert last > reached
            reached = last
            assert [outcome.segment.sequence for outcome in history.documents.outcomes_in_write_order()] == list(
                range(reached + 1)
            )

    judge = Judge(RULES)
    alerts: dict[str, Alert] = {}
    for number in range(reached + 1):
        alerts.update({alert.id: alert for alert in judge.judge(outcome_of_number(number))})
    with open_history(history_location, "read") as history:
        counts = history.queries.counts()
        assert counts.scored + counts.unscored == reached + 1
        assert {alert.id: alert for alert in history.queries.alerts(limit=10_000)} == alerts
        assert history.queries.states() == judge.states()
        assert all(history.queries.thumbnails(outcome_of_number(number).id) for number in range(reached + 1))
