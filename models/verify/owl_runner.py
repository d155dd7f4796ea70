"""Runs an exported level scorer with ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from models.networks.owl.q_align import softmax
from vqmon.core.types import Pixels
from vqmon.scoring.manifests.level_scorer import GraphSpec, LevelScorerSpec, TaskSpec, load_level_spec

Features = NDArray[np.float32] | NDArray[np.float16]
"""(frames, tokens, width)."""
Logits = NDArray[np.float32]


COMPUTE_OPERATORS = ("Attention", "Conv", "Gemm", "LayerNormalization", "MatMul", "MatMulNBits", "RMSNormalization")
"""Operators that must run on the requested device; arithmetic on shapes may stay on the CPU."""
_CUDA = "CUDAExecutionProvider"


class LevelScorerRunner:
    """Both graphs of a scorer on one device."""

    def __init__(self, manifest: Path, *, provider: str = "CPUExecutionProvider", threads: int = 2) -> None:
        self.spec: LevelScorerSpec = load_level_spec(manifest)
        self._folder, self.provider, self._threads = manifest.parent, provider, threads
        self.encoder = self._open_session(self.spec.encoder)
        self.language = self._open_session(self.spec.language)

    def encode(self, pixels: Pixels) -> Features:
        """Features of pictures (frames, 448, 448, 3), in batches of at most the manifest's `most_rows`."""
        planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        batches = [
            self.encoder.run(None, {"pixels": planes[start : start + self.spec.most_rows]})[0]
            for start in range(0, len(planes), self.spec.most_rows)
        ]
        return np.concatenate(batches)

    def run_task(self, clips: Sequence[Features], task: TaskSpec) -> Logits:
        """Logits (clips, questions, levels) of clips of one length; all questions of a task are batched together."""
        rows = np.repeat(np.stack(clips), len(task.questions), axis=0)
        questions = np.tile(np.array(task.questions, dtype=np.int64), len(clips))
        batches = []
        for start in range(0, len(rows), self.spec.most_rows):
            batch = slice(start, start + self.spec.most_rows)
            batches.append(self.language.run(None, {"features": rows[batch], "question": questions[batch]})[0])
        return np.concatenate(batches).reshape(len(clips), len(task.questions), -1)

    def misplaced(self) -> list[str]:
        """Compute operators that do not run on the requested device."""
        return sorted(
            {
                operator
                for session in (self.encoder, self.language)
                for operator in misplaced_operators(session, self.provider)
            }
        )

    def _open_session(self, graph: GraphSpec) -> onnxruntime.InferenceSession:
        options = session_options(self._threads)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        return onnxruntime.InferenceSession(
            str(self._folder / graph.file), options, providers=[with_exact_float32(self.provider)]
        )


def misplaced_operators(session: onnxruntime.InferenceSession, provider: str) -> set[str]:
    """Compute operators of a session that do not run on `provider`; the session must record its assignment."""
    return {
        node.op_type
        for subgraph in session.get_provider_graph_assignment_info()
        for node in subgraph.get_nodes()
        if subgraph.ep_name != provider and node.op_type in COMPUTE_OPERATORS
    }


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of a session that says nothing but errors, and whose idle threads do not spin for long."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
    return options


def with_exact_float32(provider: str) -> str | tuple[str, dict[str, str]]:
    """A provider with the options that make float32 exact: CUDA's default rounds the factors of products to 10 bits."""
    return (provider, {"use_tf32": "0"}) if provider == _CUDA else provider


def expected_levels(logits: Logits, spec: LevelScorerSpec) -> NDArray[np.float32]:
    """Expectation of the levels over the last axis."""
    probabilities = softmax(np.asarray(logits, dtype=np.float32) / np.float32(spec.temperature))
    values: NDArray[np.float32] = probabilities @ np.array([level.value for level in spec.levels], dtype=np.float32)
    return values
