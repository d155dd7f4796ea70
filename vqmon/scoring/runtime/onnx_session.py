"""One ONNX graph in an ONNX Runtime session, with the execution provider of the CPU, of CUDA or of TensorRT."""

import contextlib
import io
import stat
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]

from vqmon.errors import MEMORY_REMEDY, ScorerError
from vqmon.scoring.runtime.graph import (
    Array,
    Device,
    InputShapes,
    Placement,
    Port,
    Runtime,
    Session,
    first_line,
    gpu_index,
    is_gpu,
    is_out_of_memory,
    to_score_error,
)
from vqmon.scoring.runtime.verified_model import VerifiedModel

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
# HEURISTIC: the default search stalls up to a second per new shape. kSameAsRequested: the default doubles the arena.
# use_tf32 is on by default, and rounds the factors of float32 graphs to 10 bits: more than their self-tests allow.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}
_NO_GPU = (
    "the driver, the libraries of vqmon[gpu] (and TensorRT's for tensorrt) or this GPU are missing, or an operator of "
    "this model is; set scoring.device, of heavy scorers scoring.heavy_device, to auto or cpu to run without it, and "
    "see scoring.devices"
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
_NO_CUDA_GRAPH = "-1"
_TENSORRT_PRECISIONS = {
    "float32": {},
    "float16": {"trt_fp16_enable": "1"},
    "bfloat16": {"trt_bf16_enable": "1"},
}
_TENSORRT_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
_NVIDIA_FACTS = Path("/proc/driver/nvidia")


class _OrtSession:
    """A loaded graph. `run` may be called by `Placement.workers` threads at once on a CPU, by one thread on a GPU."""

    def __init__(
        self, model: VerifiedModel, *, name: str, device: str, placement: Placement, shapes: tuple[InputShapes, ...]
    ) -> None:
        self.device, self._name = device, name
        self._session = _create_session(model, device, placement, shapes)
        model.check_unchanged()
        self.inputs = _ports(self._session.get_inputs())
        self.outputs = _ports(self._session.get_outputs())
        self._binding: IoBinding | None = None
        if is_gpu(device):
            uses_graphs = placement.cuda_graphs and all(shape.is_fixed for shape in shapes)
            self._binding = IoBinding(self._session, "cuda", index=gpu_index(device), cuda_graphs=uses_graphs)
        self._shrinks_arena = False

    def run(self, feed: Mapping[str, Array], output: str) -> Array:
        """Compute one output from the inputs by name; raises ScoreError."""
        options = ort.RunOptions()
        if self._shrinks_arena:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", f"gpu:{gpu_index(self.device)}")
            self._shrinks_arena = False
        try:
            if self._binding is not None:
                return self._binding.run(feed, output, options)
            (values,) = self._session.run([output], dict(feed), options)
        except Exception as error:  # onnxruntime's errors share no base class
            failure = to_score_error(error, self._name, self.device)
            # After an out-of-memory error, the next run returns the arena's unused memory to the device.
            self._shrinks_arena = failure.reason == "out_of_memory" and is_gpu(self.device)
            raise failure from error
        result: Array = np.asarray(values)
        return result


@dataclass(slots=True, kw_only=True)
class _Buffers:
    """What is allocated for one set of input shapes: the inputs on the device, and the output in a CUDA graph."""

    inputs: dict[str, Any]
    # of the CUDA graph
    number: int
    output: Any = None


class IoBinding:
    """Runs a session with buffers on its device, which are allocated once per set of input shapes and reused.

    With `cuda_graphs` the output has a buffer too, so that no address changes: the first run finds its shape, the
    second is captured, and all others are replayed. More sets of shapes than are remembered run without a graph. One
    thread may run at a time.
    """

    def __init__(
        self, session: ort.InferenceSession, device: str, *, index: int = 0, cuda_graphs: bool = False
    ) -> None:
        self._session, self._device, self._index, self._cuda_graphs = session, device, index, cuda_graphs
        self._buffers: OrderedDict[tuple[tuple[str, tuple[int, ...], str], ...], _Buffers] = OrderedDict()
        self._numbers = 0

    def run(self, feed: Mapping[str, Array], output: str, options: ort.RunOptions) -> Array:
        """Compute one output from the inputs by name, for one thread at a time; raises what onnxruntime raises."""
        arrays = {name: np.ascontiguousarray(array) for name, array in feed.items()}
        buffers = self._copy_to_device(arrays)
        binding = self._session.io_binding()
        for name, value in buffers.inputs.items():
            binding.bind_ortvalue_input(name, value)
        # a graph is bound to its addresses: those of evicted buffers must never be replayed
        if not self._cuda_graphs or buffers.number > _MAX_BOUND_SHAPES:
            self._skip_graph(options)
            binding.bind_output(output, "cpu")
            self._session.run_with_iobinding(binding, options)
            values: Array = binding.copy_outputs_to_cpu()[0]
            return values
        if buffers.output is None:
            self._skip_graph(options)
            binding.bind_output(output, self._device, self._index)
            self._session.run_with_iobinding(binding, options)
            (buffers.output,) = binding.get_outputs()
            return self._copy_output(buffers)
        options.add_run_config_entry("gpu_graph_id", str(buffers.number))
        binding.bind_ortvalue_output(output, buffers.output)
        self._session.run_with_iobinding(binding, options)
        return self._copy_output(buffers)

    def _copy_output(self, buffers: _Buffers) -> Array:
        # a copy of its own: where the device is a CPU, the array shares the buffer that the next run overwrites
        values: Array = buffers.output.numpy().copy()
        return values

    def _skip_graph(self, options: ort.RunOptions) -> None:
        if self._cuda_graphs:
            options.add_run_config_entry("gpu_graph_id", _NO_CUDA_GRAPH)

    def _copy_to_device(self, arrays: Mapping[str, Array]) -> _Buffers:
        key = tuple((name, array.shape, array.dtype.str) for name, array in arrays.items())
        buffers = self._buffers.get(key)
        if buffers is not None:
            for name, array in arrays.items():
                buffers.inputs[name].update_inplace(array)
            # buffers that a graph is bound to keep their place
            if not self._cuda_graphs:
                self._buffers.move_to_end(key)
            return buffers
        self._numbers += 1
        inputs = {
            # A copy: on a CPU the value would otherwise share the caller's memory.
            name: ort.OrtValue.ortvalue_from_numpy(array.copy(), self._device, self._index)
            for name, array in arrays.items()
        }
        buffers = _Buffers(inputs=inputs, number=self._numbers)
        if not self._cuda_graphs or self._numbers <= _MAX_BOUND_SHAPES:
            self._buffers[key] = buffers
        if len(self._buffers) > _MAX_BOUND_SHAPES:
            self._buffers.popitem(last=False)
        return buffers


class _OnnxRuntime:
    """The sessions of ONNX Runtime, and of OpenVINO where that is asked for."""

    def has_gpu_provider(self) -> bool:
        """Whether the installed package was built for CUDA; a GPU may be missing all the same."""
        return _PROVIDERS["cuda"] in ort.get_available_providers()

    def open(
        self, model: VerifiedModel, *, name: str, device: str, placement: Placement, shapes: tuple[InputShapes, ...]
    ) -> Session:
        """Open a session on one device; raises ScorerError with the file, the problem and the remedy."""
        if device == "openvino":
            from vqmon.scoring.runtime.openvino_session import OpenVinoSession

            return OpenVinoSession(model, name=name, placement=placement)
        return _OrtSession(model, name=name, device=device, placement=placement, shapes=shapes)


ONNX_RUNTIME: Runtime = _OnnxRuntime()


def _create_session(
    model: VerifiedModel, device: str, placement: Placement, shapes: tuple[InputShapes, ...]
) -> ort.InferenceSession:
    kind = device.partition(":")[0]
    provider = _PROVIDERS[kind]
    if provider not in ort.get_available_providers():
        remedy = "install vqmon[gpu], or set scoring.device (of heavy scorers scoring.heavy_device) to auto or cpu"
        raise ScorerError(f"{model.where}: the installed onnxruntime cannot use {_TITLES[kind]}; {remedy}")
    if kind == "tensorrt" and model.data_name:
        raise ScorerError(
            f"{model.where}: TensorRT cannot load a verified graph with weights in another file; use cuda"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 4  # problems are raised as errors, and reported once
    options.inter_op_num_threads = 1
    # A single thread has no pool, so none spins between runs; `Placement.workers` runs use the other cores.
    options.intra_op_num_threads = placement.cores_per_run if kind == "cpu" else 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
    providers = gpu_providers(model.sha256, device, placement, shapes) if is_gpu(device) else [provider]
    if is_gpu(device):
        _preload_cuda()
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    _add_external_data(model, options)
    try:
        session = ort.InferenceSession(model.graph_bytes, options, providers=providers, enable_fallback=0)
    except Exception as error:
        hint = _NO_GPU if is_gpu(device) else "export it again"
        if kind == "cpu" and is_out_of_memory(error):
            hint = f"there is too little memory: {MEMORY_REMEDY}"
        raise ScorerError(f"{model.where}: cannot be loaded on {device}: {first_line(error)}; {hint}") from error
    # Where CUDA cannot start, onnxruntime may open a CPU session without an error.
    if provider not in session.get_providers():
        raise ScorerError(f"{model.where}: {_TITLES[kind]} cannot start on {device}; {_NO_GPU}")
    if is_gpu(device) and (operators := heavy_operators_off_gpu(session)):
        raise ScorerError(
            f"{model.where}: {_TITLES[kind]} lacks {', '.join(operators)} of this model; export it again, "
            "or set scoring.device (of heavy scorers scoring.heavy_device) to cpu"
        )
    return session


_TITLES = {"cpu": "the CPU", "cuda": "CUDA", "tensorrt": "TensorRT"}


def gpu_providers(
    model_sha256: str, device: str, placement: Placement, shapes: tuple[InputShapes, ...]
) -> list[str | tuple[str, dict[str, str]]]:
    """The execution providers of a session on a GPU, with their options; raises ScorerError for a cache at risk.

    Option names: https://onnxruntime.ai/docs/execution-providers/ (CUDA and TensorRT), ONNX Runtime 1.31.
    """
    cuda = {"device_id": str(gpu_index(device)), **_CUDA_OPTIONS}
    if placement.memory_bytes:
        cuda["gpu_mem_limit"] = str(placement.memory_bytes)
    with_graphs = placement.cuda_graphs and all(shape.is_fixed for shape in shapes)
    if device.startswith("cuda"):
        return [(_PROVIDERS["cuda"], cuda | ({"enable_cuda_graph": "1"} if with_graphs else {}))]
    tensorrt = _tensorrt_options(model_sha256, placement, shapes)
    if with_graphs:
        tensorrt["trt_cuda_graph_enable"] = "1"
    # what TensorRT lacks is computed by CUDA
    return [(_PROVIDERS["tensorrt"], {"device_id": cuda["device_id"], **tensorrt}), (_PROVIDERS["cuda"], cuda)]


def _tensorrt_options(model_sha256: str, placement: Placement, shapes: tuple[InputShapes, ...]) -> dict[str, str]:
    options = dict(_TENSORRT_PRECISIONS[placement.precision])
    if placement.memory_bytes:
        options["trt_max_workspace_size"] = str(placement.memory_bytes)
    if all(shape.is_fixed for shape in shapes):
        # one engine for all sizes of the batch; without a profile, every new size builds another one
        options["trt_profile_min_shapes"] = ",".join(f"{each.name}:{_sizes(each.smallest)}" for each in shapes)
        for profile in ("trt_profile_opt_shapes", "trt_profile_max_shapes"):
            options[profile] = ",".join(f"{each.name}:{_sizes(each.largest)}" for each in shapes)
    if placement.engine_cache is not None:
        folder = str(engine_folder(placement.engine_cache, model_sha256, placement.precision))
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": folder}
        options |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": folder}
    return options


def engine_folder(cache: Path, model_sha256: str, precision: str, *, nvidia_facts: Path = _NVIDIA_FACTS) -> Path:
    """The folder for the TensorRT engines of one graph, made where it is missing; raises ScorerError.

    An engine is code for one GPU and one version of TensorRT, so the folder is named after the graph, the precision,
    and a digest of the versions and GPUs of this host: after an upgrade, engines are built anew.
    """
    facts = "\n".join((str(ort.__version__), _tensorrt_version(), *_host_gpus(nvidia_facts)))
    folder = cache / f"{model_sha256[:16]}-{precision}-{sha256(facts.encode()).hexdigest()[:12]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in (cache, folder):
            if each.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ScorerError(
                    f"scoring.engine_cache: users other than its owner may write {each}, and engines are code; "
                    f"run chmod go-w {each}"
                )
    except OSError as error:
        raise ScorerError(f"scoring.engine_cache: {folder}: {error.strerror}; set another folder") from error
    return folder


def _sizes(shape: tuple[int | None, ...]) -> str:
    return "x".join(map(str, shape))


def _tensorrt_version() -> str:
    for package in _TENSORRT_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            return version(package)
    return "tensorrt of the system"


def _host_gpus(nvidia_facts: Path) -> list[str]:
    """The version of the driver and the models of the GPUs of this host, as the driver tells them."""
    facts = []
    with contextlib.suppress(OSError):
        facts = [(nvidia_facts / "version").read_text().splitlines()[0]]
        for information in sorted((nvidia_facts / "gpus").glob("*/information")):
            facts += [line for line in information.read_text().splitlines() if line.startswith("Model:")]
    return facts


def heavy_operators_off_gpu(session: ort.InferenceSession, *, cpu: str = _PROVIDERS["cpu"]) -> list[str]:
    """The costly operators that are assigned to the CPU's execution provider, where shape arithmetic may run.

    The session must have been created with `session.record_ep_graph_assignment_info`.
    """
    return sorted(
        {
            node.op_type
            for subgraph in session.get_provider_graph_assignment_info()
            for node in subgraph.get_nodes()
            if subgraph.ep_name == cpu and node.op_type in _HEAVY_OPERATORS
        }
    )


def _add_external_data(model: VerifiedModel, options: ort.SessionOptions) -> None:
    if model.data is not None:
        options.add_external_initializers_from_files_in_memory([model.data_name], [model.data], [len(model.data)])
    elif model.data_name:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(model.folder))


def runtime_versions(devices: Sequence[Device] = ("auto",)) -> dict[str, str]:
    """Name -> version of the libraries that compute scores on these devices."""
    versions = {"onnxruntime": str(ort.__version__), "numpy": np.__version__}
    if "openvino" in devices:
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
