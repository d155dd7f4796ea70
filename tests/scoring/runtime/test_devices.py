"""Devices: which GPUs are selected, several of them in turn, and what happens when some are absent, inexact or fail."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.scoring.fake_gpus import FakeGpuRuntime
from tests.scoring.tiny_levels import write_levels
from tests.scoring.tiny_onnx import expected, pictures, write_bundle
from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.manifests.frame_scorer import load_frame_spec
from vqmon.scoring.runtime.batcher import Batcher, BatchFacts, Engine
from vqmon.scoring.runtime.devices import open_frame_engine, select_gpus
from vqmon.scoring.runtime.graph import Device, Placement
from vqmon.scoring.runtime.shared_graphs import SharedGraphs
from vqmon.scoring.scorers.registry import ScorerOptions, open_scorers

FOREVER = 60.0
OUT_OF_MEMORY = "BFCArena: Failed to allocate memory for requested buffer"


def engine(folder: Path, runtime: FakeGpuRuntime, *, device: Device = "cuda", gpus: tuple[int, ...] = (0, 1)) -> Engine:
    manifest = write_bundle(folder)
    placement = Placement(device=device, gpus=gpus, threads=2)
    return open_frame_engine(load_frame_spec(manifest), manifest.with_suffix(".onnx"), placement, runtime=runtime)


def test_numbers_are_those_of_nvidia_smi() -> None:
    """CUDA's own order is by speed."""
    environment: dict[str, str] = {}
    assert select_gpus(["2", "0"], environment) == (2, 0)
    assert environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert select_gpus([], environment) == ()


def test_a_mig_slice_is_made_visible_by_its_uuid() -> None:
    """It is then the first and only device of the process; also when the tiers are opened twice."""
    environment: dict[str, str] = {}
    for _ in range(2):
        assert select_gpus(["MIG-3c5a"], environment) == (0,)
    assert environment["CUDA_VISIBLE_DEVICES"] == "MIG-3c5a"


@pytest.mark.parametrize(
    ("names", "visible", "message"),
    [
        (["MIG-1", "MIG-2"], None, "one MIG slice at most; run one worker for each slice"),
        (["0", "GPU-1"], None, "mixed"),
        (["GPU-1"], "GPU-2", "CUDA_VISIBLE_DEVICES is 'GPU-2' already"),
    ],
)
def test_names_that_cuda_cannot_serve_are_refused(names: list[str], visible: str | None, message: str) -> None:
    """With what to do."""
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    with pytest.raises(ScorerError, match=message):
        select_gpus(names, environment)


async def test_gpus_take_batches_in_turn_and_rows_keep_their_order(tmp_path: Path) -> None:
    """One session and one thread per GPU."""
    runtime = FakeGpuRuntime()
    group = engine(tmp_path, runtime)
    assert (group.device, group.fallback, group.workers, group.buckets) == ("cuda:0 + cuda:1", "", 2, (1, 2, 4, 8))
    runtime.runs.clear()
    for seed in range(4):
        group.run(pictures(2, seed=seed))
    assert runtime.runs == ["cuda:0", "cuda:1"] * 2
    facts: list[BatchFacts] = []
    async with Batcher(group, on_batch=facts.append) as batcher:
        pixels = pictures(29)
        values = await batcher.infer(pixels, deadline_seconds=FOREVER)
    assert values == pytest.approx(expected(pixels), abs=1e-4)
    assert sum(each.rows for each in facts) == 29
    assert [(each.rows, each.max_rows, each.waiting_rows) for each in facts] == [
        (8, 8, 21), (8, 8, 13), (8, 8, 5), (5, 8, 0),
    ]  # fmt: skip


def test_a_gpu_that_is_absent_is_an_error_when_it_was_asked_for(tmp_path: Path) -> None:
    """`cuda` means all of them."""
    with pytest.raises(ScorerError, match="cuda:7: invalid device ordinal"):
        engine(tmp_path, FakeGpuRuntime(), gpus=(0, 7))


def test_auto_uses_the_gpus_that_are_there(tmp_path: Path) -> None:
    """The provenance says which one is missing; with none left, the CPU scores."""
    some = engine(tmp_path, FakeGpuRuntime(), device="auto", gpus=(0, 7))
    assert (some.device, some.fallback) == ("cuda:0", "cuda:7 cannot be used")
    none = engine(tmp_path, FakeGpuRuntime(present=()), device="auto")
    assert (none.device, none.fallback, none.workers) == ("cpu", "cuda:0, cuda:1 cannot be used", 2)


def test_a_provider_that_fails_to_load_is_tried_on_no_other_device_unless_auto(tmp_path: Path) -> None:
    """An owner who asked for TensorRT does not get CUDA unawares."""
    runtime = FakeGpuRuntime(present=("cuda",))
    with pytest.raises(ScorerError, match="tensorrt"):
        engine(tmp_path, runtime, device="tensorrt", gpus=())
    assert runtime.opened == ["tensorrt"]


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_gpu_that_computes_something_else_does_not_score(tmp_path: Path, device: Device) -> None:
    """Half precision may deviate by the manifest's tolerance; beyond it, the GPU is refused, or left out by `auto`."""
    runtime = FakeGpuRuntime(deviations={"cuda:0": 1e-6, "cuda:1": 0.01})
    if device == "cuda":
        with pytest.raises(ScorerError, match="self-test on cuda:1: golden frame 0 gave"):
            engine(tmp_path, runtime, device=device)
        return
    assert engine(tmp_path, runtime, device=device).device == "cuda:0"
    runtime.deviations["cuda:0"] = float("nan")
    assert engine(tmp_path, runtime, device=device).device == "cpu"


