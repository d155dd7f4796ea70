"""What heavy scorers do to the cheap one's latency: many streams with lite@1, some segments promoted.

python -m bench.bench_mixed [--streams 16] [--seconds 20] [--rounds 4] [--share 0.05] [--heavy-ms 300]

Segments of six pictures come at random moments, the same ones in every round. Four loads take turns: the cheap scorer
alone; with a twentieth of the segments promoted to a heavy one, as vqmon runs it (one core at the lowest priority); the
same with a heavy scorer of equal rank; and again the first, which tells how much this machine differs from itself.
Latency is from a segment's arrival to the cheap verdict. The heavy graph computes nothing of use, at a set cost.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np

from pipelines.heavy import HeavyTier, Purse
from pipelines.observe import Observer
from tests.scoring.tiny_levels import Written, write_levels
from vqmon.core.tiers import Policy
from vqmon.core.types import Decoded, QualityEvent, Score, ScorerIdentity, Segment, View
from vqmon.scoring.graphs import Placement, Priority
from vqmon.scoring.hosts import Hosts
from vqmon.scoring.scorers import Scorer, Terms, builtin_folder, open_scorers
from vqmon.scoring.specs import golden_frames
from vqmon.testing import make_decoded, make_segment

PICTURES = 6
MATRIX = 512
NO_BUDGET = 1e9
HEAVY_DEADLINE_SECONDS = 20.0
TURNS = count(1)


@dataclass(slots=True, kw_only=True)
class Timed:
    """A scorer that notes when each of its verdicts was there."""

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
    def identity(self) -> ScorerIdentity:
        return self.inner.identity

    async def score(self, decoded: Decoded) -> Score:
        found = await self.inner.score(decoded)
        self.took.append(time.perf_counter() - self.arrived.pop(id(decoded.times_seconds)))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one round did."""

    latencies: Sequence[float]
    promoted: int
    # of those, with a heavy verdict before the deadline
    done: int
    heavy_seconds: float
    busy_seconds: float

    def p(self, percent: float) -> float:
        """A percentile of the cheap scorer's latency, in milliseconds."""
        return float(np.percentile(self.latencies, percent)) * 1e3


class Stage:
    """Frames that are ready: what is left is scoring."""

    def __init__(self, views: Sequence[View]) -> None:
        self._pixels = {view: golden_frames(view, seed=1, frames=PICTURES) for view in views}

    def decoded(self, views: tuple[View, ...]) -> Decoded:
        """Pictures that were never seen before, so that nothing is answered from memory."""
        turn = next(TURNS)
        plain = make_decoded(frames=PICTURES, views=())
        fresh = {}
        for view in views:
            pixels = self._pixels[view].copy()
            pixels[:, 0, 0] = np.arange(PICTURES)[:, None]
            pixels[:, 0, 1] = list(turn.to_bytes(3, "big"))
            fresh[view] = pixels
        return replace(plain, views=fresh, times_seconds=tuple(float(at) for at in range(PICTURES)))


async def one_round(
    cheap: Scorer, heavy: Scorer | None, arrivals: Sequence[float], *, share: float, spent: list[float]
) -> Load:
    """Send segments at their moments and wait for all of them."""
    timed = Timed(inner=cheap)
    stage = Stage([*cheap.views, *(heavy.views if heavy else ())])
    ready: dict[int, float] = {}

    async def fetch(segment: Segment) -> bytes:
        return str(segment.sequence).encode()

    async def decode(media: bytes, views: tuple[View, ...]) -> Decoded:
        found = stage.decoded(views)
        timed.arrived[id(found.times_seconds)] = ready[int(media)]
        return found

    purse = Purse(NO_BUDGET, clock=time.monotonic)
    purse.hear(0.001)
    with purse.ask():
        pass  # what a segment takes is known from here on: none has to go alone
    tier = HeavyTier([heavy], policy=Policy(share=share), purse=purse) if heavy else None
    observer = Observer(
        fetch=fetch, decode=decode, scorers=(timed,), heavy=tier, sampling="exact", versions={},
        now=lambda: datetime.now(UTC),
    )  # fmt: skip
    spent.clear()
    began, cpu = time.perf_counter(), time.process_time()

    async def one(number: int, moment: float) -> QualityEvent:
        await asyncio.sleep(max(0.0, began + moment - time.perf_counter()))
        ready[number] = began + moment
        outcome = (await observer.observe(make_segment(number))).outcome
        assert isinstance(outcome, QualityEvent), outcome
        return outcome

    events = await asyncio.gather(*(one(number, moment) for number, moment in enumerate(arrivals)))
    return Load(
        latencies=timed.took,
        promoted=sum(event.promotion is not None and bool(event.promotion.reasons) for event in events),
        done=sum(len(event.scores) > 1 for event in events),
        heavy_seconds=sum(spent),
        busy_seconds=time.process_time() - cpu,
    )


