"""What the history costs: rows per second, bytes per row, and how long the questions of the pages take.

`python -m bench.serving.history [--series 500] [--segments 200] [--week-segments 151200] [--renditions 2000]`.
Most series are short so that it ends in a few minutes; one holds a whole week of 4-second segments, and that one is
asked about.
The yardstick is a plain `sqlite3` insert of the same rows in the same run. Processor time is shown beside the wall
clock, which other work on the machine disturbs. PostgreSQL is measured too where its server's programs are.
"""

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.serving.fleet_history import Chosen, bench_fleet
from tests import factories
from tests.postgres import programs, running
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import SIGNALS, LaneCursor, QualityEvent, Rendition
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.history.backends.location import PostgresAddress
from vqmon.transport.history.history import History, open_history
from vqmon.transport.wire import cloudevents

START = datetime(2026, 11, 20, tzinfo=UTC)
SECONDS = 4.0
RULES = Path(__file__).parents[2] / "config" / "rules.toml"


def rendition(series: int) -> Rendition:
    """Three renditions to a stream."""
    name = ("1080p", "720p", "360p")[series % 3]
    return factories.rendition(stream=f"channel-{series // 3:03}", name=name, bitrate_kbps=3000.0, codecs=None)


def events(series: int, count: int, chance: random.Random) -> Iterator[QualityEvent]:
    """Segments of one series with noisy scores, smooth pictures as edges and noisy signals."""
    where = rendition(series)
    for number in range(count):
        segment = factories.segment(
            sequence=number,
            rendition=where,
            url=f"https://cdn.example.org/live/{where.key}/segment-{number:08}.ts",
            starts_at=START + timedelta(seconds=number * SECONDS),
            duration_seconds=SECONDS,
        )
        frames = tuple(round(chance.gauss(65, 4), 4) for _ in range(4))
        mean = round(statistics.fmean(frames), 4)
        yield factories.event(
            segment=segment,
            score=[factories.score(value=mean, native_value=round(mean / 25, 4), frame_values=frames)],
            signals={name: [chance.random() * 0.2 for _ in range(4)] for name in SIGNALS},
            edges=(picture(chance), picture(chance)),
            observed_after_seconds=0,
        )


def picture(chance: random.Random) -> str:
    """A fingerprint that looks like one: brightness that wanders from cell to cell."""
    level, cells = chance.randrange(60, 180), bytearray()
    for _ in range(576):
        level = min(235, max(16, level + chance.randrange(-6, 7)))
        cells.append(level)
    return cells.hex()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument("--segments", type=int, default=200, help="per series")
    parser.add_argument("--week-segments", type=int, default=151_200, help="of the one long series")
    parser.add_argument("--renditions", type=int, default=2000, help="of the fleet")
    parser.add_argument("--rows", type=int, default=60_000, help="of the fleet")
    parser.add_argument(
        "--paced-seconds", type=float, default=30.0, help="how long the fleet is played in its own time"
    )
    chosen = parser.parse_args()
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        sample_events = list(events(0, 4000, chance))
        print(
            f"one event is {len(cloudevents.encode_outcome(sample_events[0], source='vqmon://bench'))} bytes of JSON\n"
        )
        bench_writing(directory, sample_events)
        fleet = Chosen(renditions=chosen.renditions, rows=chosen.rows, batch=330, paced_seconds=chosen.paced_seconds)
        with postgres_server() as server:
            bench_fleet(directory, server, sample_events, fleet)
        bench_judging(sample_events)
        bench_asking(directory / "large.db", chosen, sample_events, chance)


@contextmanager
def postgres_server() -> Iterator[PostgresAddress | None]:
    """A server of its own, with its defaults for safety; None where there is none to start."""
    bin = programs()
    if bin is None:
        yield None
        return
    with running(bin, {"fsync": "on"}) as server, server.empty_database() as url:
        yield PostgresAddress(url=url, password_file=server.password_file)


def bench_writing(directory: Path, sample_events: Sequence[QualityEvent]) -> None:
    """Rows per second, ours and plain."""
    print(f"writing {len(sample_events)} rows             rows/s   us/row   cpu us/row   p99 ms   bytes/row")
    for name, size in (("vqmon, one row each", 1), ("vqmon, batches of 64", 64)):
        file = directory / f"{size}.db"
        with open_history(file, "write") as history:
            cpu = time.process_time()
            times = [publish(history, sample_events[at : at + size]) for at in range(0, len(sample_events), size)]
            cpu = time.process_time() - cpu
            history.maintenance.checkpoint()
        tell(name, len(sample_events), times, cpu=cpu, size_bytes=file.stat().st_size)
    for name, size in (("plain sqlite3, one row", 1), ("plain sqlite3, 64 rows", 64)):
        file = directory / f"plain-{size}.db"
        times, cpu = plain(file, sample_events, size)
        tell(name, len(sample_events), times, cpu=cpu, size_bytes=file.stat().st_size)
    print("plain: executemany into (id, starts_at, score, JSON text), WAL, synchronous=NORMAL, JSON made beforehand\n")


def publish(history: History, batch: Sequence[QualityEvent]) -> float:
    last = batch[-1].segment
    cursor = LaneCursor(lane=last.rendition.key, sequence=last.sequence, segment_key=last.key, ends_at=last.ends_at)
    began = time.perf_counter()
    history.publish(batch, cursors=[cursor])
    return time.perf_counter() - began


