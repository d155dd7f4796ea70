"""How busy the GPUs are and how much of their memory is used, read from NVIDIA's NVML."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from vqmon.telemetry.metrics import Meters

_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLoad:
    """The load of one GPU or MIG slice; memory in bytes, of all processes on it."""

    # as `scoring.devices` names it
    gpu: str
    model: str
    used_bytes: int
    total_bytes: int
    # share of the last sample period in which a kernel ran, 0..1; None for a MIG slice, of which NVML does not know it
    busy: float | None


class GpuReader:
    """Reads the load of GPUs by the names that CUDA knows them by."""

    def __init__(self, library: Any, names: Sequence[str]) -> None:
        self._library = library
        self._handles = {name: self._handle(name) for name in names}

    @classmethod
    def open(cls, devices: Sequence[str], environment: Mapping[str, str]) -> Self | str:
        """The reader for `scoring.devices`, or why there is none: the package, the driver or a GPU is missing."""
        try:
            import pynvml
        except ImportError:
            return "nvidia-ml-py is not installed; it comes with vqmon[gpu]"
        try:
            pynvml.nvmlInit()
            return cls(pynvml, physical_names(devices, environment))
        except pynvml.NVMLError as error:
            return str(error)

    def read(self) -> list[GpuLoad]:
        """The load of each GPU now; those that do not answer are left out."""
        loads = []
        for name, handle in self._handles.items():
            try:
                memory = self._library.nvmlDeviceGetMemoryInfo(handle)
                model = self._library.nvmlDeviceGetName(handle)
            except self._library.NVMLError:
                continue
            loads.append(
                GpuLoad(
                    gpu=name,
                    model=str(model),
                    used_bytes=memory.used,
                    total_bytes=memory.total,
                    busy=self._busy(handle),
                )
            )
        return loads

    def _busy(self, handle: Any) -> float | None:
        try:
            return float(self._library.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
        except self._library.NVMLError:
            return None

    def _handle(self, name: str) -> Any:
        if name.isdecimal():
            return self._library.nvmlDeviceGetHandleByIndex(int(name))
        return self._library.nvmlDeviceGetHandleByUUID(name)


def physical_names(devices: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """The names that hold for the whole host: numbers of `devices` count within the visible GPUs, where these are set.

    >>> physical_names(("1",), {"CUDA_VISIBLE_DEVICES": "4,GPU-5c89852c"}), physical_names((), {})
    (('GPU-5c89852c',), ('0',))
    """
    visible = [name.strip() for name in environment.get(_VISIBLE_DEVICES, "").split(",") if name.strip()]
    names = []
    for device in devices or ("0",):
        is_counted = device.isdecimal() and int(device) < len(visible)
        names.append(visible[int(device)] if is_counted else device)
    return tuple(names)


def supply_gpu_metrics(meters: Meters, reader: GpuReader) -> None:
    """Read the GPUs whenever the metrics are collected."""

    def busy() -> Iterator[tuple[float, Mapping[str, str]]]:
        for load in reader.read():
            if load.busy is not None:
                yield load.busy, {"gpu": load.gpu}

    meters.supply("vqmon.gpu.busy", busy)
    meters.supply("vqmon.gpu.memory.used", lambda: [(load.used_bytes, {"gpu": load.gpu}) for load in reader.read()])
    meters.supply("vqmon.gpu.memory.size", lambda: [(load.total_bytes, {"gpu": load.gpu}) for load in reader.read()])
