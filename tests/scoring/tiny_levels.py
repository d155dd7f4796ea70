"""Small level scorers, written without the onnx package, whose logits a test can compute.

The encoder gives the mean of the picture, 0..1, as one token of one number. The language graph gives
slope * m + bias[question] per level, where m is the mean over the clip's frames, or, where it compares, the last
frame's less half of the first one's.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.scoring.tiny_onnx import VIEW, _bytes, _node, _number, _text
from vqmon.core.calibration import Calibration
from vqmon.core.types import Pixels
from vqmon.scoring.manifests.frame_scorer import GoldenInput, InputSpec, Licence, golden_frames
from vqmon.scoring.manifests.level_scorer import (
    Comparisons,
    GoldenAnswer,
    GraphSpec,
    Level,
    LevelGolden,
    LevelScorerSpec,
    TaskSpec,
    save_level_spec,
)

SLOPE = np.array([6.0, 3.0, 0.0, -3.0, -6.0], dtype=np.float32)
# one row per question; the last one is that about pairs
BIAS = np.array([[0, 0, 0, 0, 0], [1, 0, 0, 0, -1], [0, 1, 0, -1, 0]], dtype=np.float32)
WORDS = ("excellent", "good", "fair", "poor", "bad")
_FLOAT, _UINT8, _INT64 = 1, 2, 7


@dataclass(frozen=True, kw_only=True)
class Outside:
    """A data file for weights, which are appended to `data`."""

    location: str
    data: bytearray


def encoder_bytes(*, work: int = 0, width: int = 512) -> bytes:
    """(n, 3, height, width) uint8 -> (n, 1, 1) float32; `work` products of width x width matrices cost time only."""
    nodes = [
        _node("Cast", ["pixels"], "floats", [_text(1, "to") + _number(3, _FLOAT) + _number(20, 2)]),
        _reduce("floats", "sum", axes=(1, 2, 3)),
        _node("Mul", ["sum", "over"], "mean", []),
        _node("Reshape", ["mean", "shape"], "features" if not work else "plain", []),
    ]
    constants = [_tensor("over", np.array(1 / 255, np.float32)), _tensor("shape", np.array([-1, 1, 1], np.int64))]
    if work:
        # Rows of zeros stay zeros, so that the result is what it was.
        constants += [_tensor("zeros", np.zeros((1, width, width), np.float32)),
                      _tensor("matrix", np.full((width, width), 1 / width, np.float32))]  # fmt: skip
        nodes.append(_node("Mul", ["plain", "zeros"], "work0", []))
        nodes += [_node("MatMul", [f"work{at}", "matrix"], f"work{at + 1}", []) for at in range(work)]
        nodes += [_reduce(f"work{work}", "nothing", axes=(1, 2), keep=1)]
        nodes += [_node("Add", ["plain", "nothing"], "features", [])]
    return _model(nodes, constants, [("pixels", _UINT8, ["n", 3, VIEW.height, VIEW.width])],
                  ("features", _FLOAT, ["n", 1, 1]))  # fmt: skip


def language_bytes(
    *, bias: NDArray[np.float32] = BIAS, outside: Outside | None = None, compares: bool = False
) -> bytes:
    """features (rows, frames, 1, 1), question (rows) -> logits (rows, 5)."""
    frame = [_text(1, "axis") + _number(3, 1) + _number(20, 2)]
    compared = [
        _node("Gather", ["features", "last"], "last_frame", frame),
        _node("Gather", ["features", "first"], "first_frame", frame),
        _node("Mul", ["first_frame", "half"], "half_frame", []),
        _node("Sub", ["last_frame", "half_frame"], "difference", []),
        _reduce("difference", "mean", axes=(1, 2)),
    ]
    nodes = [
        *(compared if compares else [_reduce("features", "mean", axes=(1, 2, 3))]),
        _node("Reshape", ["mean", "column"], "means", []),
        _node("Mul", ["means", "slope"], "scaled", []),
        _node("Gather", ["bias", "question"], "added", []),
        _node("Add", ["scaled", "added"], "logits", []),
    ]
    constants = [
        _tensor("slope", SLOPE), _tensor("column", np.array([-1, 1], np.int64)), _tensor("bias", bias, outside=outside)
    ]  # fmt: skip
    if compares:
        constants += [_tensor("last", np.array(-1, np.int64)), _tensor("first", np.array(0, np.int64))]
        constants += [_tensor("half", np.array(0.5, np.float32))]
    inputs = [("features", _FLOAT, ["rows", "frames", 1, 1]), ("question", _INT64, ["rows"])]
    return _model(nodes, constants, inputs, ("logits", _FLOAT, ["rows", 5]))


def logits_of(means: NDArray[np.floating], question: int) -> NDArray[np.float64]:
    """Logits of clips with these means of their frames."""
    logits: NDArray[np.float64] = np.asarray(means, np.float64)[..., None] * SLOPE + BIAS[question]
    return logits


def means_of(pixels: Pixels) -> NDArray[np.float64]:
    """The encoder's output for pictures."""
    means: NDArray[np.float64] = pixels.astype(np.float64).mean(axis=(1, 2, 3)) / 255
    return means


@dataclass(frozen=True, kw_only=True)
class LevelBundle:
    """The options of a bundle; the defaults are those of the plain one."""

    name: str = "tiny-levels"
    work: int = 0
    width: int = 512
    beside: bool = False
    bias: Any = None
    compares: bool = False


PLAIN = LevelBundle()