async def bench(options: argparse.Namespace) -> None:
    """Print the rounds and what follows from them."""
    cores = len(os.sched_getaffinity(0))
    drawn = np.random.default_rng(7)
    segments = round(options.streams * options.seconds / PICTURES)
    arrivals = np.sort(drawn.uniform(0, options.seconds, segments)).tolist()
    spent: list[float] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work = calibrated(folder, options.heavy_ms)

        async def opened(name: str, priority: Priority, threads: int, cost: list[float]) -> Scorer:
            terms = Terms(
                placement=Placement(device="cpu", threads=threads, priority=priority), spent=cost.append,
                deadline_seconds=600 if name == "lite" else HEAVY_DEADLINE_SECONDS,
            )  # fmt: skip
            hosts = await stack.enter_async_context(Hosts())
            folders = [builtin_folder(), folder]
            (scorer,) = await stack.enter_async_context(open_scorers([name], folders, terms, hosts=hosts))
            return scorer

        cheap = await opened("lite", "first", 0, [])
        background = await opened("heavy", "background", 1, spent)
        equal = await opened("heavy", "first", 1, spent)
        print(f"{cheap.id}, {cores} cores, {options.streams} streams, {segments / options.seconds:.1f} 6-s segments/s")
        print(f"{options.share:.0%} promoted to a graph of {work} products of {MATRIX} x {MATRIX} per picture")
        print(f"load average {os.getloadavg()[0]:.1f} before the start")
        kinds: dict[str, Scorer | None] = {
            "cheap alone": None, "heavy in the background": background, "heavy of equal rank": equal,
            "cheap alone again": None,
        }  # fmt: skip
        loads: dict[str, list[Load]] = {name: [] for name in kinds}
        await one_round(cheap, background, arrivals[:20], share=0.2, spent=spent)
        for _ in range(options.rounds):
            for name, heavy in kinds.items():
                loads[name].append(await one_round(cheap, heavy, arrivals, share=options.share, spent=spent))
    show(loads)


def calibrated(folder: Path, heavy_ms: float) -> int:
    """Write a heavy scorer whose encoder takes about so long for a picture on one core; how many products it has."""
    from onnxruntime import InferenceSession, SessionOptions  # type: ignore[import-untyped]

    probe = folder / "probe"
    probe.mkdir()
    manifest = write_levels(probe, Written(name="probe", work=20, width=MATRIX))
    options = SessionOptions()
    options.intra_op_num_threads = 1
    session = InferenceSession(str(manifest.with_suffix(".encoder.onnx")), options, providers=["CPUExecutionProvider"])
    pixels = np.zeros((1, 3, 8, 16), np.uint8)
    session.run(None, {"pixels": pixels})
    cpu = time.process_time()
    for _ in range(5):
        session.run(None, {"pixels": pixels})
    one = (time.process_time() - cpu) / 5 / 20
    work = max(1, round(heavy_ms / 1e3 / one))
    write_levels(folder, Written(name="heavy", work=work, width=MATRIX))
    return work


def show(loads: dict[str, list[Load]]) -> None:
    """A line per load, then p99 against the cheap scorer alone, round by round."""
    print(f"\n  {'':26} {'p50':>8} {'p90':>8} {'p99':>8} {'promoted':>9} {'in time':>8} {'heavy s':>8} {'CPU s':>7}")
    for name, rounds in loads.items():
        p50, p90, p99 = (statistics.median(load.p(percent) for load in rounds) for percent in (50, 90, 99))
        heavy = statistics.median(load.heavy_seconds for load in rounds)
        busy = statistics.median(load.busy_seconds for load in rounds)
        promoted, done = sum(load.promoted for load in rounds), sum(load.done for load in rounds)
        times = f"{p50:6.1f}ms {p90:6.1f}ms {p99:6.1f}ms"
        print(f"  {name:26} {times} {promoted:9} {done:8} {heavy:8.2f} {busy:7.1f}")
    alone = loads["cheap alone"]
    for name, rounds in loads.items():
        if name == "cheap alone":
            continue
        ratios = sorted(load.p(99) / other.p(99) for load, other in zip(rounds, alone, strict=True))
        pooled = np.percentile([each for load in rounds for each in load.latencies], 99)
        base = np.percentile([each for load in alone for each in load.latencies], 99)
        spread = f"{statistics.median(ratios):.2f} (rounds {ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"  p99, {name} / cheap alone: {spread}, of all rounds together {pooled / base:.2f}; goal 1.20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--heavy-ms", type=float, default=300.0, help="of one core, per picture")
    asyncio.run(bench(parser.parse_args()))


if __name__ == "__main__":
    main()
