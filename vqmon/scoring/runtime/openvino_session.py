"""One ONNX graph in OpenVINO, for hosts without a GPU; the only importer of that package."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from vqmon.errors import ScorerError
from vqmon.scoring.runtime.graph import Array, Placement, Port, first_line, translate
from vqmon.scoring.runtime.model_file import GraphUnit

_DTYPES = {"f32": "float32", "f16": "float16", "f64": "float64", "u8": "uint8", "i64": "int64", "i32": "int32"}


class OpenVinoGraph:
    """A loaded graph; `run` may be called by as many threads at once as its placement says, each has its own request.

    Computes in float32: where a CPU offers bfloat16, OpenVINO's own choice moves scores by more than self-tests allow.
    """

    device = "openvino"

    def __init__(self, unit: GraphUnit, *, name: str, placement: Placement) -> None:
        self._name = name
        self._model = _compile(unit, placement)
        self.inputs = tuple(_port(port) for port in self._model.inputs)
        self.outputs = tuple(_port(port) for port in self._model.outputs)
        self._own = threading.local()

    def run(self, feed: Mapping[str, Array], output: str) -> Array:
        """One output for named inputs; raises ScoreError."""
        try:
            if not hasattr(self._own, "request"):
                self._own.request = self._model.create_infer_request()
            self._own.request.infer({name: np.ascontiguousarray(array) for name, array in feed.items()})
            # A copy: the request writes its next answer into the same memory.
            values: Array = np.array(self._own.request.get_tensor(output).data)
        except Exception as error:  # openvino's errors are plain RuntimeErrors
            raise translate(error, self._name, self.device) from error
        return values


def openvino_version() -> str:
    """The version of the package; raises ScorerError when it is not installed."""
    return str(_package("").__version__)


def _compile(unit: GraphUnit, placement: Placement) -> Any:
    openvino = _package(unit.where)
    if unit.data_name:
        remedy = "use device cpu for this scorer"
        raise ScorerError(f"{unit.where}: OpenVINO cannot take weights that lie beside a checked graph; {remedy}")
    core = openvino.Core()
    try:
        model = core.read_model(model=unit.model)
        return core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "NUM_STREAMS": str(placement.workers),
                "INFERENCE_NUM_THREADS": placement.workers * placement.cores_per_run,
                "ENABLE_CPU_PINNING": False,
            },
        )
    except RuntimeError as error:
        remedy = "use device cpu for this scorer"
        raise ScorerError(f"{unit.where}: cannot be loaded by OpenVINO: {first_line(error)}; {remedy}") from error


def _package(where: str) -> Any:
    try:
        import openvino
    except ImportError as error:
        remedy = "pip install vqmon[openvino], or set device to cpu"
        raise ScorerError(f"{where or 'scoring'}: OpenVINO is not installed; {remedy}") from error
    return openvino


def _port(port: Any) -> Port:
    kind = port.get_element_type().get_type_name()
    shape = tuple(side.get_length() if side.is_static else None for side in port.get_partial_shape())
    return Port(name=port.get_any_name(), dtype=_DTYPES.get(kind, kind), shape=shape)
