"""Measures how heavy scorers affect the latency of the cheap one: many streams with lite@1, some segments promoted.

python -m bench.scoring.mixed [--streams 36] [--seconds 5] [--rounds 16] [--share 0.05] [--heavy-ms 300] [--pictures 2]

Segments arrive at random times, the same ones for all loads of a round. Four loads take short turns in random order, so
that other work on the machine affects all of them: the cheap scorer alone; with a share of the segments promoted to a
heavy scorer, as vqmon runs it (one core at background priority); the same with a heavy scorer of equal priority; and
the first once more, which shows the noise of the machine. Latency is from a segment's arrival to the cheap verdict. The
heavy graph computes nothing useful, at a set cost.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np

from pipelines.observe.observer import Observer
from pipelines.observe.scoring_tiers import DeviceTimeReservations, HeavyTier, ScoringCascade
from tests.scoring.tiny_levels import LevelBundle, write_levels
from vqmon.core.cascade import PromotionPolicy
from vqmon.core.types import DecodedSegment, QualityEvent, Score, ScorerIdentity, Segment, View
from vqmon.scoring.manifests.frame_scorer import golden_frames
from vqmon.scoring.runtime.graph import Placement, Priority
from vqmon.scoring.runtime.shared_graphs import SharedGraphs
from vqmon.scoring.scorers.registry import Scorer, ScorerOptions, builtin_folder, open_scorers
from vqmon.testing import make_decoded, make_segment

SEGMENT_SECONDS = 6
MATRIX = 512
NO_BUDGET = 1e9
HEAVY_DEADLINE_SECONDS = 90.0
"""Long, so that no run of one turn goes on in the next."""
TURNS = count(1)


@dataclass(slots=True, kw_only=True)
class Timed:
    """A scorer that records the latency of each of its verdicts."""

    inner: Scorer
    arrived: dict[int, float] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.inner.id

    @property
    def views(self) -> tuple[View, ...]:
        return self.inner.views

    @property
    def needs_prompt(self) -> bool:
        return self.inner.needs_prompt

    @property
    def identity(self) -> ScorerIdentity:
        return self.inner.identity

    async def score(self, decoded: DecodedSegment) -> Score:
        scores = await self.inner.score(decoded)
        self.took.append(time.perf_counter() - self.arrived.pop(id(decoded.times_seconds)))
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The measurements of one round."""

    latencies: Sequence[float]
    promoted: int
    # of those, with a heavy verdict before the deadline
    done: int
    heavy_seconds: float
    busy_seconds: float


class Stage:
    """Decoded frames without decoding, so that only scoring is measured."""

    def __init__(self, views: Sequence[View], pictures: int) -> None:
        self._count = pictures
        self._pixels = {view: golden_frames(view, seed=1, frames=pictures) for view in views}

    def decoded(self, views: tuple[View, ...]) -> DecodedSegment:
        """Pictures that were not scored before, so that no score comes from the cache."""
        turn = next(TURNS)
        plain = make_decoded(frames=self._count, views=())
        fresh = {}
        for view in views:
            pixels = self._pixels[view].copy()
            pixels[:, 0, 0] = np.arange(self._count)[:, None]
            pixels[:, 0, 1] = list(turn.to_bytes(3, "big"))
            fresh[view] = pixels
        return replace(plain, views=fresh, times_seconds=tuple(float(at) for at in range(self._count)))


async def one_round(
    cheap: Scorer,
    heavy: Scorer | None,
    arrivals: Sequence[float],
    *,
    share: float,
    pictures: int,
    spent: list[float],
    first: int = 0,
) -> Load:
    """Submit segments at their arrival times and wait for all of them."""
    timed = Timed(inner=cheap)
    stage = Stage([*cheap.views, *(heavy.views if heavy else ())], pictures)
    ready: dict[int, float] = {}

    async def fetch(segment: Segment) -> bytes:
        return str(segment.sequence).encode()

    async def decode(media: bytes, views: tuple[View, ...]) -> DecodedSegment:
        decoded = stage.decoded(views)
        timed.arrived[id(decoded.times_seconds)] = ready[int(media)]
        return decoded

    budget = DeviceTimeReservations(NO_BUDGET, clock=time.monotonic)
    budget.spend(0.001)
    with budget.reserve():
        pass  # the cost of a segment is known from here on: none has to go alone
    tier = HeavyTier([heavy], policy=PromotionPolicy(share=share), budget=budget) if heavy else None
    observer = Observer(
        fetch=fetch, cascade=ScoringCascade(decode=decode, scorers=(timed,), heavy=tier), sampling="exact", versions={},
        now=lambda: datetime.now(UTC),
    )  # fmt: skip
    spent.clear()
    began, cpu = time.perf_counter(), time.process_time()

    async def score_segment(number: int, moment: float) -> QualityEvent:
        await asyncio.sleep(max(0.0, began + moment - time.perf_counter()))
        ready[number] = began + moment
        outcome = (await observer.observe(make_segment(number))).outcome
        assert isinstance(outcome, QualityEvent), outcome
        return outcome

    events = await asyncio.gather(*(score_segment(number, moment) for number, moment in enumerate(arrivals, first)))
    return Load(
        latencies=timed.took,
        promoted=sum(event.promotion is not None and bool(event.promotion.reasons) for event in events),
        done=sum(len(event.scores) > 1 for event in events),
        heavy_seconds=sum(spent),
        busy_seconds=time.process_time() - cpu,
    )


