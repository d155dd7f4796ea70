"""One ONNX model on one device: checked before it is loaded, tested before it is used."""

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray

from vqmon.core.types import Pixels
from vqmon.errors import ScoreError, ScorerError
from vqmon.logs import event
from vqmon.scoring.model_file import read_model
from vqmon.scoring.specs import ScorerSpec, golden_frames
from vqmon.scoring.tensors import to_tensor

Device = Literal["auto", "cpu", "cuda"]
Values = NDArray[np.float64]

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# HEURISTIC: the default search stalls up to a second per new shape. kSameAsRequested: the default doubles the arena.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
_NO_CUDA = (
    "either the driver or the CUDA libraries of vqmon[gpu] are missing or CUDA lacks an operator of this model; "
    "set device to auto or cpu to go without"
)
_INPUT_TYPES = {"float32": "tensor(float)", "float16": "tensor(float16)", "uint8": "tensor(uint8)"}
_OUTPUT_TYPES = ("tensor(float)", "tensor(float16)", "tensor(double)")
_FULL = ("out of memory", "failed to allocate", "bad_alloc", "bad allocation")

log = logging.getLogger(__name__)


class Session:
    """A loaded model; `run` may be called by as many threads at once as `workers` says.

    On a CPU each run holds one picture (or the smallest bucket) and one thread: as fast as larger batches on more
    threads, cheaper beside other work, and the same to the last bit whatever else is being scored.
    """

    def __init__(self, spec: ScorerSpec, model: bytes, where: str, *, device: Device, threads: int) -> None:
        self.spec = spec
        self.device = "cpu"
        # why this is not the device that was asked for; empty when it is
        self.fallback = ""
        self._model, self._where, self._threads = model, where, threads
        self._session = self._start(device)
        on_cpu = self.device == "cpu"
        self.workers = threads if on_cpu else 1
        self.buckets = spec.batch_buckets[:1] if on_cpu else spec.batch_buckets
        self._check_contract()
        self._warm()
        self._check_golden()

    def run(self, pixels: Pixels) -> Values:
        """Native values of pictures (bucket, height, width, 3), not checked for being finite; raises ScoreError."""
        try:
            feed = {self.spec.input.name: to_tensor(pixels, self.spec.input)}
            (values,) = self._session.run([self.spec.output.name], feed)
        except Exception as error:  # onnxruntime's errors share no base class
            raise translate(error, self.spec.id, self.device) from error
        native: Values = np.asarray(values, dtype=np.float64).reshape(len(pixels))
        return native

    def fall_back(self, why: str) -> "Session":
        """The same model on the CPU after this device failed; raises ScorerError when it cannot run there either."""
        spare = Session(self.spec, self._model, self._where, device="cpu", threads=self._threads)
        spare.fallback = why
        log.warning(**event("scorer.fell_back", scorer=self.spec.id, device="cpu", why=why))
        return spare

    def _start(self, device: Device) -> ort.InferenceSession:
        if device == "cpu" or (device == "auto" and _CUDA not in ort.get_available_providers()):
            return self._start_on(_CPU)
        try:
            session = self._start_on(_CUDA)
            self.device = "cuda"
        except ScorerError as error:
            if device == "cuda":
                raise
            self.fallback = "CUDA cannot be used"
            log.warning(**event("scorer.fell_back", scorer=self.spec.id, device="cpu", why=str(error)))
            session = self._start_on(_CPU)
        return session

    def _start_on(self, provider: str) -> ort.InferenceSession:
        if provider not in ort.get_available_providers():
            raise self._refusal("this onnxruntime cannot use CUDA; install vqmon[gpu], or set device to auto or cpu")
        options = ort.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised, and said once
        # One thread has no pool, so none spins between runs; `workers` is where more cores come in.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        providers: list[str | tuple[str, dict[str, str]]] = [_CPU]
        if provider == _CUDA:
            _preload_cuda()
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            providers = [(_CUDA, _CUDA_OPTIONS)]
        try:
            session = ort.InferenceSession(self._model, options, providers=providers, enable_fallback=0)
        except Exception as error:
            hint = _NO_CUDA if provider == _CUDA else "export it again"
            raise self._refusal(f"cannot be loaded on {provider}: {_first_line(error)}; {hint}") from error
        # Asking for CUDA where it cannot start may give a CPU session without an error.
        if provider not in session.get_providers():
            raise self._refusal(f"CUDA cannot start; {_NO_CUDA}")
        return session

    def _check_contract(self) -> None:
        spec, view = self.spec, self.spec.input.view
        inputs, outputs = self._session.get_inputs(), {each.name: each for each in self._session.get_outputs()}
        names = [each.name for each in inputs]
        if names != [spec.input.name]:
            raise self._refusal(f"the manifest names the input {spec.input.name!r}, the model has {names}")
        if spec.output.name not in outputs:
            raise self._refusal(f"the manifest names the output {spec.output.name!r}, the model has {list(outputs)}")
        source, result = inputs[0], outputs[spec.output.name]
        if source.type != _INPUT_TYPES[spec.input.dtype] or result.type not in _OUTPUT_TYPES:
            raise self._refusal(f"takes {source.type} and gives {result.type}, the manifest says {spec.input.dtype}")
        if not _fits(source.shape, (None, 3, view.height, view.width)):
            raise self._refusal(f"takes {source.shape}, the manifest says [batch, 3, {view.height}, {view.width}]")
        if isinstance(source.shape[0], int) and spec.batch_buckets != (source.shape[0],):
            raise self._refusal(f"takes batches of {source.shape[0]} only, batch_buckets says {spec.batch_buckets}")
        if not (_fits(result.shape, (None,)) or _fits(result.shape, (None, 1))):
            raise self._refusal(f"gives {result.shape}, a scalar head gives [batch] or [batch, 1]")

    def _warm(self) -> None:
        # The largest first: memory is at its highest mark from the start and never grows.
        view = self.spec.input.view
        for bucket in reversed(self.buckets):
            self._try(np.zeros((bucket, view.height, view.width, 3), dtype=np.uint8))

    def _check_golden(self) -> None:
        golden = self.spec.golden
        frames = golden_frames(self.spec.input.view, seed=golden.input.seed, frames=golden.input.frames)
        bucket = self.buckets[0]
        for at, expected in enumerate(golden.output):
            found = self._try(np.repeat(frames[at : at + 1], bucket, axis=0))[0]
            if not abs(found - expected) <= golden.tolerance:
                raise self._refusal(
                    f"self-test on {self.device}: golden frame {at} gave {found:.6g}, the manifest says {expected:.6g} "
                    f"(tolerance {golden.tolerance:g}); the bundle is not what was exported, or onnxruntime "
                    f"{ort.__version__} computes it wrongly here: fetch or export the bundle again"
                )

    def _try(self, pixels: Pixels) -> Values:
        try:
            return self.run(pixels)
        except ScoreError as error:
            raise self._refusal(f"self-test failed: {error.detail}") from error
        except ValueError as error:
            raise self._refusal(f"does not give one value per picture: {error}") from error

    def _refusal(self, what: str) -> ScorerError:
        return ScorerError(f"{self._where}: {what}")


