"""A fleet's worth of events into the history: what a row costs with thousands of renditions, how long commits take."""

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from vqmon.core.types import QualityEvent, Rendition
from vqmon.transport.history.backends.location import HistoryLocation, PostgresAddress
from vqmon.transport.history.history import History, open_history
from vqmon.transport.history.ingest import RecordBatch, parse_record_batches
from vqmon.transport.wire import cloudevents

SEGMENT_SECONDS = 6.0


@dataclass
class Cost:
    """Wall and processor time of the thread that writes."""

    rows: int = 0
    cpu_seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    # processor time of each act
    cpus: list[float] = field(default_factory=list)

    def of(self, rows: int, act: Callable[[], object]) -> None:
        cpu, began = time.thread_time(), time.perf_counter()
        act()
        self.times.append(time.perf_counter() - began)
        self.cpus.append(time.thread_time() - cpu)
        self.cpu_seconds += self.cpus[-1]
        self.rows += rows

    @property
    def us(self) -> float:
        return self.cpu_seconds / max(1, self.rows) * 1e6

    def p(self, share: float) -> float:
        return sorted(self.times)[min(len(self.times) - 1, int(len(self.times) * share))] * 1e3


def fleet(sample_events: Sequence[QualityEvent], renditions: int, begins_at: datetime) -> Iterator[QualityEvent]:
    """Segments of many renditions as they come in time, without end."""
    chance = random.Random(2)
    where = [
        Rendition(stream_id=f"channel-{number // 3:04}", name=("1080p", "720p", "360p")[number % 3], width=1920)
        for number in range(renditions)
    ]
    turn = 0
    while True:
        for number, rendition in enumerate(where):
            old = sample_events[(turn * 7 + number) % len(sample_events)]
            starts_at = begins_at + timedelta(seconds=SEGMENT_SECONDS * (turn + number / renditions))
            segment = replace(
                old.segment,
                rendition=rendition,
                sequence=turn,
                starts_at=starts_at,
                duration_seconds=SEGMENT_SECONDS,
            )
            yield replace(old, id=f"{chance.getrandbits(128):032x}", segment=segment, observed_at=segment.ends_at)
        turn += 1


def bench_fleet(
    directory: Path, postgres: PostgresAddress | None, sample_events: Sequence[QualityEvent], chosen: "Chosen"
) -> None:
    """The same fleet into SQLite and PostgreSQL, in batches as `vqmon record` makes them, and paced as in life."""
    print(
        f"\n{chosen.renditions} renditions, {chosen.rows} rows in batches of {chosen.batch}; processor time is that of"
    )
    print("the writing thread alone (a PostgreSQL server and SQLite's checkpoint thread are beside it)")
    print(f"{'':44} {'rows/s':>8} {'cpu us/row':>11} {'bytes/row':>10}")
    for name, at in history_locations(directory, postgres):
        _filled(name, at, sample_events, chosen)
    _plain(directory / "plain-fleet.db", sample_events, chosen)
    for name, at in history_locations(directory, postgres):
        _paced(name, at, sample_events, chosen)


@dataclass(frozen=True)
class Chosen:
    """How large it is."""

    renditions: int
    rows: int
    batch: int
    paced_seconds: float


def history_locations(folder: Path, postgres: PostgresAddress | None) -> Iterator[tuple[str, HistoryLocation]]:
    yield "SQLite", folder / f"fleet-{time.monotonic_ns()}.db"
    if postgres is not None:
        yield "PostgreSQL", postgres


