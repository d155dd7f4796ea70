"""One assigned partition: fenced and restored first, then observed in parallel, judged and written in order."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from pipelines.fleet.judging.records import ObservedRecord
from pipelines.fleet.partitions.context import (
    GroupOffsets,
    OffsetAdvance,
    PartitionContext,
    PartitionHandover,
    PartitionState,
    RecordJudge,
)
from pipelines.fleet.partitions.offsets import OffsetTracker, Position, restored_position
from pipelines.fleet.partitions.stopped import STOPPED_KEY, refused_offset
from pipelines.fleet.partitions.transactions import PartitionTransactions
from pipelines.fleet.partitions.trials import TRIALS_KEY, RecordTrials
from pipelines.observe.poison import under_suspicion
from pipelines.service.brokers import resume_offset
from vqmon.core.types import failure_from_error
from vqmon.errors import BrokerError, FencedError, RecordTooLargeError, ScoreError, SettingsError, WireError
from vqmon.flow import Overtaking, map_in_order
from vqmon.plurals import plural
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.otlp import span
from vqmon.transport.kafka.records import PartitionOffsets, ProducerRecord, Record
from vqmon.transport.wire.operator_alerts import parse_open_alert

log = logging.getLogger("vqmon.fleet")

_OPEN_RETRY_SECONDS = 1.0
_RESTORE_LOG_SECONDS = 10.0

_COMPANION_SECONDS = 2.0
"""How often it is looked whether the topics have a partition for those that were added to the input."""

_RECHECK_SECONDS = 30.0
"""After so long a stopped partition is tried again."""

_MAX_UNFINISHED = 1000
"""The most records that a partition holds while many of them wait for their origins."""


class _ReopenedError(Exception):
    """The partition is to be opened anew."""


class PartitionWorker:
    """Works on one partition from its assignment until it is revoked."""

    def __init__(
        self, partition: int, context: PartitionContext, group: GroupOffsets, *, handover: PartitionHandover | None
    ) -> None:
        self.partition = partition
        self.is_ready = False
        self.is_halted = False
        # changes when the partition is opened anew: what was polled before does not count any more
        self.generation = 0
        # why it is halted, or what it waits for
        self._problem = ""
        # offsets of records whose outcomes a topic does not take, and why
        self._too_large: dict[int, str] = {}
        self._reported_problem = ""
        self._tracker = OffsetTracker(Position(next_offset=None))
        self._context = context
        self._group = group
        self._transactions = PartitionTransactions(partition, context, group)
        self._handover = handover
        self._queue: deque[Record | OffsetAdvance] = deque()
        # the records that are not finished, oldest first, each with the time at which it was polled
        self._held: dict[int, tuple[Record | OffsetAdvance, float]] = {}
        self._idle_since = time.monotonic()
        self._restored_share = 0.0
        self._restored_logged_at = time.monotonic()
        self._changed = asyncio.Event()
        self._is_stopping = False
        self._must_reopen = False
        self._judge: RecordJudge | None = None

    @property
    def next_offset(self) -> int | None:
        """The committed offset; None before the first commit."""
        return self._transactions.next_offset

    @property
    def _trials(self) -> RecordTrials | None:
        return self._transactions.trials

    @property
    def free_slots(self) -> int:
        """How many more records fit into the queue now."""
        return self._context.max_waiting - len(self._queue) if self.is_ready and not self._is_stopping else 0

    @property
    def idle_seconds(self) -> float:
        """How long there has been nothing to do."""
        return 0.0 if self._held or not self.is_ready else time.monotonic() - self._idle_since

    @property
    def state(self) -> PartitionState:
        """What the partition is doing."""
        return "halted" if self.is_halted else "ready" if self.is_ready else "opening"

    @property
    def status(self) -> str:
        """The state, with what an operator wants to know about it."""
        if self.is_halted or self._problem:
            return self._problem
        return "ready" if self.is_ready else f"opening: {self._restored_share:.0%} of its states are restored"

    @property
    def oldest_record(self) -> Record | None:
        """The oldest record that was polled and whose outcome is not written."""
        if not self._held or self.state != "ready":
            return None
        entry, _ = next(iter(self._held.values()))
        return entry if isinstance(entry, Record) else None

    @property
    def held_seconds(self) -> float:
        """How long ago the oldest unfinished record was polled; 0 when there is none."""
        if not self._held or self.state != "ready":
            return 0.0
        _, polled_at = next(iter(self._held.values()))
        return time.monotonic() - polled_at

    def enqueue(self, records: Sequence[Record | OffsetAdvance]) -> None:
        """Append polled records in order; those that were finished before a restart are left out."""
        polled_at = time.monotonic()
        for record in records:
            if isinstance(record, OffsetAdvance):
                self._tracker.skip_to(record.offset)
            elif not self._tracker.deliver(record.offset):
                continue
            self._held[id(record)] = (record, polled_at)
            self._queue.append(record)
        self._changed.set()

    def reopen(self) -> None:
        """Read the offsets again: the next records are not there any more."""
        self.is_ready = False
        self._must_reopen = True
        self._changed.set()

    def stop(self) -> None:
        """Start no more records; those in flight are finished."""
        self._is_stopping = True
        self._changed.set()

    async def run(self) -> PartitionHandover | None:
        """Work until `stop`; returns what the next worker may use, None when this one never became ready."""
        try:
            while not self._is_stopping:
                try:
                    if await self._open():
                        await self._work()
                        await self._give_back()
                except _ReopenedError:
                    await self._reset()
                except (SettingsError, RecordTooLargeError) as error:
                    # Nothing is observed while it is stopped.
                    await self._give_back()
                    await self._reset()
                    await self._halt(error)
        except asyncio.CancelledError:
            # A record that took longer than a rebalance or a stop grants is no death of the process.
            if self._is_stopping:
                await self._give_back()
            raise
        finally:
            self.is_ready = False
            await self._transactions.close()
        if self._judge is None:
            return None
        return PartitionHandover(
            committed=self._transactions.committed,
            position=self._transactions.position,
            judge=self._judge,
            trials=self._trials.written if self._trials else None,
            stopped_alert=self._transactions.stopped_alert,
        )

    async def _give_back(self) -> None:
        if self._trials is not None:
            await self._trials.give_back()

    async def _work(self) -> None:
        """Observe, judge and write records until the stop."""
        await map_in_order(
            self._queued_records(),
            self._observe,
            self._judge_and_write,
            running=self._context.running,
            max_waiting=self._context.max_waiting,
            gather_seconds=self._context.gather_seconds,
            overtaking=self._overtaking(),
        )
        while not self._is_stopping:
            # Halted: the partition stays ours, so that no other worker rejects the rest of it.
            self._changed.clear()
            await self._changed.wait()

    async def _reset(self) -> None:
        """Forget what was read and not written; the next `_open` begins at the committed offset."""
        self.is_ready = self._must_reopen = False
        self.generation += 1
        self._judge = self._handover = self._transactions.trials = None
        self._queue.clear()
        self._held.clear()
        await self._transactions.kill()

    async def _halt(self, error: SettingsError | RecordTooLargeError) -> None:
        """Stop this partition alone: say why, in an alert too, and return when it is time to try it again."""
        if isinstance(error, RecordTooLargeError) and self._goes_on_without(error):
            return
        offset = self._transactions.oldest_offset if self.next_offset is None else self.next_offset
        problem = f"{self._context.topic} partition {self.partition} is stopped at offset {offset}: {error}"
        if problem != self._reported_problem:
            self._reported_problem = problem
            log.error(**log_event("partition.halted", partition=self.partition, offset=offset, error=problem))
        self.is_halted, self._problem = True, problem
        while not self._is_stopping and not await self._transactions.announce_stopped(problem):
            await self._wait_until_stopping(_OPEN_RETRY_SECONDS)
        await self._wait_until_stopping(_RECHECK_SECONDS)

    def _goes_on_without(self, error: RecordTooLargeError) -> bool:
        """Whether the record is to be read again, with a failure in place of its outcome."""
        offset = refused_offset(error, topic=self._context.topic, partition=self.partition)
        if self._context.when_too_large == "stop" or offset is None or offset in self._too_large:
            return False
        self._too_large[offset] = str(error)
        log.error(**log_event("record.outcome_too_large", partition=self.partition, offset=offset, error=error))
        return True

    async def _wait_until_stopping(self, seconds: float) -> None:
        """Return after so long, or when `stop` is called."""
        try:
            async with asyncio.timeout(seconds):
                while not self._is_stopping:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def _overtaking(self) -> "Overtaking[Record | OffsetAdvance] | None":
        if self._context.overtake_seconds is None:
            return None
        return Overtaking(
            key=lambda entry: entry.key if isinstance(entry, Record) else None,
            late_seconds=self._context.overtake_seconds,
            max_unfinished=max(_MAX_UNFINISHED, 2 * self._context.max_waiting),
        )

    async def _open(self) -> bool:
        """Fence the last owner, then read its offset, then its state, then resume; other orders miss its commits."""
        while not self._is_stopping:
            try:
                started_at = time.monotonic()
                if not await self._has_companions():
                    await self._wait_until_stopping(_COMPANION_SECONDS)
                    continue
                offsets = await self._transactions.open()
                handover = self._handover
                if handover and handover.committed == offsets.committed:
                    self._judge, self._transactions.position = handover.judge, handover.position
                    self._transactions.stopped_alert = handover.stopped_alert
                    self._transactions.trials = self._open_trials(handover.trials)
                    offset = self._resume_offset(offsets)
                else:
                    offset = await self._restore(offsets)
                self._tracker = OffsetTracker(self._transactions.position)
                await self._transactions.guard_offset()
                await self._open_trials_at(offset)
                self._group.resume(self.partition, offset=offset)
            except FencedError:
                raise
            except BrokerError as error:
                self._transactions.report_broken(error)
                await self._transactions.kill()
                await asyncio.sleep(_OPEN_RETRY_SECONDS)
                continue
            self._transactions.report_mended()
            self.is_ready, self.is_halted, self._problem = True, False, ""
            seconds = time.monotonic() - started_at
            self._context.meters.record("vqmon.kafka.bring_up.duration", seconds)
            log.info(**log_event("partition.ready", partition=self.partition, offset=offset, seconds=seconds))
            return True
        return False

    async def _has_companions(self) -> bool:
        """Whether every topic that is written has this partition too; says once what is missing."""
        companions = self._context.companions
        counts = await self._group.partition_counts(companions) if companions else {}
        missing = [
            f"{name} ({plural(count, 'partition')})" for name, count in counts.items() if count <= self.partition
        ]
        problem = ""
        if missing:
            problem = (
                f"partition {self.partition} was added to {self._context.topic} and is read as soon as these topics "
                f"have at least {self.partition + 1} partitions too: {', '.join(missing)}"
            )
            if problem != self._problem:
                log.warning(**log_event("partition.waiting", partition=self.partition, problem=problem))
        if not self.is_halted:
            self._problem = problem
        return not missing

    async def _restore(self, offsets: PartitionOffsets) -> int:
        """Read the state of the partition: of its rules, and of what is finished beyond the committed offset.

        Returns the offset to resume at; raises SettingsError when the partition cannot be read on.
        """
        state = dict(await self._context.read_state(self.partition, self._report_restored))
        self._transactions.stopped_alert = parse_open_alert(state.pop(STOPPED_KEY, None))
        with self._named_state():
            self._transactions.position = restored_position(state, offsets.committed)
            self._transactions.trials = self._open_trials(state.pop(TRIALS_KEY, None))
        offset = self._resume_offset(offsets)
        with self._named_state():
            self._judge = self._context.open_judge(self.partition, state)
        return offset

    @contextmanager
    def _named_state(self) -> Iterator[None]:
        """Name the partition of the state topic in the error of a state that cannot be read."""
        name = f"{self._context.state_topic} partition {self.partition}"
        try:
            yield
        except SettingsError as error:
            raise SettingsError(f"{name}: {error}") from error
        except WireError as error:
            raise SettingsError(f"{name}: {error}; run the version that wrote it, or empty the state topic") from error

    def _open_trials(self, stored: bytes | None) -> RecordTrials | None:
        """What is known of records that end the process which observes them."""
        process_id = self._context.process_id
        if process_id is None:
            return None
        write = self._transactions.write_trials
        try:
            return RecordTrials(stored, process_id=process_id, write=write)
        except WireError as error:
            # no reason to stop: what ends workers is found again
            log.warning(**log_event("partition.trials_forgotten", partition=self.partition, why=str(error)))
            return RecordTrials(None, process_id=process_id, write=write)

    async def _open_trials_at(self, offset: int) -> None:
        """Write that this process has the partition; when another one died with it, records are under suspicion."""
        if self._trials is None:
            return
        end = await self._trials.open_at(offset)
        if end > offset:
            why = "the process that had the partition died; these records are observed one by one"
            log.warning(**log_event("partition.suspect", partition=self.partition, offset=offset, end=end, why=why))

    def _resume_offset(self, offsets: PartitionOffsets) -> int:
        committed = self._transactions.position.next_offset
        name = f"{self._context.topic} partition {self.partition}"
        offset = resume_offset(committed, offsets, self._context.when_lost, partition=name)
        if committed is not None and offset > committed:
            log.error(
                **log_event(
                    "partition.lost_records",
                    partition=self.partition,
                    stored_offset=committed,
                    oldest_offset=offsets.beginning,
                )
            )
        return offset

    async def _queued_records(self) -> AsyncIterator[Record | OffsetAdvance]:
        while not self._is_stopping and not self.is_halted:
            if self._must_reopen:
                raise _ReopenedError
            if self._queue:
                yield self._queue.popleft()
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _observe(self, record: Record | OffsetAdvance) -> object | None:
        if isinstance(record, OffsetAdvance):
            return None
        trial = self._trials.trial_of(record.offset) if self._trials else None
        with under_suspicion(trial) if trial else nullcontext():
            observed = await self._context.observe(record)
        if record.offset in self._too_large and isinstance(observed, ObservedRecord):
            error = ScoreError("outcome_too_large", self._too_large[record.offset])
            outcome = observed.outcome
            failure = failure_from_error(outcome.segment, error, observed_at=outcome.observed_at)
            observed = replace(observed, outcome=failure)
        return observed

    async def _judge_and_write(self, ready: Sequence[tuple[Record | OffsetAdvance, object | None]]) -> None:
        assert self._judge is not None
        links = [observed.span_context for _, observed in ready if isinstance(observed, ObservedRecord)]
        count = sum(isinstance(entry, Record) for entry, _ in ready)
        messaging: dict[str, str | int] = {"operation.type": "send", "batch.message_count": count}
        with span("publish", links=links, kind="PRODUCER", messaging=messaging):
            with span("judge"):
                judged = self._judge.judge_records([observed for _, observed in ready if observed is not None])
            finished = [entry.offset for entry, _ in ready if isinstance(entry, Record)][: judged.count]
            last = ready[-1][0]
            advance = last.offset if isinstance(last, OffsetAdvance) and not self._judge.is_halted else None
            if finished or advance is not None:
                with span("transaction"):
                    await self._write(judged.records, finished, up_to=advance)
        for entry, _ in ready:
            del self._held[id(entry)]
        self._idle_since = time.monotonic()
        if judged.observed or judged.alerts:
            self._count_rejected(judged.observed)
            self._context.on_publish([observed.outcome for observed in judged.observed], judged.alerts)
        if self._judge.is_halted and not self.is_halted:
            self.is_halted = True
            self._problem = f"stopped at offset {self.next_offset}: nearly every record is rejected"
            self._changed.set()
            log.error(**log_event("partition.halted", partition=self.partition, offset=self.next_offset))

    async def _write(self, records: Sequence[ProducerRecord], finished: Sequence[int], *, up_to: int | None) -> None:
        """Write what came of the finished records, and the position after them, in one transaction."""
        position = self._tracker.position_after(finished, up_to=up_to)
        if self._trials is not None:
            self._trials.finish(finished)
        await self._transactions.write(records, position)
        self._reported_problem = ""
        self._tracker.finish(finished, position)

    def _count_rejected(self, observed_records: Sequence[ObservedRecord]) -> None:
        for observed in observed_records:
            if observed.rejected is not None:
                self._context.meters.count("vqmon.kafka.rejected")
                log.warning(
                    **log_event(
                        "record.rejected",
                        partition=self.partition,
                        offset=observed.record.offset,
                        why=observed.rejected,
                    )
                )

    def _report_restored(self, share: float) -> None:
        """Note how much of the state is restored, and log it every few seconds."""
        self._restored_share = share
        if time.monotonic() - self._restored_logged_at > _RESTORE_LOG_SECONDS:
            self._restored_logged_at = time.monotonic()
            log.info(**log_event("partition.restoring", partition=self.partition, percent=round(100 * share)))