def open_session(spec: ScorerSpec, onnx: Path, *, device: Device = "auto", threads: int = 0) -> Session:
    """Load the model beside a manifest; `threads` 0 = one per core. Raises ScorerError: what, where, remedy.

    The bytes that were checked are the bytes that are loaded.
    """
    return Session(spec, read_model(spec, onnx), str(onnx), device=device, threads=threads or _cores())


def translate(error: Exception, scorer: str, device: str) -> ScoreError:
    """What a failed run means; onnxruntime tells a full memory by words only."""
    is_full = isinstance(error, MemoryError) or any(words in str(error).lower() for words in _FULL)
    return ScoreError("out_of_memory" if is_full else "scorer_failed", f"{scorer} on {device}: {_first_line(error)}")


def runtime_versions() -> dict[str, str]:
    """Library name -> version of what computes scores."""
    return {"onnxruntime": str(ort.__version__), "numpy": np.__version__}


def _preload_cuda() -> None:
    # Looks in the nvidia-* packages first; says on stdout what it misses, which the probe then says better.
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls(directory="")


def _fits(shape: Sequence[int | str | None], wanted: Sequence[int | None]) -> bool:
    """Whether every size that both know is the same."""
    pairs = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(not isinstance(a, int) or b is None or a == b for a, b in pairs)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:300]


def _cores() -> int:
    return len(os.sched_getaffinity(0))
