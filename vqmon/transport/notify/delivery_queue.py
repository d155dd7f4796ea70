"""One target's side of the delivery: what it is to be told now, how it answered, and when to try again."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vqmon.core.alerts.notifications import Notice, Said, Word, words_for
from vqmon.errors import DeliveryError
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.transport.notify.receiver import Step, Target

log = logging.getLogger("vqmon.notify")

LOOK_SECONDS = 5.0
"""How often a target looks again at what is kept back."""

FIRST_BACKOFF_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time and chance, from outside."""

    # the wall clock, and seconds that never go back
    now: Callable[[], datetime]
    seconds: Callable[[], float]
    # evenly in 0..1
    chance: Callable[[], float]


class Desk:
    """One target and when it is to be told what."""

    def __init__(
        self, target: Target, *, clock: Clock, meters: Meters, resend_seconds: float, keep_seconds: float
    ) -> None:
        self.target = target
        self.changed = asyncio.Event()
        self.is_ending = False
        self._clock = clock
        self._meters = meters
        self._resend_seconds = resend_seconds
        self._keep_seconds = keep_seconds
        self._words: dict[str, Word] = {}
        # what could be said, and since when
        self._since: dict[str, tuple[Word, datetime]] = {}
        # what was last tried, and when the next try may be
        self._tried: dict[str, tuple[Word, float]] = {}
        self._refusals: dict[str, int] = {}
        # what will not be told any more
        self._let_go: dict[str, Word] = {}
        self._failures = 0
        self._rests_until = 0.0
        self._is_gone = False

    def is_done_with(self, alert_id: str) -> bool:
        """Whether the target needs to hear no more of an alert."""
        return self._words.get(alert_id) == "done"

    def wait_seconds(self) -> float:
        """How long until something may be due."""
        seconds = self._clock.seconds()
        due = [self._due_at(alert_id, word) for alert_id, word in self._words.items() if word in ("open", "resolved")]
        return min(max(min(due, default=seconds + LOOK_SECONDS), self._rests_until) - seconds, LOOK_SECONDS)

    async def say(self, notices: Sequence[Notice], held: Collection[str]) -> Mapping[str, Said]:
        """Say what is due; gives what the target now knows, by alert."""
        now, seconds = self._clock.now(), self._clock.seconds()
        waited = {alert_id for alert_id, word in self._words.items() if word == "wait"}
        self._words = words_for(notices, self.target.name, form=self.target.form, held=held, now=now)
        self._forget_others()
        for notice in notices:
            alert_id = notice.alert.id
            since = self._since.get(alert_id)
            if since is None or since[0] != self._words[alert_id]:
                self._since[alert_id] = self._words[alert_id], now if alert_id in waited else notice.changed_at
        self._give_up_old(notices, now)
        steps = [
            Step(notice=notice, word=word)
            for notice in sorted(notices, key=lambda notice: notice.number)
            if (word := self._words[notice.alert.id]) in ("open", "resolved")
            and self._due_at(notice.alert.id, word) <= seconds
        ]
        answers = await self._tell(steps, now) if steps and seconds >= self._rests_until else {}
        said: dict[str, Said] = {}
        for step in steps:
            if step.notice.alert.id in answers and self._learn(step, answers[step.notice.alert.id]):
                said[step.notice.alert.id] = step.word
        self._measure(notices, said, now)
        return said

    def _forget_others(self) -> None:
        """Keep what is about alerts that are still in the outbox."""
        for known in (self._tried, self._refusals, self._since, self._let_go):
            for alert_id in [alert_id for alert_id in known if alert_id not in self._words]:
                del known[alert_id]

    def _due_at(self, alert_id: str, word: Word) -> float:
        last, due_at = self._tried.get(alert_id, ("", 0.0))
        # A change is told at once, unless the target refused this very alert.
        return due_at if last == word or alert_id in self._refusals else 0.0

    async def _tell(self, steps: Sequence[Step], now: datetime) -> Mapping[str, DeliveryError | None]:
        try:
            answers = await self.target.tell(steps, now=now)
        except DeliveryError as error:
            self._failed(error)
            return {}
        if self._failures:
            log.info(**log_event("notify.mended", target=self.target.name, tries=self._failures))
        self._failures = 0
        return answers

    def _failed(self, error: DeliveryError) -> None:
        """The target takes nothing: rest, and say so once."""
        self._meters.count("vqmon.notify.failed", target=self.target.name, reason=error.reason)
        if error.reason == "gone":
            self._is_gone = True
            log.error(**log_event("notify.gone", target=self.target.name, error=error, remedy="restart to try again"))
            return
        self._failures += 1
        asked = error.retry_after_seconds
        self._rests_until = self._clock.seconds() + (self._backoff(self._failures) if asked is None else asked)
        if self._failures == 1:
            log.warning(**log_event("notify.failed", target=self.target.name, error=error))

    def _learn(self, step: Step, error: DeliveryError | None) -> bool:
        """Whether the target took it."""
        alert_id, seconds = step.notice.alert.id, self._clock.seconds()
        if error is None:
            self._refusals.pop(alert_id, None)
            self._tried[alert_id] = (step.word, seconds + self._resend_seconds)
            self._meters.count("vqmon.notify.sent", target=self.target.name, state=step.word)
            return True
        count = self._refusals[alert_id] = self._refusals.get(alert_id, 0) + 1
        self._tried[alert_id] = (step.word, seconds + self._backoff(count))
        self._meters.count("vqmon.notify.failed", target=self.target.name, reason=error.reason)
        if count == 1:
            log.error(**log_event("notify.refused", target=self.target.name, alert=alert_id, error=error))
        return False

    def _backoff(self, failures: int) -> float:
        """Doubles with each failure, between half and all of it by chance, so that many do not come back at once."""
        most = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 20), self.target.max_backoff_seconds)
        return most * (0.5 + 0.5 * self._clock.chance())

    def _give_up_old(self, notices: Sequence[Notice], now: datetime) -> None:
        """What could not be told for days is let go; what is still open in a target of states never is."""
        for notice in notices:
            alert_id = notice.alert.id
            if self._words[alert_id] not in ("open", "resolved"):
                continue
            is_old = (now - self._since[alert_id][1]).total_seconds() > self._keep_seconds
            if self._is_gone or self._let_go.get(alert_id) == self._words[alert_id]:
                self._words[alert_id] = "done"
            elif is_old and not (self.target.form == "state" and notice.alert.state == "open"):
                self._let_go[alert_id], self._words[alert_id] = self._words[alert_id], "done"
                self._meters.count("vqmon.notify.given_up", target=self.target.name)
                log.error(**log_event("notify.given_up", target=self.target.name, alert=alert_id))

    def _measure(self, notices: Sequence[Notice], said: Mapping[str, Said], now: datetime) -> None:
        """How much waits: what was not said yet, not what is only said again."""
        name = self.target.name
        waiting = [
            self._since[notice.alert.id][1]
            for notice in notices
            if (word := self._words[notice.alert.id]) in ("open", "resolved")
            and said.get(notice.alert.id, notice.told.get(name, "")) != word
        ]
        oldest_seconds = (now - min(waiting)).total_seconds() if waiting else 0.0
        self._meters.set("vqmon.notify.waiting", len(waiting), target=name)
        self._meters.set("vqmon.notify.oldest", oldest_seconds, target=name)
        self._meters.set("vqmon.notify.gone", int(self._is_gone), target=name)
