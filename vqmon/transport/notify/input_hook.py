"""Delivers decisions about inputs to a signed webhook: the newest of each stream, with few retries, then never again.

Unlike an alert, a decision is worth nothing late: it is given up when it expires, or when a newer one takes its place.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import get_args

from vqmon.core.alerts.reactions.input_switching import DecisionRecord, DeliveryResult, InputDecision
from vqmon.errors import DeliveryError
from vqmon.flow import run_concurrently, wait_or_stop
from vqmon.retry import Backoff
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.transport.notify.delivery_queue import Clock
from vqmon.transport.notify.http import HttpClient
from vqmon.transport.notify.webhook import signed_headers
from vqmon.transport.wire import cloudevents

log = logging.getLogger("vqmon.act")

_BACKOFF = Backoff(first_seconds=0.5, last_seconds=8.0, jitter=0.5)
_MAX_REQUESTS = 16
"""Requests at once; a hook that hangs delays its own streams alone."""

_IDLE_SECONDS = 60.0


@dataclass(slots=True)
class _Pending:
    """A decision that is to be delivered."""

    decision: InputDecision
    attempts: int = 0
    error: str = ""
    # in seconds of the clock
    due_at: float = 0.0

    @property
    def key(self) -> tuple[str, bool]:
        """The stream, and whether the decision changes nothing: a receiver may ignore a hold, but no change."""
        return self.decision.stream_id, self.decision.kind == "hold"


class InputHook:
    """One webhook. `record` is called with each result, and must return at once."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        client: HttpClient,
        keys: Sequence[bytes],
        source: str,
        clock: Clock,
        meters: Meters,
        record: Callable[[DecisionRecord], None],
    ) -> None:
        self.name = name
        self._url = url
        self._client = client
        self._keys = tuple(keys)
        self._source = source
        self._clock = clock
        self._meters = meters
        self._record = record
        # by stream: only the newest change counts, and the newest hold after it
        self._pending: dict[tuple[str, bool], _Pending] = {}
        self._changed = asyncio.Event()
        self._is_stopped = False
        for result in get_args(DeliveryResult):
            # Prometheus sees the first failure as an increase only if there was a zero before it
            if result != "waiting":
                meters.count("vqmon.input.delivery", 0, hook=name, result=result)

    def put(self, decision: InputDecision) -> None:
        """Deliver a decision soon, instead of an older one about the same stream; a hold ends no change."""
        pending = _Pending(decision)
        if decision.is_dry_run:
            self._end(pending, "dry_run")
            return
        for key in ((decision.stream_id, True), pending.key):
            if (older := self._pending.pop(key, None)) is not None:
                self._end(older, "superseded")
        self._pending[pending.key] = pending
        self._record(self._record_of(pending, "waiting"))
        self._changed.set()

    def stop(self) -> None:
        """Try what is due once more, then end."""
        self._is_stopped = True
        self._changed.set()

    async def run(self) -> None:
        """Deliver until `stop`; what was not delivered by then stays recorded as waiting."""
        while True:
            is_last_round = self._is_stopped
            self._changed.clear()
            seconds = self._clock.monotonic_seconds()
            due = [pending for pending in self._pending.values() if pending.due_at <= seconds]
            await run_concurrently(self._deliver(pending) for pending in due[:_MAX_REQUESTS])
            self._meters.set("vqmon.input.waiting", len(self._pending), hook=self.name)
            if is_last_round:
                return
            await wait_or_stop(self._changed, self._seconds_until_due())

    def _seconds_until_due(self) -> float:
        due_at = min((pending.due_at for pending in self._pending.values()), default=None)
        return _IDLE_SECONDS if due_at is None else max(0.0, due_at - self._clock.monotonic_seconds())

    async def _deliver(self, pending: _Pending) -> None:
        decision, now = pending.decision, self._clock.now()
        if now >= decision.expires_at:
            self._finish(pending, "expired")
            return
        pending.attempts += 1
        body = cloudevents.encode_decision(decision, source=self._source)
        headers = signed_headers(body, id=decision.id, keys=self._keys, now=now)
        try:
            await self._client.post(self._url, body, {**headers, "Idempotency-Key": f'"{decision.id}"'})
        except DeliveryError as error:
            self._retry_or_end(pending, error)
        else:
            pending.error = ""
            self._finish(pending, "delivered")

    def _retry_or_end(self, pending: _Pending, error: DeliveryError) -> None:
        pending.error = str(error)
        if error.reason in ("refused", "gone"):
            self._finish(pending, "refused")
            return
        delay_seconds = _BACKOFF.delay_seconds(pending.attempts, draw=self._clock.random_fraction())
        delay_seconds = max(delay_seconds, error.retry_after_seconds or 0.0)
        if self._clock.now() + timedelta(seconds=delay_seconds) >= pending.decision.expires_at:
            self._finish(pending, "expired")
            return
        pending.due_at = self._clock.monotonic_seconds() + delay_seconds
        if pending.attempts == 1:
            log.warning(**log_event("input.retry", hook=self.name, stream=pending.decision.stream_id, error=error))

    def _finish(self, pending: _Pending, result: DeliveryResult) -> None:
        """End a delivery; a newer decision may have taken its place during the request."""
        if self._pending.get(pending.key) is pending:
            del self._pending[pending.key]
            self._end(pending, result)
        elif result == "delivered":
            # it was recorded as superseded before the answer came
            self._end(pending, result)

    def _end(self, pending: _Pending, result: DeliveryResult) -> None:
        decision = pending.decision
        self._meters.count("vqmon.input.delivery", hook=self.name, result=result)
        self._record(self._record_of(pending, result))
        level = logging.ERROR if result in ("refused", "expired") else logging.INFO
        fields = {"hook": self.name, "stream": decision.stream_id, "kind": decision.kind, "attempts": pending.attempts}
        failure = {"error": pending.error} if pending.error else {}
        log.log(level, **log_event(f"input.{result}", **fields, **failure))

    def _record_of(self, pending: _Pending, result: DeliveryResult) -> DecisionRecord:
        return DecisionRecord(
            decision=pending.decision,
            delivery=result,
            attempts=pending.attempts,
            error=pending.error,
            changed_at=self._clock.now(),
        )
