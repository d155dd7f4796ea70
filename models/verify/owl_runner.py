"""A written scorer of levels, run by ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from models.networks.owl.q_align import entropy, softmax
from vqmon.core.types import Pixels
from vqmon.scoring.manifests.level_scorer import GraphSpec, LevelScorerSpec, TaskSpec, load_level_spec

Features = NDArray[np.float32] | NDArray[np.float16]
"""(frames, tokens, width)."""
Logits = NDArray[np.float32]


HEAVY = ("Attention", "Conv", "Gemm", "LayerNormalization", "MatMul", "MatMulNBits", "RMSNormalization")
"""Kinds of node that must run where the others do; arithmetic on shapes may stay on the CPU."""


class Runner:
    """Both graphs of a scorer on one device."""

    def __init__(self, manifest: Path, *, provider: str = "CPUExecutionProvider", threads: int = 2) -> None:
        self.spec: LevelScorerSpec = load_level_spec(manifest)
        self._folder, self.provider, self._threads = manifest.parent, provider, threads
        self.encoder = self._open(self.spec.encoder)
        self.language = self._open(self.spec.language)

    def encode(self, pixels: Pixels) -> Features:
        """Features of pictures (frames, 448, 448, 3), in runs of as many as the manifest allows."""
        planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        runs = [
            self.encoder.run(None, {"pixels": planes[at : at + self.spec.most_rows]})[0]
            for at in range(0, len(planes), self.spec.most_rows)
        ]
        return np.concatenate(runs)

    def answer(self, clips: Sequence[Features], task: TaskSpec) -> Logits:
        """Logits (clips, questions, levels) of clips of one length, all questions of a task in one batch."""
        rows = np.repeat(np.stack(clips), len(task.questions), axis=0)
        questions = np.tile(np.array(task.questions, dtype=np.int64), len(clips))
        runs = []
        for at in range(0, len(rows), self.spec.most_rows):
            part = slice(at, at + self.spec.most_rows)
            runs.append(self.language.run(None, {"features": rows[part], "question": questions[part]})[0])
        return np.concatenate(runs).reshape(len(clips), len(task.questions), -1)

    def misplaced(self) -> list[str]:
        """Kinds of heavy nodes that are not on the device that was asked for."""
        return sorted({kind for one in (self.encoder, self.language) for kind in misplaced(one, self.provider)})

    def _open(self, graph: GraphSpec) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        return onnxruntime.InferenceSession(str(self._folder / graph.file), options, providers=[self.provider])


def misplaced(session: onnxruntime.InferenceSession, provider: str) -> set[str]:
    """Kinds of heavy nodes of a session, opened to record where its nodes are, that are not on `provider`."""
    return {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
        if part.ep_name != provider and node.op_type in HEAVY
    }


def expectations(logits: Logits, spec: LevelScorerSpec) -> NDArray[np.float32]:
    """The levels' expectation over the last axis."""
    shares = softmax(np.asarray(logits, dtype=np.float32) / np.float32(spec.temperature))
    values: NDArray[np.float32] = shares @ np.array([level.value for level in spec.levels], dtype=np.float32)
    return values


def uncertainties(logits: Logits, spec: LevelScorerSpec) -> NDArray[np.float32]:
    """How undecided the levels are over the last axis: 0 = sure, 1 = all alike."""
    return entropy(softmax(np.asarray(logits, dtype=np.float32) / np.float32(spec.temperature)))