def batches(events: Iterator[QualityEvent], rows: int, size: int) -> Iterator[list[QualityEvent]]:
    for _ in range(rows // size):
        yield [next(events) for _ in range(size)]


def _filled(name: str, at: HistoryLocation, sample_events: Sequence[QualityEvent], chosen: Chosen) -> None:
    events = fleet(sample_events, chosen.renditions, sample_events[0].segment.starts_at)
    with open_history(at, "record") as history:
        publish = Cost()
        for batch in batches(events, chosen.rows, chosen.batch):
            publish.of(len(batch), lambda batch=batch: history.publish(batch))
        record, parse, stands = Cost(), Cost(), None
        for number, batch in enumerate(batches(events, chosen.rows // 2, chosen.batch)):
            read = [
                (number * chosen.batch + k, cloudevents.encode_outcome(event, source="vqmon:b"))
                for k, event in enumerate(batch)
            ]
            after = read[-1][0] + 1
            came = RecordBatch(
                topic="t", partition=0, kind="outcome", previous_offset=stands, next_offset=after, records=read
            )
            taken: list[object] = []
            parse.of(len(batch), lambda came=came, taken=taken: taken.append(parse_record_batches([came])))
            record.of(len(batch), lambda taken=taken: history.ingest(taken[0]))
            stands = after
        size = _size(at, history)
        print_cost(f"{name}: encode and write (one host)", publish, size / (publish.rows + record.rows))
        print_cost(f"{name}: write what came encoded (record)", record)
        print_cost(f"{name}: reading the JSON before that", parse)
        rolled = Cost()
        rolled.of(publish.rows + record.rows, history.maintenance.roll_up)
        print_cost(f"{name}: making minutes of it", rolled)
        pruned = Cost()
        last = next(events).observed_at
        pruned.of(publish.rows + record.rows, lambda: history.maintenance.prune(before=last, keep_frames_of_segments=0))
        print_cost(f"{name}: taking it out again", pruned)


def _paced(name: str, at: HistoryLocation, sample_events: Sequence[QualityEvent], chosen: Chosen) -> None:
    """As many events per second as the renditions have, a transaction each quarter of a second."""
    rate = chosen.renditions / SEGMENT_SECONDS
    events = fleet(sample_events, chosen.renditions, sample_events[0].segment.starts_at + timedelta(days=1))
    size = max(1, round(rate / 4))
    with open_history(at, "record") as history:
        cost, began = Cost(), time.perf_counter()
        process = time.process_time()
        made = 0.0
        for number in range(int(chosen.paced_seconds * 4)):
            cpu = time.thread_time()
            batch = [next(events) for _ in range(size)]
            made += time.thread_time() - cpu
            time.sleep(max(0.0, began + number / 4 - time.perf_counter()))
            cost.of(size, lambda batch=batch: history.publish(batch))
            if number % 40 == 39:
                cost.of(0, history.maintenance.roll_up)
        seconds = time.perf_counter() - began
        process = time.process_time() - process - made
    print(
        f"{name}, paced: {cost.rows / seconds:.0f} rows/s for {seconds:.0f} s: writing thread"
        f" {cost.cpu_seconds / seconds:.2%} of a core, whole process {process / seconds:.2%}, minutes included;"
        f" commit p50 {cost.p(0.5):.1f} ms, p99 {cost.p(0.99):.1f} ms, longest {cost.p(1):.1f} ms"
        f" (processor time of a commit: p99 {sorted(cost.cpus)[int(len(cost.cpus) * 0.99)] * 1e3:.1f} ms)"
    )


def print_cost(name: str, cost: Cost, size: float | None = None) -> None:
    rows = cost.rows / sum(cost.times)
    print(f"{name:44} {rows:8.0f} {cost.us:11.1f} {'' if size is None else f'{size:10.0f}'}")


def _size(at: HistoryLocation, history: History) -> float:
    history.maintenance.checkpoint()
    if isinstance(at, Path):
        return at.stat().st_size
    sql = (
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
        " WHERE relnamespace = 'vqmon'::regnamespace AND relkind = 'r'"
    )
    return float(history._database.query(sql)[0][0])


def _plain(file: Path, sample_events: Sequence[QualityEvent], chosen: Chosen) -> None:
    """The yardstick: the same JSON, made beforehand, into one table with one index."""
    database = sqlite3.connect(file, isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL"):
        database.execute(statement)
    database.execute("CREATE TABLE event (id TEXT PRIMARY KEY, starts_at INTEGER, score REAL, document TEXT)")
    events, cost = fleet(sample_events, chosen.renditions, sample_events[0].segment.starts_at), Cost()
    for batch in batches(events, chosen.rows // 2, chosen.batch):
        rows = [
            (
                event.id,
                int(event.segment.starts_at.timestamp()),
                event.scores[0].value,
                cloudevents.encode_outcome(event, source="x"),
            )
            for event in batch
        ]

        def write(rows: Sequence[object] = rows) -> None:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", rows)
            database.execute("COMMIT")

        cost.of(len(rows), write)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    print_cost("plain sqlite3, JSON made beforehand", cost, os.stat(file).st_size / cost.rows)
