"""Decides about the inputs of streams by the outcomes, records the decisions, and sends them to webhooks."""

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

from pipelines.service.delivery.notifications import restricted_client
from pipelines.service.history_thread import HistoryThread
from pipelines.service.wiring import utc_now
from vqmon.core.alerts.reactions.input_switching import DecisionRecord, InputDecision, InputJudge
from vqmon.core.types import Outcome
from vqmon.errors import SettingsError, StoreError
from vqmon.flow import NamedTasks
from vqmon.settings.inputs import InputHookSettings, InputSettings
from vqmon.settings.load import Settings
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.transport.history.history import History
from vqmon.transport.notify.delivery_queue import Clock
from vqmon.transport.notify.http import PooledHttpClient
from vqmon.transport.notify.input_hook import InputHook
from vqmon.transport.notify.webhook import parse_secret
from vqmon.transport.secrets import read_secret

log = logging.getLogger("vqmon.act")

_LAST_DELIVERY_SECONDS = 4.0
"""How long the last requests may take when the daemon stops."""

_MAX_UNRECORDED = 10_000
"""Decisions that wait for a history that cannot be written; older ones are in the log of the process alone."""

_RETRY_SECONDS = 5.0


class _DecisionRecorder:
    """Writes decisions and what becomes of them to the history, as soon as it takes them."""

    def __init__(self, thread: HistoryThread) -> None:
        self._thread = thread
        # by decision
        self._unrecorded: dict[str, DecisionRecord] = {}
        self._is_stopped = False
        self._changed = asyncio.Event()

    def add(self, record: DecisionRecord) -> None:
        """Record this, in place of what waits to be recorded of the same decision."""
        self._unrecorded[record.decision.id] = record
        while len(self._unrecorded) > _MAX_UNRECORDED:
            del self._unrecorded[next(iter(self._unrecorded))]
        self._changed.set()

    def stop(self) -> None:
        """Record what is left, then end."""
        self._is_stopped = True
        self._changed.set()

    async def run(self) -> None:
        """Record until `stop`."""
        while True:
            is_last = self._is_stopped
            self._changed.clear()
            await self._record()
            if is_last:
                return
            try:
                async with asyncio.timeout(_RETRY_SECONDS if self._unrecorded else None):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _record(self) -> None:
        records = list(self._unrecorded.values())
        if not records:
            return
        try:
            await self._thread.run(partial(self._thread.history.decisions.record, records))
        except StoreError as error:
            log.debug("decisions cannot be recorded: %s", error)
            return
        for record in records:
            if self._unrecorded.get(record.decision.id) is record:
                del self._unrecorded[record.decision.id]


class InputDecider:
    """Judges what is published, and hands decisions to their hooks."""

    def __init__(self, judge: InputJudge, hooks: Sequence[InputHook], *, meters: Meters, max_age: timedelta) -> None:
        self._judge = judge
        self._hooks = {hook.name: hook for hook in hooks}
        self._meters = meters
        self._max_age = max_age

    def consider(self, outcomes: Sequence[Outcome]) -> None:
        """Judge what was just published, and return at once; segments of a backfill or an archive are passed over."""
        for outcome in outcomes:
            # each has a time of its own: the log is in the order of the decisions
            now = utc_now()
            if now - outcome.segment.ends_at > self._max_age:
                continue
            for decision in self._judge.judge(outcome, now=now):
                self._meters.count("vqmon.input.decision", hook=decision.hook, kind=decision.kind)
                fields = {"hook": decision.hook, "stream": decision.stream_id, "why": decision.summary}
                log.warning(**log_event(f"input.{decision.kind}", **fields, dry_run=decision.is_dry_run))
                self._hooks[decision.hook].put(decision)