async def test_out_of_memory_halves_the_batch_then_moves_to_the_other_gpu_then_to_the_cpu(tmp_path: Path) -> None:
    """No row is lost or scored twice, and the event says what failed."""
    runtime = FakeGpuRuntime()
    group = engine(tmp_path, runtime)
    runtime.errors["cuda:0"] = [OUT_OF_MEMORY] * 20
    pixels = pictures(40)
    async with Batcher(group) as batcher:
        values = await batcher.infer(pixels, deadline_seconds=FOREVER)
        assert values == pytest.approx(expected(pixels), abs=1e-4)
        left = batcher.engine
        assert left.device == "cuda:1"
        assert left.fallback.startswith("cuda:0 failed: ")
        assert "Failed to allocate memory" in left.fallback
        # a batch may start between an error and the answer to it
        assert 16 <= len(runtime.errors["cuda:0"]) <= 18
        runtime.errors["cuda:1"] = ["CUDA failure 719: unspecified launch failure"]
        values = await batcher.infer(pixels, deadline_seconds=FOREVER)
        assert values == pytest.approx(expected(pixels), abs=1e-4)
        assert batcher.engine.device == "cpu"
        assert "719" in batcher.engine.fallback


async def test_a_gpu_that_ran_out_of_memory_once_stays(tmp_path: Path) -> None:
    """The batch is halved, and the failure of another GPU later does not remove this one."""
    runtime = FakeGpuRuntime()
    group = engine(tmp_path, runtime)
    runtime.errors["cuda:0"] = [OUT_OF_MEMORY]
    async with Batcher(group) as batcher:
        await batcher.infer(pictures(40), deadline_seconds=FOREVER)
        assert batcher.engine is group
        runtime.errors["cuda:1"] = ["CUDA failure 719: unspecified launch failure"]
        await batcher.infer(pictures(40), deadline_seconds=FOREVER)
        assert batcher.engine.device == "cuda:0"


def test_a_gpu_that_still_runs_when_another_leaves_takes_no_second_batch(tmp_path: Path) -> None:
    """Both would write to its buffers. When it fails then, it leaves too, and not the GPU that works."""
    runtime = FakeGpuRuntime(present=("cuda:0", "cuda:1", "cuda:2"))
    group = engine(tmp_path, runtime, gpus=(0, 1, 2))
    lost = "CUDA failure 719: unspecified launch failure"
    runtime.errors = {"cuda:0": [lost], "cuda:1": [lost]}
    with pytest.raises(ScoreError):
        group.run(pictures(1))
    runtime.holds["cuda:1"] = threading.Event()
    runtime.runs.clear()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(group.run, pictures(1))
        while runtime.runs != ["cuda:1"]:
            time.sleep(0.001)
        left = group.fall_back(lost)
        assert left.device == "cuda:1 + cuda:2"
        for _ in range(2):
            left.run(pictures(1))
        assert runtime.runs == ["cuda:1", "cuda:2", "cuda:2"]
        runtime.holds["cuda:1"].set()
        with pytest.raises(ScoreError):
            slow.result()
    last = left.fall_back(lost)
    assert last.device == "cuda:2"
    assert last.fallback == "; ".join(
        f"cuda:{number} failed: scorer_failed: tiny@1 on cuda:{number}: {lost}" for number in (0, 1)
    )
    assert last.fall_back(lost) is last


@pytest.mark.parametrize("deviating", ["cuda:0", "cuda:1"])
async def test_a_scorer_of_several_graphs_passes_its_self_test_on_every_gpu(tmp_path: Path, deviating: str) -> None:
    """`cuda` refuses a GPU that deviates; with `auto` the scorer moves to the CPU whole, and says so."""
    write_levels(tmp_path)
    runtime = FakeGpuRuntime(deviations={deviating: 0.5})
    options = ScorerOptions(placement=Placement(device="cuda", gpus=(0, 1)))
    async with SharedGraphs(runtime=runtime) as graphs:
        with pytest.raises(ScorerError, match=r"self-test|output differs"):
            async with open_scorers(["tiny-levels"], [tmp_path], options, shared_graphs=graphs):
                pass
    options = ScorerOptions(placement=Placement(device="auto", gpus=(0, 1), threads=1))
    async with (
        SharedGraphs(runtime=runtime) as graphs,
        open_scorers(["tiny-levels"], [tmp_path], options, shared_graphs=graphs) as (scorer,),
    ):
        assert scorer.identity.device == "cpu (fallback: the self-test failed on the GPU)"
    runtime.deviations.clear()
    async with (
        SharedGraphs(runtime=runtime) as graphs,
        open_scorers(["tiny-levels"], [tmp_path], options, shared_graphs=graphs) as (scorer,),
    ):
        assert scorer.identity.device == "cuda:0 + cuda:1"
        await asyncio.sleep(0)
