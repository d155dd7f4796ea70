"""One ONNX graph in an ONNX Runtime session, with the CPU or the CUDA execution provider."""

import contextlib
import io
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]

from vqmon.errors import MEMORY_REMEDY, ScorerError
from vqmon.scoring.runtime.graph import (
    Array,
    Device,
    Placement,
    Port,
    Session,
    first_line,
    is_out_of_memory,
    to_score_error,
)
from vqmon.scoring.runtime.verified_model import VerifiedModel
from vqmon.telemetry.logs import log_event

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# HEURISTIC: the default search stalls up to a second per new shape. kSameAsRequested: the default doubles the arena.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
_NO_CUDA = (
    "either the driver or the CUDA libraries of vqmon[gpu] are missing, or CUDA lacks an operator of this model; "
    "set scoring.device to auto or cpu to run without CUDA"
)
_HEAVY_OPERATORS = (
    "Attention",
    "Conv",
    "Gemm",
    "LayerNormalization",
    "MatMul",
    "MatMulInteger",
    "MatMulNBits",
    "RMSNormalization",
)
"""Operators that dominate the cost: a single one assigned to the CPU makes the GPU wait for it."""
_SPIN_MICROSECONDS = "1000"
"""How long idle pool threads busy-wait for work: the default doubles the CPU load beside other work."""
_MAX_BOUND_SHAPES = 16

_log = logging.getLogger(__name__)


class _OrtSession:
    """A loaded graph. `run` may be called by `Placement.workers` threads at once on a CPU, by one thread on CUDA."""

    def __init__(self, model: VerifiedModel, *, name: str, device: str, placement: Placement) -> None:
        self.device, self._name = device, name
        self._session = _create_session(model, device, placement)
        model.check_unchanged()
        self.inputs = _ports(self._session.get_inputs())
        self.outputs = _ports(self._session.get_outputs())
        self._binding = IoBinding(self._session, device) if device != "cpu" else None
        self._shrinks_arena = False

    def run(self, feed: Mapping[str, Array], output: str) -> Array:
        """Compute one output from the inputs by name; raises ScoreError."""
        options = ort.RunOptions()
        if self._shrinks_arena:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "gpu:0")
            self._shrinks_arena = False
        try:
            if self._binding is not None:
                return self._binding.run(feed, output, options)
            (values,) = self._session.run([output], dict(feed), options)
        except Exception as error:  # onnxruntime's errors share no base class
            failure = to_score_error(error, self._name, self.device)
            # After an out-of-memory error, the next run returns the arena's unused memory to the device.
            self._shrinks_arena = failure.reason == "out_of_memory" and self.device == "cuda"
            raise failure from error
        result: Array = np.asarray(values)
        return result


class IoBinding:
    """Runs a session with inputs bound to device memory, which is allocated once per input shape and reused."""

    def __init__(self, session: ort.InferenceSession, device: str) -> None:
        self._session, self._device = session, device
        self._device_values: OrderedDict[tuple[str, tuple[int, ...], str], Any] = OrderedDict()

    def run(self, feed: Mapping[str, Array], output: str, options: ort.RunOptions) -> Array:
        """Compute one output from the inputs by name, for one thread at a time; raises what onnxruntime raises."""
        binding = self._session.io_binding()
        for name, array in feed.items():
            binding.bind_ortvalue_input(name, self._copy_to_device(name, np.ascontiguousarray(array)))
        binding.bind_output(output, "cpu")
        self._session.run_with_iobinding(binding, options)
        values: Array = binding.copy_outputs_to_cpu()[0]
        return values

    def _copy_to_device(self, name: str, array: Array) -> Any:
        key = (name, array.shape, array.dtype.str)
        device_value = self._device_values.get(key)
        if device_value is None:
            # A copy: on a CPU the value would otherwise share the caller's memory.
            device_value = ort.OrtValue.ortvalue_from_numpy(array.copy(), self._device, 0)
            self._device_values[key] = device_value
            if len(self._device_values) > _MAX_BOUND_SHAPES:
                self._device_values.popitem(last=False)
        else:
            device_value.update_inplace(array)
            self._device_values.move_to_end(key)
        return device_value