def write_levels(folder: Path, bundle: LevelBundle = PLAIN, **changes: Any) -> Path:
    """Write both graphs and the manifest; gives the manifest's path."""
    scorer = f"{bundle.name}@1"
    data = bytearray()
    outside = Outside(location=f"{scorer}.language.onnx.data", data=data) if bundle.beside else None
    bias = BIAS if bundle.bias is None else bundle.bias
    encoder = _write(folder / f"{scorer}.encoder.onnx", encoder_bytes(work=bundle.work, width=bundle.width), b"",
                     inputs=("pixels",), output="features")  # fmt: skip
    graph = language_bytes(bias=bias, outside=outside, compares=bundle.compares)
    language = _write(folder / f"{scorer}.language.onnx", graph, bytes(data),
                      inputs=("features", "question"), output="logits")  # fmt: skip
    spec = LevelScorerSpec(
        kind="levels",
        name=bundle.name,
        version=1,
        description="the mean of the picture in words",
        input=InputSpec(
            name="pixels", view=VIEW, colour="rgb", layout="NCHW", dtype="uint8", mean=(0, 0, 0), std=(1, 1, 1)
        ),
        encoder=encoder,
        language=language,
        most_rows=64,
        feature_dtype="float32",
        tasks=_tasks(compares=bundle.compares),
        levels=tuple(Level(word=word, value=value) for word, value in zip(WORDS, (5, 4, 3, 2, 1), strict=True))
        if not bundle.compares
        else tuple(Level(word=word, value=value) for word, value in zip(WORDS, (1, 0.75, 0.5, 0.25, 0), strict=True)),
        temperature=1.0,
        comparisons=Comparisons(anchor_matrix=((0.5, 0.2), (0.8, 0.5)), link="logistic") if bundle.compares else None,
        native_range=(0, 100) if bundle.compares else (1, 5),
        higher_is_better=True,
        calibration=Calibration(version=1, points=((0, 0), (100, 100)) if bundle.compares else ((1, 0), (5, 100))),
        licence=Licence(name="Apache-2.0", commercial=True, note=""),
        provenance={"made_by": "a test"},
        golden=_golden(_tasks(compares=bundle.compares)),
    )
    path = folder / f"{scorer}.json"
    save_level_spec(replace(spec, **changes), path)
    return path


def _tasks(*, compares: bool) -> tuple[TaskSpec, ...]:
    if compares:
        return (TaskSpec(name="anchors", questions=(0, 1), least_frames=1, most_frames=1),
                TaskSpec(name="pair", questions=(2,), least_frames=2, most_frames=2))  # fmt: skip
    return (TaskSpec(name="quality", questions=(0,), least_frames=1, most_frames=1),
            TaskSpec(name="aesthetics", questions=(1,), least_frames=1, most_frames=1),
            TaskSpec(name="video", questions=(2,), least_frames=1, most_frames=3))  # fmt: skip


def _golden(tasks: tuple[TaskSpec, ...]) -> LevelGolden:
    means = means_of(golden_frames(VIEW, seed=9, frames=2))
    answers = []
    for task in tasks:
        frames = tuple(range(task.least_frames))
        seen = means[frames[-1]] - means[0] / 2 if tasks[0].name == "anchors" else means[list(frames)].mean()
        rows = [logits_of(seen, question).tolist() for question in task.questions]
        answers.append(GoldenAnswer(task=task.name, frames=frames, logits=tuple(map(tuple, rows))))
    return LevelGolden(input=GoldenInput(kind="pattern", seed=9, frames=2), answers=tuple(answers), tolerance=1e-4)


def _write(file: Path, graph: bytes, data: bytes, *, inputs: tuple[str, ...], output: str) -> GraphSpec:
    file.write_bytes(graph)
    if data:
        file.with_name(f"{file.name}.data").write_bytes(data)
    return GraphSpec(
        file=file.name, has_data=bool(data), sha256=sha256(graph + data).hexdigest(), size_bytes=len(graph + data),
        inputs=inputs, output=output,
    )  # fmt: skip


def _reduce(source: str, target: str, *, axes: tuple[int, ...], keep: int = 0) -> bytes:
    chosen = b"".join(_number(8, axis) for axis in axes)
    return _node("ReduceMean", [source], target, [
        _text(1, "axes") + chosen + _number(20, 7), _text(1, "keepdims") + _number(3, keep) + _number(20, 2),
    ])  # fmt: skip


def _tensor(name: str, values: NDArray[Any], *, outside: Outside | None = None) -> bytes:
    kind = _FLOAT if values.dtype == np.float32 else _INT64
    head = b"".join(_number(1, size) for size in values.shape) + _number(2, kind) + _text(8, name)
    if outside is None:
        return head + _bytes(9, values.tobytes())
    entries = {"location": outside.location, "offset": str(len(outside.data)), "length": str(values.nbytes)}
    outside.data.extend(values.tobytes())
    return (
        head + b"".join(_bytes(13, _text(1, key) + _text(2, value)) for key, value in entries.items()) + _number(14, 1)
    )


def _model(
    nodes: list[bytes], constants: list[bytes], inputs: list[tuple[str, int, list[Any]]],
    output: tuple[str, int, list[Any]],
) -> bytes:  # fmt: skip
    graph = b"".join([
        *(_bytes(1, node) for node in nodes), _text(2, "tiny"), *(_bytes(5, each) for each in constants),
        *(_bytes(11, _port(*each)) for each in inputs), _bytes(12, _port(*output)),
    ])  # fmt: skip
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, 17))


def _port(name: str, kind: int, shape: list[Any]) -> bytes:
    sizes = b"".join(_bytes(1, _number(1, size) if isinstance(size, int) else _text(2, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, sizes)))