@asynccontextmanager
async def open_input_decider(
    settings: Settings, thread: HistoryThread, *, meters: Meters
) -> AsyncIterator[InputDecider | None]:
    """Decide about inputs while the context lasts; None when the settings name no hook.

    A history that is not open yet tells of no earlier decision.
    """
    inputs = settings.inputs
    if thread.is_open:
        _end_deliveries_of_removed_hooks(inputs, thread.history)
    if not inputs.hooks:
        yield None
        return
    judge = InputJudge(
        [hook.rule(name) for name, hook in inputs.hooks.items()],
        last=_last_decisions(inputs, thread.history) if thread.is_open else [],
    )
    recorder = _DecisionRecorder(thread)
    async with open_input_client(settings) as client, NamedTasks() as tasks:
        hooks = open_input_hooks(settings, client, meters=meters, record=recorder.add)
        for left in thread.history.decisions.waiting() if thread.is_open else ():
            # of an earlier run; a hook gives up what has expired
            if (found := next((hook for hook in hooks if hook.name == left.decision.hook), None)) is not None:
                is_dry_run = inputs.hooks[found.name].dry_run
                found.put(replace(left.decision, is_dry_run=is_dry_run))
        for hook in hooks:
            tasks.start(f"hook {hook.name}", hook.run())
        tasks.start("decisions", recorder.run())
        try:
            yield InputDecider(judge, hooks, meters=meters, max_age=timedelta(seconds=inputs.max_age_seconds))
        finally:
            for hook in hooks:
                hook.stop()
            await tasks.wait_or_cancel([f"hook {hook.name}" for hook in hooks], within_seconds=_LAST_DELIVERY_SECONDS)
            recorder.stop()


def _end_deliveries_of_removed_hooks(inputs: InputSettings, history: History) -> None:
    """Record that decisions of an earlier run are not delivered any more: the settings have no such hook."""
    left = [record for record in history.decisions.waiting() if record.decision.hook not in inputs.hooks]
    if not left:
        return
    ended = [
        replace(
            record,
            delivery="expired",
            error=f"inputs.hooks.{record.decision.hook} is not in the settings any more",
            changed_at=utc_now(),
        )
        for record in left
    ]
    history.decisions.record(ended)
    for record in ended:
        fields = {"hook": record.decision.hook, "stream": record.decision.stream_id, "kind": record.decision.kind}
        log.warning(**log_event("input.expired", **fields, attempts=record.attempts, error=record.error))


def _last_decisions(inputs: InputSettings, history: History) -> Sequence[InputDecision]:
    """What the hooks go on from: nobody has followed a dry run, so only another dry run does."""
    return [
        record.decision
        for record in history.decisions.last_of_streams()
        if (hook := inputs.hooks.get(record.decision.hook)) is not None
        and (hook.dry_run or record.delivery != "dry_run")
    ]


def open_input_client(settings: Settings) -> PooledHttpClient:
    """Return a client for the hooks of the settings."""
    urls = [hook.url for hook in settings.inputs.hooks.values()]
    return restricted_client(settings, settings.inputs, section="inputs", urls=urls)


def open_input_hooks(
    settings: Settings, client: PooledHttpClient, *, meters: Meters, record: Callable[[DecisionRecord], None]
) -> Sequence[InputHook]:
    """Return every hook of the settings, which calls `record` with its results; reads the secrets."""
    return [
        InputHook(
            name,
            hook.url,
            client=client,
            keys=_keys_of(name, hook),
            source=settings.inputs.source,
            clock=Clock(now=utc_now, monotonic_seconds=time.monotonic, random_fraction=random.random),
            meters=meters,
            record=record,
        )
        for name, hook in settings.inputs.hooks.items()
    ]


def refuse_scorers_that_do_not_run(inputs: InputSettings, scorers: Collection[str]) -> None:
    """Raise SettingsError for each hook whose scorer is none of `scorers` (name@version): it would never decide."""
    names = {name for scorer in scorers for name in (scorer, scorer.partition("@")[0])}
    problems = [
        f"inputs.hooks.{name}.scorer: {hook.scorer!r} does not run; what runs: {', '.join(scorers)}"
        for name, hook in inputs.hooks.items()
        if hook.scorer and hook.scorer not in names
    ]
    if problems:
        raise SettingsError("\n".join(problems))


def _keys_of(name: str, hook: InputHookSettings) -> Sequence[bytes]:
    """The keys that sign: those of files, then those of variables."""
    setting = f"inputs.hooks.{name}.secret_files"
    keys = [parse_secret(read_secret(file, setting=setting), origin=setting) for file in hook.secret_files]
    for variable in hook.secret_variables:
        text = os.environ.get(variable, "")
        if not text:
            raise SettingsError(f"inputs.hooks.{name}.secret_variables: the environment variable {variable} is not set")
        keys.append(parse_secret(text, origin=f"environment: {variable}"))
    return keys
