"""A runtime whose GPUs are CPU sessions of ONNX Runtime, which a test can make absent, inexact, or fail."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vqmon.errors import ScorerError
from vqmon.scoring.runtime.graph import Array, InputShapes, Placement, Port, Session, is_gpu, to_score_error
from vqmon.scoring.runtime.onnx_session import ONNX_RUNTIME
from vqmon.scoring.runtime.verified_model import VerifiedModel


@dataclass(kw_only=True)
class FakeGpuRuntime:
    """Opens sessions on the GPUs that are `present`, by the names of devices."""

    present: tuple[str, ...] = ("cuda:0", "cuda:1")
    # device -> what is added to all that it computes, as a share of the value
    deviations: dict[str, float] = field(default_factory=dict)
    # device -> messages of the errors of its next runs
    errors: dict[str, list[str]] = field(default_factory=dict)
    # device -> what its next runs wait for
    holds: dict[str, threading.Event] = field(default_factory=dict)
    # the device of each run, and of each session opened
    runs: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    def has_gpu_provider(self) -> bool:
        return True

    def open(
        self, model: VerifiedModel, *, name: str, device: str, placement: Placement, shapes: tuple[InputShapes, ...]
    ) -> Session:
        self.opened.append(device)
        if is_gpu(device) and device not in self.present:
            raise ScorerError(f"{model.where}: cannot be loaded on {device}: invalid device ordinal")
        session = ONNX_RUNTIME.open(model, name=name, device="cpu", placement=placement, shapes=shapes)
        return _FakeGpuSession(session, self, name=name, device=device)


class _FakeGpuSession:
    def __init__(self, session: Session, runtime: FakeGpuRuntime, *, name: str, device: str) -> None:
        self._session, self._runtime, self._name, self.device = session, runtime, name, device

    @property
    def inputs(self) -> tuple[Port, ...]:
        return self._session.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        return self._session.outputs

    def run(self, feed: Mapping[str, Array], output: str) -> Array:
        self._runtime.runs.append(self.device)
        if (hold := self._runtime.holds.get(self.device)) is not None and not hold.wait(60):
            raise TimeoutError(self.device)
        if errors := self._runtime.errors.get(self.device):
            raise to_score_error(RuntimeError(errors.pop(0)), self._name, self.device)
        values = self._session.run(feed, output)
        deviation = self._runtime.deviations.get(self.device, 0.0)
        return np.asarray(values * (1 + deviation), dtype=values.dtype) if deviation else values