async def bench(options: argparse.Namespace) -> None:
    """Measure all rounds and print the summary."""
    cores = len(os.sched_getaffinity(0))
    drawn = np.random.default_rng(7)
    segments = round(options.streams * options.seconds / SEGMENT_SECONDS)
    spent: list[float] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work = calibrated(folder, options.heavy_ms)

        async def opened(name: str, priority: Priority, threads: int, cost: list[float]) -> Scorer:
            terms = ScorerOptions(
                placement=Placement(device="cpu", threads=threads, priority=priority), on_run=cost.append,
                deadline_seconds=600 if name == "lite" else HEAVY_DEADLINE_SECONDS,
            )  # fmt: skip
            shared_graphs = await stack.enter_async_context(SharedGraphs())
            folders = [builtin_folder(), folder]
            (scorer,) = await stack.enter_async_context(
                open_scorers([name], folders, terms, shared_graphs=shared_graphs)
            )
            return scorer

        cheap = await opened("lite", "first", 0, [])
        background = await opened("heavy", "background", 1, spent)
        equal = await opened("heavy", "first", 1, spent)
        rate = segments / options.seconds
        print(f"{cheap.id}, {cores} cores, {options.streams} streams, {rate:.1f} segments/s")
        print(
            f"{options.pictures} pictures each; {options.share:.0%} promoted to {work} products of {MATRIX} x {MATRIX}"
        )
        print(f"load average {os.getloadavg()[0]:.1f} before the start")
        kinds: dict[str, Scorer | None] = {
            "cheap alone": None, "heavy in the background": background, "heavy of equal rank": equal,
            "cheap alone again": None,
        }  # fmt: skip
        loads: dict[str, list[Load]] = {name: [] for name in kinds}
        given = {"share": options.share, "pictures": options.pictures, "spent": spent}
        await one_round(cheap, background, [0.1 * at for at in range(10)], **{**given, "share": 1.0})
        for number in range(options.rounds):
            arrivals = np.sort(drawn.uniform(0, options.seconds, segments)).tolist()
            for name in drawn.permutation(list(kinds)):
                load = await one_round(cheap, kinds[name], arrivals, first=number * segments, **given)
                loads[name].append(load)
    show(loads)


def calibrated(folder: Path, heavy_ms: float) -> int:
    """Write a heavy scorer whose encoder takes about `heavy_ms` per picture on one core; returns its number of
    products."""
    from onnxruntime import InferenceSession, SessionOptions  # type: ignore[import-untyped]

    probe = folder / "probe"
    probe.mkdir()
    manifest = write_levels(probe, LevelBundle(name="probe", work=20, width=MATRIX))
    options = SessionOptions()
    options.intra_op_num_threads = 1
    session = InferenceSession(str(manifest.with_suffix(".encoder.onnx")), options, providers=["CPUExecutionProvider"])
    pixels = np.zeros((1, 3, 8, 16), np.uint8)
    session.run(None, {"pixels": pixels})
    cpu = time.process_time()
    for _ in range(5):
        session.run(None, {"pixels": pixels})
    score_seconds = (time.process_time() - cpu) / 5 / 20
    work = max(1, round(heavy_ms / 1e3 / score_seconds))
    write_levels(folder, LevelBundle(name="heavy", work=work, width=MATRIX))
    return work


def show(loads: dict[str, list[Load]]) -> None:
    """Print a line per load; `ratio` is p99 over that of the cheap scorer alone, `paired` the median over rounds."""
    heads = ("p50", "p90", "p99")
    times = " ".join(f"{head:>8}" for head in heads)
    print(f"\n  {'':26} {times} {'ratio':>6} {'paired':>6} {'promoted':>9} {'in time':>8} {'heavy s':>8} {'CPU s':>7}")
    base = percentiles(loads["cheap alone"])
    for name, rounds in loads.items():
        times = " ".join(f"{each * 1e3:6.1f}ms" for each in percentiles(rounds))
        heavy, busy = sum(load.heavy_seconds for load in rounds), sum(load.busy_seconds for load in rounds)
        promoted, done = sum(load.promoted for load in rounds), sum(load.done for load in rounds)
        ratio = percentiles(rounds)[2] / base[2]
        turns = zip(rounds, loads["cheap alone"], strict=True)
        paired = float(np.median([percentiles([load])[2] / percentiles([other])[2] for load, other in turns]))
        print(f"  {name:26} {times} {ratio:6.2f} {paired:6.2f} {promoted:9} {done:8} {heavy:8.1f} {busy:7.1f}")
    print("  goal: heavy in the background at most 1.20; `cheap alone again` is what chance does here")


def percentiles(rounds: Sequence[Load]) -> tuple[float, float, float]:
    """p50, p90 and p99 of all rounds together, in seconds."""
    p50, p90, p99 = np.percentile([each for load in rounds for each in load.latencies], (50, 90, 99))
    return float(p50), float(p90), float(p99)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=36)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--pictures", type=int, default=2, help="per segment")
    parser.add_argument("--heavy-ms", type=float, default=300.0, help="of one core, per picture")
    asyncio.run(bench(parser.parse_args()))


if __name__ == "__main__":
    main()
