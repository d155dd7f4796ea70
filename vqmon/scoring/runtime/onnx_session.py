"""One ONNX graph in ONNX Runtime, on the CPU or on CUDA."""

import contextlib
import io
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]

from vqmon.errors import ScorerError
from vqmon.scoring.runtime.graph import Array, Device, Graph, Placement, Port, first_line, translate
from vqmon.scoring.runtime.model_file import GraphUnit
from vqmon.telemetry.logs import event

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# HEURISTIC: the default search stalls up to a second per new shape. kSameAsRequested: the default doubles the arena.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
_NO_CUDA = (
    "either the driver or the CUDA libraries of vqmon[gpu] are missing or CUDA lacks an operator of this model; "
    "set device to auto or cpu to go without"
)
HEAVY_NODES = (
    "Attention",
    "Conv",
    "Gemm",
    "LayerNormalization",
    "MatMul",
    "MatMulInteger",
    "MatMulNBits",
    "RMSNormalization",
)
"""Kinds of node that cost time; one of them on the CPU makes a GPU wait for it."""
_SPIN_MICROSECONDS = "1000"
"""How long a pool's threads wait awake for more: the default doubles the CPU's load beside other work."""
_SHAPES_KEPT = 16

log = logging.getLogger(__name__)


class OrtGraph:
    """A loaded graph; `run` may be called by as many threads at once as its placement says on a CPU, by one on CUDA."""

    def __init__(self, unit: GraphUnit, *, name: str, device: str, placement: Placement) -> None:
        self.device, self._name = device, name
        self._session = _start(unit, device, placement)
        unit.check_unchanged()
        self.inputs = _ports(self._session.get_inputs())
        self.outputs = _ports(self._session.get_outputs())
        self._bound = Bound(self._session, device) if device != "cpu" else None
        self._gives_back = False

    def run(self, feed: Mapping[str, Array], output: str) -> Array:
        """One output for named inputs; raises ScoreError."""
        options = ort.RunOptions()
        if self._gives_back:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "gpu:0")
            self._gives_back = False
        try:
            if self._bound is not None:
                return self._bound.run(feed, output, options)
            (values,) = self._session.run([output], dict(feed), options)
        except Exception as error:  # onnxruntime's errors share no base class
            failure = translate(error, self._name, self.device)
            # After a full memory, the next run returns what the arena holds and does not need.
            self._gives_back = failure.reason == "out_of_memory" and self.device == "cuda"
            raise failure from error
        found: Array = np.asarray(values)
        return found


class Bound:
    """Runs with inputs that keep their place in the device's memory: nothing is allocated for a shape seen before."""

    def __init__(self, session: ort.InferenceSession, device: str) -> None:
        self._session, self._device = session, device
        self._places: OrderedDict[tuple[str, tuple[int, ...], str], Any] = OrderedDict()

    def run(self, feed: Mapping[str, Array], output: str, options: ort.RunOptions) -> Array:
        """As `OrtGraph.run`, by one thread at a time; raises what onnxruntime raises."""
        binding = self._session.io_binding()
        for name, array in feed.items():
            binding.bind_ortvalue_input(name, self._place(name, np.ascontiguousarray(array)))
        binding.bind_output(output, "cpu")
        self._session.run_with_iobinding(binding, options)
        values: Array = binding.copy_outputs_to_cpu()[0]
        return values

    def _place(self, name: str, array: Array) -> Any:
        key = (name, array.shape, array.dtype.str)
        place = self._places.get(key)
        if place is None:
            # A copy: on a CPU the value would otherwise be the caller's array itself.
            place = self._places[key] = ort.OrtValue.ortvalue_from_numpy(array.copy(), self._device, 0)
            if len(self._places) > _SHAPES_KEPT:
                self._places.popitem(last=False)
        else:
            place.update_inplace(array)
            self._places.move_to_end(key)
        return place


