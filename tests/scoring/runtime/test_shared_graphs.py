"""Graphs that are open once: answers are shared, failures are not kept, and a caller that leaves harms nobody."""

import asyncio
import contextlib
import os
import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.scoring.runtime.test_batcher import FOREVER, FakeEngine, frames
from tests.scoring.tiny_levels import write_levels
from vqmon.errors import ScoreError
from vqmon.scoring.manifests.level_scorer import load_level_spec
from vqmon.scoring.runtime.batcher import Batcher
from vqmon.scoring.runtime.engines import GraphEngine
from vqmon.scoring.runtime.graph import BACKGROUND_NICENESS, Placement, Priority, call_at_priority
from vqmon.scoring.runtime.model_file import read_graph_model
from vqmon.scoring.runtime.shared_graphs import OutputCache, SharedGraph, SharedGraphs, powers_of_two


def host_of(engine: FakeEngine, *, cache_bytes: int = 10_000) -> tuple[SharedGraph, Batcher]:
    batcher = Batcher(engine)
    cache = OutputCache(cache_bytes=cache_bytes)
    return SharedGraph(cast(GraphEngine, engine), batcher, sha256="a" * 64, cache=cache), batcher


async def ask(host: SharedGraph, *firsts: int, deadline_seconds: float = FOREVER) -> list[float]:
    answers = await host.infer_cached(frames(*firsts), deadline_seconds=deadline_seconds)
    return [float(answer) for answer in answers]


async def until_running(engine: FakeEngine, runs: int = 1) -> None:
    while len(engine.batches) < runs:  # noqa: ASYNC110 - threads report here, not tasks
        await asyncio.sleep(0.001)


async def test_rows_seen_before_cost_nothing() -> None:
    """By content: the same picture of another caller, later, or twice in one call is computed once."""
    engine = FakeEngine(buckets=(1,))
    host, batcher = host_of(engine)
    assert await ask(host, 1, 2, 1) == [1, 2, 1]
    assert await ask(host, 2, 3) == [2, 3]
    assert sorted(number for batch in engine.batches for number in batch) == [1, 2, 3]
    await batcher.close()


async def test_those_who_ask_meanwhile_wait_for_the_same_answer() -> None:
    """Two callers at once share one run."""
    engine = FakeEngine(buckets=(1,))
    host, batcher = host_of(engine)
    engine.open.clear()
    both = asyncio.gather(ask(host, 1), ask(host, 1))
    await until_running(engine)
    engine.open.set()
    assert await both == [[1], [1]]
    assert engine.batches == [[1]]
    await batcher.close()


async def test_a_caller_that_leaves_harms_nobody() -> None:
    """Whoever waited for its answer computes it anew."""
    engine = FakeEngine(buckets=(1,))
    host, batcher = host_of(engine)
    engine.open.clear()
    first = asyncio.create_task(ask(host, 1))
    await until_running(engine)
    second = asyncio.create_task(ask(host, 1))
    await asyncio.sleep(0.05)
    first.cancel()
    await asyncio.sleep(0)
    engine.open.set()
    assert await second == [1]
    with pytest.raises(asyncio.CancelledError):
        await first
    await batcher.close()


async def test_a_failure_reaches_all_who_wait_and_is_forgotten() -> None:
    """The next one to ask gets a new try."""
    engine = FakeEngine(device="cpu", buckets=(1,), failures=[ScoreError("scorer_failed", "boom")])
    host, batcher = host_of(engine)
    engine.open.clear()
    both = asyncio.gather(ask(host, 1), ask(host, 1), return_exceptions=True)
    await until_running(engine)
    engine.open.set()
    assert [str(answer) for answer in await both] == ["scorer_failed: boom"] * 2
    assert await ask(host, 1) == [1]
    await batcher.close()


