"""One ONNX graph in OpenVINO, for hosts without a GPU; the only module that imports openvino."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from vqmon.errors import ScorerError, install_extra
from vqmon.scoring.runtime.graph import Array, Placement, Port, first_line, to_score_error
from vqmon.scoring.runtime.verified_model import VerifiedModel

_DTYPES = {"f32": "float32", "f16": "float16", "f64": "float64", "u8": "uint8", "i64": "int64", "i32": "int32"}


class OpenVinoSession:
    """A loaded graph. `run` may be called concurrently: each thread has its own infer request.

    It computes in float32: where a CPU offers bfloat16, OpenVINO's default would change scores by more than the
    self-tests allow.
    """

    device = "openvino"

    def __init__(self, model: VerifiedModel, *, name: str, placement: Placement) -> None:
        self._name = name
        self._compiled_model = _compile(model, placement)
        self.inputs = tuple(_port(port) for port in self._compiled_model.inputs)
        self.outputs = tuple(_port(port) for port in self._compiled_model.outputs)
        self._thread_local = threading.local()

    def run(self, feed: Mapping[str, Array], output: str) -> Array:
        """Compute one output from the inputs by name; raises ScoreError."""
        try:
            if not hasattr(self._thread_local, "request"):
                self._thread_local.request = self._compiled_model.create_infer_request()
            request = self._thread_local.request
            request.infer({name: np.ascontiguousarray(array) for name, array in feed.items()})
            # A copy: the request writes its next output into the same memory.
            values: Array = np.array(request.get_tensor(output).data)
        except Exception as error:  # openvino's errors are plain RuntimeErrors
            raise to_score_error(error, self._name, self.device) from error
        return values


def openvino_version() -> str:
    """The version of the package; raises ScorerError when it is not installed."""
    return str(_import_openvino("").__version__)


def _compile(model: VerifiedModel, placement: Placement) -> Any:
    openvino = _import_openvino(model.where)
    remedy = "use device cpu for this scorer"
    if model.data_name:
        raise ScorerError(
            f"{model.where}: OpenVINO cannot load a verified graph with weights in another file; {remedy}"
        )
    core = openvino.Core()
    try:
        return core.compile_model(
            core.read_model(model=model.graph_bytes),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "NUM_STREAMS": str(placement.workers),
                "INFERENCE_NUM_THREADS": placement.workers * placement.cores_per_run,
                "ENABLE_CPU_PINNING": False,
            },
        )
    except RuntimeError as error:
        raise ScorerError(f"{model.where}: cannot be loaded by OpenVINO: {first_line(error)}; {remedy}") from error


def _import_openvino(where: str) -> Any:
    try:
        import openvino
    except ImportError as error:
        remedy = f"{install_extra('openvino')}, or set scoring.device (of heavy scorers scoring.heavy_device) to cpu"
        raise ScorerError(f"{where or 'scoring'}: OpenVINO is not installed; {remedy}") from error
    return openvino


def _port(port: Any) -> Port:
    element_type = port.get_element_type().get_type_name()
    shape = tuple(size.get_length() if size.is_static else None for size in port.get_partial_shape())
    return Port(name=port.get_any_name(), dtype=_DTYPES.get(element_type, element_type), shape=shape)