def open_graph(unit: GraphUnit, *, name: str, placement: Placement) -> tuple[Graph, str]:
    """Load a graph where its placement says; gives it, and why this is not the device asked for ("" when it is).

    Raises ScorerError: what, where, remedy.
    """
    device = placement.device
    if device == "openvino":
        from vqmon.scoring.runtime.openvino_session import OpenVinoGraph

        return OpenVinoGraph(unit, name=name, placement=placement), ""
    if device == "cpu" or (device == "auto" and _PROVIDERS["cuda"] not in ort.get_available_providers()):
        return OrtGraph(unit, name=name, device="cpu", placement=placement), ""
    try:
        return OrtGraph(unit, name=name, device="cuda", placement=placement), ""
    except ScorerError as error:
        if device == "cuda":
            raise
        log.warning(**event("scorer.fell_back", scorer=name, device="cpu", why=str(error)))
        return OrtGraph(unit, name=name, device="cpu", placement=placement), "CUDA cannot be used"


def open_spare(unit: GraphUnit, *, name: str, placement: Placement, why: str) -> Graph:
    """The same graph on the CPU after its device failed; raises ScorerError when it cannot run there either."""
    graph = OrtGraph(unit, name=name, device="cpu", placement=replace(placement, device="cpu"))
    log.warning(**event("scorer.fell_back", scorer=name, device="cpu", why=why))
    return graph


def _start(unit: GraphUnit, device: str, placement: Placement) -> ort.InferenceSession:
    provider = _PROVIDERS[device]
    if provider not in ort.get_available_providers():
        remedy = "install vqmon[gpu], or set device to auto or cpu"
        raise ScorerError(f"{unit.where}: this onnxruntime cannot use CUDA; {remedy}")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, and said once
    options.inter_op_num_threads = 1
    # One thread has no pool, so none spins between runs; `workers` is where more cores come in.
    options.intra_op_num_threads = placement.cores_per_run if device == "cpu" else 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
    providers: list[str | tuple[str, dict[str, str]]] = [provider]
    if device == "cuda":
        _preload_cuda()
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        limit = {"gpu_mem_limit": str(placement.memory_bytes)} if placement.memory_bytes else {}
        providers = [(provider, {**_CUDA_OPTIONS, **limit})]
    _hand_over_data(unit, options)
    try:
        session = ort.InferenceSession(unit.model, options, providers=providers, enable_fallback=0)
    except Exception as error:
        hint = _NO_CUDA if device == "cuda" else "export it again"
        raise ScorerError(f"{unit.where}: cannot be loaded on {provider}: {first_line(error)}; {hint}") from error
    # Asking for CUDA where it cannot start may give a CPU session without an error.
    if provider not in session.get_providers():
        raise ScorerError(f"{unit.where}: CUDA cannot start; {_NO_CUDA}")
    if device == "cuda" and (away := misplaced(session, provider)):
        raise ScorerError(
            f"{unit.where}: CUDA lacks {', '.join(away)} of this model; export it anew, or set device to cpu"
        )
    return session


def misplaced(session: ort.InferenceSession, provider: str) -> list[str]:
    """Kinds of heavy nodes that are not on a provider; arithmetic on shapes is better off on the CPU.

    The session must have been opened to record where its nodes are.
    """
    return sorted(
        {
            node.op_type
            for part in session.get_provider_graph_assignment_info()
            for node in part.get_nodes()
            if part.ep_name != provider and node.op_type in HEAVY_NODES
        }
    )


def _hand_over_data(unit: GraphUnit, options: ort.SessionOptions) -> None:
    if unit.data is not None:
        options.add_external_initializers_from_files_in_memory([unit.data_name], [unit.data], [len(unit.data)])
    elif unit.data_name:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(unit.folder))


def runtime_versions(device: Device = "auto") -> dict[str, str]:
    """Library name -> version of what computes scores."""
    versions = {"onnxruntime": str(ort.__version__), "numpy": np.__version__}
    if device == "openvino":
        from vqmon.scoring.runtime.openvino_session import openvino_version

        versions["openvino"] = openvino_version()
    return versions


def _preload_cuda() -> None:
    # Looks in the nvidia-* packages first; says on stdout what it misses, which the probe then says better.
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls(directory="")


_DTYPES = {"float": "float32", "double": "float64"}


def _ports(nodes: Sequence[Any]) -> tuple[Port, ...]:
    return tuple(
        Port(
            name=node.name, dtype=_dtype(node.type), shape=tuple(s if isinstance(s, int) else None for s in node.shape)
        )
        for node in nodes
    )


def _dtype(kind: str) -> str:
    inner = kind.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(inner, inner)