def plain(file: Path, sample_events: Sequence[QualityEvent], size: int) -> tuple[list[float], float]:
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE event (id TEXT PRIMARY KEY, starts_at INTEGER, score REAL, document TEXT)")
    rows = [
        (
            event.id,
            int(event.segment.starts_at.timestamp()),
            event.scores[0].value,
            cloudevents.encode_outcome(event, source="x").decode(),
        )
        for event in sample_events
    ]
    times, cpu = [], time.process_time()
    for at in range(0, len(rows), size):
        began = time.perf_counter()
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", rows[at : at + size])
        database.execute("COMMIT")
        times.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return times, cpu


def tell(name: str, rows: int, times: Sequence[float], *, cpu: float, size_bytes: int) -> None:
    p99 = sorted(times)[int(len(times) * 0.99)] * 1e3
    total = sum(times)
    print(
        f"{name:26} {rows / total:10.0f} {total / rows * 1e6:8.1f} {cpu / rows * 1e6:12.1f} {p99:8.2f}"
        f" {size_bytes / rows:11.0f}"
    )


def bench_judging(sample_events: Sequence[QualityEvent]) -> None:
    """What the rules that come with vqmon cost."""
    rules = parse_rules(RULES.read_text())
    judge = Judge(rules)
    times = []
    for event in sample_events:
        began = time.perf_counter()
        judge.judge(event)
        times.append(time.perf_counter() - began)
    median, p99 = statistics.median(times) * 1e6, sorted(times)[int(len(times) * 0.99)] * 1e6
    print(
        f"judging: {median:.1f} us per outcome with {len(rules)} rules, "
        f"{median / len(rules):.1f} us per rule, p99 {p99:.1f} us per outcome"
    )
    states = [len(cloudevents.encode_state(state)) for state in judge.states().values()]
    print(f"memory as JSON: {sum(states)} bytes per rendition in {len(states)} parts\n")


def bench_asking(
    file: Path, chosen: argparse.Namespace, sample_events: Sequence[QualityEvent], chance: random.Random
) -> None:
    """How long the pages wait."""
    with open_history(file, "write") as history:
        began = time.perf_counter()
        rows = fill(history, chosen, sample_events, chance)
        history.maintenance.roll_up()
        history.maintenance.checkpoint()
        spent = time.perf_counter() - began
    print(f"filled {chosen.series} series x {chosen.segments} segments, and one with {chosen.week_segments}:", end=" ")
    print(f"{rows} rows, {file.stat().st_size / 1e6:.0f} MB, {spent:.0f} s")
    print(
        f"(a week of {chosen.series} series would be {chosen.series * 151_200 / 1e6:.1f} million rows: scaled down)\n"
    )
    stream = rendition(0).stream_id
    week = START + timedelta(days=7)

    def points(hours: float) -> object:
        return reader.queries.points(stream, begins_at=week - timedelta(hours=hours), ends_at=week, limit=5000)

    with open_history(file, "read") as reader:
        event = sample_events[len(sample_events) // 2]
        questions: dict[str, Callable[[], object]] = {
            "fleet: all renditions, trend of 60": reader.queries.renditions,
            "one stream's renditions": lambda: reader.queries.renditions(stream_id=stream),
            "points of one hour": lambda: points(1),
            "points of a day, newest 5000": lambda: points(24),
            "a week in 500 buckets, of minutes": lambda: reader.queries.buckets(stream, begins_at=START, ends_at=week),
            "one event": lambda: reader.queries.outcome(event.id),
            "its neighbours": lambda: reader.queries.neighbours(event.id),
            "open alerts": lambda: reader.queries.alerts(open_only=True),
            "what is new: nothing": lambda: reader.queries.changes_since(rows),
            "what is new: 100 outcomes": lambda: reader.queries.changes_since(rows - 100),
        }
        print(f"{'asking':36} median ms")
        for name, question in questions.items():
            question()
            times: list[float] = []
            while len(times) < 5 or (sum(times) < 0.5 and len(times) < 200):
                began = time.perf_counter()
                question()
                times.append(time.perf_counter() - began)
            print(f"{name:36} {statistics.median(times) * 1e3:9.2f}")
        began = time.perf_counter()
        count = sum(1 for _, _ in zip(range(20_000), reader.documents.outcomes_in_write_order(), strict=False))
        print(f"\nreading back in order: {count / (time.perf_counter() - began):.0f} events/s")


def fill(
    history: History, chosen: argparse.Namespace, sample_events: Sequence[QualityEvent], chance: random.Random
) -> int:
    """Rows like `some` under other ids and moments; how many."""
    rows = 0
    for series in range(chosen.series):
        count = chosen.week_segments if series == 0 else chosen.segments
        where = rendition(series)
        for at in range(0, count, 500):
            batch = []
            for number in range(at, min(at + 500, count)):
                old = sample_events[number % len(sample_events)]
                segment = replace(
                    old.segment,
                    rendition=where,
                    sequence=number,
                    starts_at=START + timedelta(seconds=number * SECONDS),
                )
                id = old.id if (series, number) < (0, len(sample_events)) else f"{chance.getrandbits(128):032x}"
                batch.append(replace(old, id=id, segment=segment))
            history.publish(batch)
            rows += len(batch)
    return rows


if __name__ == "__main__":
    main()
