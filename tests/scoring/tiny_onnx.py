"""Small ONNX files and their manifests, written without the onnx package.

The model gives gain * mean(picture) + offset per picture, so that a test can compute the expected values.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqmon.core.calibration import Calibration
from vqmon.core.types import DecodedSegment, MediaFacts, Pixels, View
from vqmon.scoring.manifests.frame_scorer import (
    Golden,
    GoldenInput,
    InputSpec,
    Licence,
    OutputSpec,
    ScorerSpec,
    golden_frames,
    save_frame_spec,
)
from vqmon.scoring.runtime.engines import FrameEngine
from vqmon.scoring.runtime.graph import Device, Placement
from vqmon.scoring.runtime.verified_model import VerifiedModel

VIEW = View(kind="stretch", width=16, height=8)
GAIN, OFFSET = 100.0, 1.0
_FLOAT = 1


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """The options of a tiny model; the defaults are those of the plain one."""

    gain: float = GAIN
    batch: int | str = "batch"
    height: int = VIEW.height
    width: int = VIEW.width
    input_name: str = "pixels"
    output_name: str = "score"
    keeps_dims: bool = False
    reduced_axes: tuple[int, ...] = (1, 2, 3)
    # the last node: Add gives a number, Log of a negative one gives none, an unknown name does not load
    last_operator: str = "Add"
    domain: str = ""
    location: str = ""

    def to_bytes(self) -> bytes:
        """The ModelProto; field numbers are those of onnx.proto."""
        axes = b"".join(_number(8, axis) for axis in self.reduced_axes)
        nodes = [
            _node("ReduceMean", [self.input_name], "mean", [
                _text(1, "axes") + axes + _number(20, 7),
                _text(1, "keepdims") + _number(3, int(self.keeps_dims)) + _number(20, 2),
            ]),
            _node("Mul", ["mean", "gain"], "scaled", [], domain=self.domain),
            _node("Add", ["scaled", "offset"], self.output_name if self.last_operator == "Add" else "sum", []),
        ]  # fmt: skip
        if self.last_operator != "Add":
            nodes.append(_node(self.last_operator, ["sum"], self.output_name, []))
        rank = 4 - len(self.reduced_axes) if not self.keeps_dims else 4
        graph = b"".join([
            *(_bytes(1, node) for node in nodes),
            _text(2, "tiny"),
            _bytes(5, self._constant("gain", self.gain)),
            _bytes(5, self._constant("offset", OFFSET)),
            _bytes(11, _value(self.input_name, [self.batch, 3, self.height, self.width])),
            _bytes(12, _value(self.output_name, [self.batch, "a", "b", "c"][:rank])),
        ])  # fmt: skip
        opsets = [_text(1, "") + _number(2, 17)] + ([_text(1, self.domain) + _number(2, 1)] if self.domain else [])
        return _number(1, 8) + _bytes(7, graph) + b"".join(_bytes(8, opset) for opset in opsets)

    def _constant(self, name: str, value: float) -> bytes:
        tensor = _number(2, _FLOAT) + _text(8, name)
        if self.location:
            entry = _bytes(13, _text(1, "location") + _text(2, self.location))
            return tensor + entry + _number(14, 1)
        return tensor + _bytes(9, struct.pack("<f", value))


PLAIN = Tiny()


def tiny_spec(model: bytes, **changes: Any) -> ScorerSpec:
    """The manifest that fits the plain tiny model."""
    spec = ScorerSpec(
        name="tiny",
        version=1,
        description="the mean of the picture",
        input=InputSpec(
            name="pixels", view=VIEW, colour="rgb", layout="NCHW", dtype="float32", mean=(0, 0, 0), std=(1, 1, 1)
        ),
        output=OutputSpec(name="score", head="scalar"),
        native_range=(0, 100),
        higher_is_better=True,
        calibration=Calibration(version=3, points=((1, 0), (101, 100))),
        pooling="mean",
        batch_buckets=(1, 2, 4, 8),
        sha256=sha256(model).hexdigest(),
        size_bytes=len(model),
        licence=Licence(name="Apache-2.0", commercial=True, note=""),
        provenance={"made_by": "a test"},
        golden=Golden(
            input=GoldenInput(kind="pattern", seed=5, frames=2),
            output=tuple(expected(golden_frames(VIEW, seed=5, frames=2)).tolist()),
            tolerance=1e-3,
        ),
    )
    return replace(spec, **changes)


def tiny_engine(tiny: Tiny = PLAIN, *, device: Device = "cpu", threads: int = 1, **changes: Any) -> FrameEngine:
    """The engine of a tiny model."""
    model = tiny.to_bytes()
    spec = tiny_spec(model, **changes)
    verified = VerifiedModel(where="tiny@1.onnx", sha256=spec.sha256, graph_bytes=model, folder=Path())
    return FrameEngine(spec, verified, Placement(device=device, threads=threads), device=device)


def write_bundle(folder: Path, tiny: Tiny = PLAIN, **changes: Any) -> Path:
    """Write the .onnx file and the manifest; returns the manifest's path."""
    model = tiny.to_bytes()
    spec = tiny_spec(model, **changes)
    path = folder / f"{spec.id}.json"
    path.with_suffix(".onnx").write_bytes(model)
    save_frame_spec(spec, path)
    return path


def expected(pixels: Pixels) -> NDArray[np.float64]:
    """The output of the plain tiny model: one native value per picture."""
    values: NDArray[np.float64] = GAIN * pixels.mean(axis=(1, 2, 3)) / 255 + OFFSET
    return values


def pictures(count: int, *, seed: int = 0) -> Pixels:
    """Random pictures of the tiny view."""
    shape = (count, VIEW.height, VIEW.width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def decoded(pixels: Pixels, view: View = VIEW) -> DecodedSegment:
    """A decoded segment with these pictures only."""
    media = MediaFacts(
        container="mpegts", codec="h264", width=64, height=36, fps=25, duration_seconds=len(pixels),
        frame_count=25 * len(pixels), pixel_format="yuv420p", colour="bt709/limited", transfer="bt709",
    )  # fmt: skip
    times = tuple(float(second) for second in range(len(pixels)))
    views: Mapping[View, Pixels] = {view: pixels}
    return DecodedSegment(times_seconds=times, views=views, signals={}, thumbnails=(), media=media, edges=("", ""))


def _node(operator: str, inputs: Iterable[str], output: str, attributes: Iterable[bytes], *, domain: str = "") -> bytes:
    names = b"".join(_text(1, name) for name in inputs) + _text(2, output)
    return names + _text(4, operator) + b"".join(_bytes(5, each) for each in attributes) + _text(7, domain)


def _value(name: str, shape: Iterable[int | str]) -> bytes:
    sizes = b"".join(_bytes(1, _number(1, size) if isinstance(size, int) else _text(2, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, _FLOAT) + _bytes(2, sizes)))


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
