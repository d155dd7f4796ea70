"""Works the outbox off: every target hears of every alert, at least once, and as long as it needs to."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from vqmon.core.alerts.notifications import Notice, Said
from vqmon.flow import together
from vqmon.telemetry.metrics import Meters
from vqmon.transport.notify.delivery_queue import Clock, Desk
from vqmon.transport.notify.receiver import Target


class Outbox(Protocol):
    """Where alerts wait; what is marked is remembered over a sudden end."""

    async def notices(self, *, after: int) -> Sequence[Notice]: ...
    async def mark(self, told: Mapping[str, Mapping[str, Said] | None]) -> None: ...


READ_SECONDS = 60.0
"""How often the outbox is read though nobody said that there is news."""

Held = Callable[[Collection[Notice]], Collection[str]]
"""Which of these alerts are kept back now, by id: maintenance, or a backfill."""


class Deliverer:
    """Tells targets of alerts, each target at its own pace: one that hangs holds up no other."""

    def __init__(
        self,
        outbox: Outbox,
        targets: Sequence[Target],
        *,
        clock: Clock,
        held: Held,
        meters: Meters,
        resend_seconds: float = 60.0,
        keep_seconds: float = 259_200.0,
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._held = held
        self._notices: dict[str, Notice] = {}
        self._number = 0
        self._is_stopped = False
        self._news = asyncio.Event()
        self._desks = [
            Desk(target, clock=clock, meters=meters, resend_seconds=resend_seconds, keep_seconds=keep_seconds)
            for target in targets
        ]

    def wake(self) -> None:
        """There is news in the outbox."""
        self._news.set()

    def stop(self) -> None:
        """Say what is to be said once more, then end."""
        self._is_stopped = True
        self._news.set()

    async def run(self) -> None:
        """Deliver until the stop; what could not be said by then is said after the next start."""
        await together([self._read_news(), *(self._serve(desk) for desk in self._desks)])

    async def _read_news(self) -> None:
        while True:
            is_last = self._is_stopped
            self._news.clear()
            for notice in await self._outbox.notices(after=self._number):
                known = self._notices.get(notice.alert.id)
                # What we know of our own telling is newer than what was read.
                self._notices[notice.alert.id] = replace(notice, told=known.told) if known else notice
                self._number = max(self._number, notice.number)
            for desk in self._desks:
                desk.changed.set()
                desk.is_ending = is_last
            if is_last:
                return
            try:
                async with asyncio.timeout(READ_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _serve(self, desk: "Desk") -> None:
        while True:
            try:
                async with asyncio.timeout(desk.wait_seconds()):
                    await desk.changed.wait()
            except TimeoutError:
                pass
            desk.changed.clear()
            is_last = desk.is_ending
            said = await self._say(desk)
            if said:
                # Whoever hears of changes may have the next one waiting.
                desk.changed.set()
            elif is_last:
                return

    async def _say(self, desk: "Desk") -> Mapping[str, Said]:
        """One round: say what is due, remember what was said."""
        notices = list(self._notices.values())
        said = await desk.say(notices, self._held(notices))
        marks: dict[str, Mapping[str, Said] | None] = {}
        for alert_id, word in said.items():
            known = self._notices[alert_id]
            if known.told.get(desk.target.name, "") != word:
                known = self._notices[alert_id] = replace(known, told={**known.told, desk.target.name: word})
                marks[alert_id] = known.told
        for alert_id in self._finished():
            marks[alert_id] = None
            del self._notices[alert_id]
        if marks:
            await self._outbox.mark(marks)
        return said

    def _finished(self) -> list[str]:
        """What no target needs to hear of any more."""
        return [
            alert_id
            for alert_id, notice in self._notices.items()
            if notice.alert.state == "resolved" and all(desk.is_done_with(alert_id) for desk in self._desks)
        ]
