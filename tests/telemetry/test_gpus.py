"""The load of GPUs, read from a library with the functions of NVML, and from NVML itself where it is installed."""

from types import SimpleNamespace

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from vqmon.telemetry.gpus import GpuReader, physical_names, supply_gpu_metrics
from vqmon.telemetry.metrics import Meters

GIB = 2**30


class FakeNvml:
    """Two GPUs by number and one MIG slice by UUID; a GPU that was lost answers with an error."""

    class NVMLError(Exception):
        """As the library's own."""

    def __init__(self) -> None:
        self.lost: set[str] = set()

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index > 1:
            raise self.NVMLError("Invalid Argument")
        return f"gpu {index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetName(self, handle: str) -> str:
        return "NVIDIA H200"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        if handle in self.lost:
            raise self.NVMLError("GPU is lost")
        return SimpleNamespace(used=3 * GIB, total=139 * GIB)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        if handle.startswith("MIG-"):
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(gpu=87)


def test_gpus_are_read_when_metrics_are_collected() -> None:
    """A MIG slice has memory alone, and a GPU that is lost has nothing."""
    library, metrics = FakeNvml(), InMemoryMetricReader()
    supply_gpu_metrics(Meters(metrics), GpuReader(library, ["0", "1", "MIG-3c5a"]))

    def series() -> dict[tuple[str, str], float]:
        return {
            (metric.name.removeprefix("vqmon.gpu."), point.attributes["gpu"]): point.value
            for resource in metrics.get_metrics_data().resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if metric.name.startswith("vqmon.gpu.")
        }

    first = series()
    assert {gpu: value for (name, gpu), value in first.items() if name == "busy"} == {"0": 0.87, "1": 0.87}
    assert first["memory.used", "MIG-3c5a"] == 3 * GIB
    assert first["memory.size", "0"] == 139 * GIB
    library.lost.add("gpu 0")
    assert {gpu for _, gpu in series()} == {"1", "MIG-3c5a"}


def test_numbers_count_within_the_visible_gpus() -> None:
    """NVML counts all of the host; a container sees those that it was given."""
    visible = {"CUDA_VISIBLE_DEVICES": "GPU-a, 3"}
    assert physical_names(["1", "0"], visible) == ("3", "GPU-a")
    assert physical_names([], visible) == ("GPU-a",)
    assert physical_names(["1"], {}) == ("1",)


def test_a_gpu_that_the_host_does_not_have_cannot_be_read() -> None:
    """The daemon runs without its metrics."""
    with pytest.raises(FakeNvml.NVMLError):
        GpuReader(FakeNvml(), ["7"])


def test_without_the_package_or_the_driver_there_is_a_reason() -> None:
    """Where there is neither; on a GPU host there is a reader."""
    reader = GpuReader.open((), {})
    assert isinstance(reader, GpuReader) or reader