async def test_a_deadline_is_kept() -> None:
    """Waiting for somebody else's answer ends too."""
    engine = FakeEngine(buckets=(1,))
    host, batcher = host_of(engine)
    engine.open.clear()
    patient = asyncio.create_task(ask(host, 1))
    await until_running(engine)
    with pytest.raises(ScoreError) as caught:
        await ask(host, 1, deadline_seconds=0.05)
    assert caught.value.reason == "timeout"
    engine.open.set()
    assert await patient == [1]
    await batcher.close()


@pytest.mark.parametrize("cache_bytes", [0, 16, 10_000])
async def test_what_is_kept_is_bounded(cache_bytes: int) -> None:
    """The least used go first; even with no room at all every call is answered."""
    engine = FakeEngine(buckets=(1,))
    host, batcher = host_of(engine, cache_bytes=cache_bytes)
    assert await ask(host, *range(20)) == list(range(20))
    assert await ask(host, *range(19, -1, -1)) == list(range(19, -1, -1))
    runs = sum(len(batch) for batch in engine.batches)
    assert runs == {0: 39, 16: 38, 10_000: 20}[cache_bytes]
    await batcher.close()


async def test_a_graph_is_opened_once(tmp_path: Path) -> None:
    """By its hash, whoever names it; it closes with the rest."""
    spec = load_level_spec(write_levels(tmp_path))
    shape = ((3, 8, 16),)
    async with SharedGraphs() as hosts:
        first, is_new = hosts.open(spec.encoder, tmp_path, Placement(device="cpu"), shapes=shape, buckets=(1,))
        again, is_new_again = hosts.open(spec.encoder, tmp_path, Placement(device="cpu"), shapes=shape, buckets=(1,))
        assert first is again
        assert (is_new, is_new_again) == (True, False)
    with pytest.raises(ValueError, match="after close"):
        await first.infer(np.zeros((1, 3, 8, 16), np.uint8), deadline_seconds=1)


class Nice(FakeEngine):
    """Says with which niceness it runs."""

    def run(self, *rows: Any) -> np.ndarray:
        return np.full(len(rows[0]), os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))


@pytest.mark.parametrize(
    ("priority", "device", "stands_back"),
    [("first", "cpu", False), ("background", "cpu", True), ("background", "cuda", False)],
)
async def test_background_work_stands_back(priority: Priority, device: str, stands_back: bool) -> None:
    """Its threads have the lowest claim on a core; all others keep theirs, those that only feed a GPU too."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    async with Batcher(Nice(device=device), priority=priority) as batcher:
        (found,) = await batcher.infer(frames(1), deadline_seconds=FOREVER)
    assert found == (min(19, own + BACKGROUND_NICENESS) if stands_back else own)
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


def test_a_runtimes_own_threads_stand_back_too(tmp_path: Path) -> None:
    """A heavy graph that may use several cores: the threads that it starts have the rank of the one that opens it."""
    spec = load_level_spec(write_levels(tmp_path)).encoder
    placement = Placement(device="cpu", threads=3, cores_per_run=3, priority="background")
    before = set(os.listdir("/proc/self/task"))
    unit = read_graph_model(spec, tmp_path)
    engine = call_at_priority(
        "background", lambda: GraphEngine(spec, unit, placement, shapes=((3, 8, 16),), buckets=(1,))
    )
    assert engine.workers == 1
    ranks = []
    for task in set(os.listdir("/proc/self/task")) - before:
        with contextlib.suppress(ProcessLookupError):  # the opener may just have ended
            ranks.append(os.getpriority(os.PRIO_PROCESS, int(task)))
    assert len(ranks) >= 2
    assert set(ranks) == {min(19, os.getpriority(os.PRIO_PROCESS, os.getpid()) + BACKGROUND_NICENESS)}


def test_powers_of_two() -> None:
    """Up to the most."""
    assert [powers_of_two(most) for most in (1, 2, 7, 64)] == [(1,), (1, 2), (1, 2, 4), (1, 2, 4, 8, 16, 32, 64)]