def open_session(model: VerifiedModel, *, name: str, placement: Placement) -> tuple[Session, str]:
    """Open a session on the device of a placement, and say why it is on another device ("" when it is not).

    Raises ScorerError with the file, the problem and the remedy.
    """
    device = placement.device
    if device == "openvino":
        from vqmon.scoring.runtime.openvino_session import OpenVinoSession

        return OpenVinoSession(model, name=name, placement=placement), ""
    if device == "cpu" or (device == "auto" and _PROVIDERS["cuda"] not in ort.get_available_providers()):
        return _OrtSession(model, name=name, device="cpu", placement=placement), ""
    try:
        return _OrtSession(model, name=name, device="cuda", placement=placement), ""
    except ScorerError as error:
        if device == "cuda":
            raise
        _log.warning(**log_event("scorer.fell_back", scorer=name, device="cpu", why=str(error)))
        return _OrtSession(model, name=name, device="cpu", placement=placement), "CUDA cannot be used"


def open_cpu_fallback(model: VerifiedModel, *, name: str, placement: Placement, reason: str) -> Session:
    """Open the graph on the CPU after its device failed; raises ScorerError when it cannot run there either."""
    session = _OrtSession(model, name=name, device="cpu", placement=replace(placement, device="cpu"))
    _log.warning(**log_event("scorer.fell_back", scorer=name, device="cpu", why=reason))
    return session


def _create_session(model: VerifiedModel, device: str, placement: Placement) -> ort.InferenceSession:
    provider = _PROVIDERS[device]
    if provider not in ort.get_available_providers():
        remedy = "install vqmon[gpu], or set scoring.device to auto or cpu"
        raise ScorerError(f"{model.where}: the installed onnxruntime cannot use CUDA; {remedy}")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # problems are raised as errors, and reported once
    options.inter_op_num_threads = 1
    # A single thread has no pool, so none spins between runs; `Placement.workers` runs use the other cores.
    options.intra_op_num_threads = placement.cores_per_run if device == "cpu" else 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
    providers: list[str | tuple[str, dict[str, str]]] = [provider]
    if device == "cuda":
        _preload_cuda()
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        limit = {"gpu_mem_limit": str(placement.memory_bytes)} if placement.memory_bytes else {}
        providers = [(provider, {**_CUDA_OPTIONS, **limit})]
    _add_external_data(model, options)
    try:
        session = ort.InferenceSession(model.graph_bytes, options, providers=providers, enable_fallback=0)
    except Exception as error:
        hint = _NO_CUDA if device == "cuda" else "export it again"
        if device == "cpu" and is_out_of_memory(error):
            hint = f"there is too little memory: {MEMORY_REMEDY}"
        raise ScorerError(f"{model.where}: cannot be loaded on {provider}: {first_line(error)}; {hint}") from error
    # Where CUDA cannot start, onnxruntime may open a CPU session without an error.
    if provider not in session.get_providers():
        raise ScorerError(f"{model.where}: CUDA cannot start; {_NO_CUDA}")
    if device == "cuda" and (operators := heavy_operators_off_provider(session, provider)):
        raise ScorerError(
            f"{model.where}: CUDA lacks {', '.join(operators)} of this model; export it again, "
            "or set scoring.device to cpu"
        )
    return session


def heavy_operators_off_provider(session: ort.InferenceSession, provider: str) -> list[str]:
    """The costly operators that are not assigned to an execution provider; shape arithmetic may run on the CPU.

    The session must have been created with `session.record_ep_graph_assignment_info`.
    """
    return sorted(
        {
            node.op_type
            for subgraph in session.get_provider_graph_assignment_info()
            for node in subgraph.get_nodes()
            if subgraph.ep_name != provider and node.op_type in _HEAVY_OPERATORS
        }
    )


def _add_external_data(model: VerifiedModel, options: ort.SessionOptions) -> None:
    if model.data is not None:
        options.add_external_initializers_from_files_in_memory([model.data_name], [model.data], [len(model.data)])
    elif model.data_name:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(model.folder))


def runtime_versions(device: Device = "auto") -> dict[str, str]:
    """Name -> version of the libraries that compute scores on a device."""
    versions = {"onnxruntime": str(ort.__version__), "numpy": np.__version__}
    if device == "openvino":
        from vqmon.scoring.runtime.openvino_session import openvino_version

        versions["openvino"] = openvino_version()
    return versions


def _preload_cuda() -> None:
    # Looks in the nvidia-* packages first. It prints missing libraries to stdout; the session's own error says more.
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls(directory="")


_DTYPES = {"float": "float32", "double": "float64"}


def _ports(nodes: Sequence[Any]) -> tuple[Port, ...]:
    return tuple(
        Port(
            name=node.name,
            dtype=_dtype(node.type),
            shape=tuple(size if isinstance(size, int) else None for size in node.shape),
        )
        for node in nodes
    )


def _dtype(onnx_type: str) -> str:
    element_type = onnx_type.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(element_type, element_type)
