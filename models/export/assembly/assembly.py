"""Scorers made of several graphs: their inputs, their parts, and how the parts run one after the other in torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.data.photos import COLUMNS, ROWS, TILE_HEIGHT, TILE_WIDTH
from vqmon.core.types import View
from vqmon.scoring.manifests.composite_scorer import TextSpec
from vqmon.scoring.manifests.frame_scorer import golden_frames
from vqmon.scoring.scorers.clip_tokenizer import load_clip_tokenizer

PixelTransform = Literal["stretch", "centre", "fragments", "windows", "grid", "halves", "tiles"]
"""How pictures are made of a frame: the whole frame resized to a square; resized to the short side and cropped at the
centre; fragments at native resolution; crops at native resolution; crops at equal steps; the upper and the lower half,
padded; lite's mosaic of tiles at a short side."""
AxisOrder = Literal["NCHW", "NCTHW", "NKCHW"]
Array = NDArray[np.generic]
GOLDEN_PROMPT = "A red fox in fresh snow, 35 mm film, it's dawn."


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelInput:
    """Pixels of a segment, uint8 RGB: each row is one moment.

    A row has `pictures` pictures: one (NCHW), those of a clip (NCTHW), or crops or frames of a clip, for a graph that
    takes one at a time (NKCHW).
    """

    name: str
    transform: PixelTransform
    # px; of tiles, the short side
    side: int
    order: AxisOrder = "NCHW"
    pictures: int = 1
    # of a clip: distance of its frames, in frames
    stride: int = 1
    # of a grid: crops side by side, and the frame's short side in px, 0 for its own size
    columns: int = 0
    short_side: int = 0

    @property
    def frames(self) -> int:
        """Frames of a clip that a row is made of; 1 for pictures of one frame."""
        return self.pictures if self.transform in ("stretch", "centre", "fragments") else 1

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a picture in px; that of tiles is lite's mosaic."""
        return (ROWS * TILE_HEIGHT, COLUMNS * TILE_WIDTH) if self.transform == "tiles" else (self.side, self.side)

    def golden(self, rows: int, *, seed: int) -> NDArray[np.uint8]:
        """Reproducible rows of generated patterns."""
        height, width = self.size
        view = View(kind="stretch", width=width, height=height)
        frames = golden_frames(view, seed=seed, frames=rows * self.pictures)
        shaped = frames.reshape(rows, self.pictures, height, width, 3)
        axes = {"NCTHW": (0, 4, 1, 2, 3), "NKCHW": (0, 1, 4, 2, 3), "NCHW": (0, 1, 4, 2, 3)}[self.order]
        transposed = shaped.transpose(axes)
        return np.ascontiguousarray(transposed[:, 0] if self.order == "NCHW" else transposed)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureInput:
    """Features that another scorer's graph computes: one row of `shape` per moment."""

    name: str
    shape: tuple[int, ...]

    def golden(self, rows: int, *, seed: int) -> NDArray[np.float32]:
        """Reproducible rows of standard normal numbers."""
        generator = np.random.Generator(np.random.PCG64(seed))
        return generator.standard_normal((rows, *self.shape)).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TextInput:
    """The segment's prompt as token ids (rows, tokens), the same in each row."""

    name: str
    # size of the vocabulary
    ids: int
    # the tokenizer's merges, one pair per line; empty until a vocabulary is given
    content: bytes = b""
    tokens: int = 77

    @property
    def spec(self) -> TextSpec:
        """The manifest's entry."""
        digest = sha256(self.content).hexdigest()
        return TextSpec(
            name=self.name, file=f"clip-merges-{digest[:8]}.txt", sha256=digest, size_bytes=len(self.content),
            ids=self.ids, tokens=self.tokens,
        )  # fmt: skip

    def golden(self, rows: int, *, seed: int) -> NDArray[np.int64]:
        """Rows of the golden prompt; the seed has no effect."""
        del seed
        return load_clip_tokenizer(self.content, vocabulary_size=self.ids).encode_batch(
            [GOLDEN_PROMPT] * rows, context_length=self.tokens
        )


AssemblyInput = PixelInput | FeatureInput | TextInput


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphPart:
    """One graph. `takes` names inputs and earlier parts, in the order of the network's arguments.

    `each` "row": one output per row, independent of the other rows. "segment": arguments (segments, rows, ...) and one
    output per segment, computed from all its rows. "picture": arguments (rows, pictures, ...) go in one picture at a
    time, and come out as (rows, pictures, ...).
    """

    # also of the graph's file: parts with the same name and weights share one file, whichever scorer they belong to
    name: str
    network: nn.Module
    takes: tuple[str, ...]
    each: Literal["row", "picture", "segment"] = "row"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphAssembly:
    """A scorer before it is exported: the output of the last part is its score, or its features."""

    name: str
    version: int
    inputs: tuple[AssemblyInput, ...]
    parts: tuple[GraphPart, ...]

    def __post_init__(self) -> None:
        available = [each.name for each in self.inputs]
        for part in self.parts:
            if missing := [name for name in part.takes if name not in available]:
                raise ValueError(
                    f"part {part.name} takes {missing[0]!r}, which is not available; available: {', '.join(available)}"
                )
            available.append(part.name)

    def golden(self, rows: int, *, seed: int) -> dict[str, Array]:
        """Golden rows of every input."""
        return golden_inputs(self.inputs, rows, seed=seed)


def golden_inputs(inputs: Sequence[AssemblyInput], rows: int, *, seed: int) -> dict[str, Array]:
    """Golden rows by input: pixels of one seed, as in the daemon's self-test; features of a seed each."""
    return {
        each.name: each.golden(rows, seed=seed + (index if isinstance(each, FeatureInput) else 0))
        for index, each in enumerate(inputs)
    }


class Float32Interface(nn.Module):
    """Converts a part's floating inputs to the network's type and its output to float32.

    A network without parameters always computes in float32: lower precision would save nothing.
    """

    def __init__(self, network: nn.Module, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self._dtype = dtype if any(True for _ in network.parameters()) else torch.float32

    def forward(self, *inputs: Tensor) -> Tensor:
        arguments = [each.to(self._dtype) if each.is_floating_point() else each for each in inputs]
        return self.network(*arguments).float()


def run_in_torch(assembly: GraphAssembly, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Inputs and the outputs of all parts in float32, by name; segment parts see all rows as one segment."""
    values: dict[str, Array] = dict(inputs)
    for part in assembly.parts:
        network = Float32Interface(part.network.eval(), dtype=torch.float32)
        with torch.inference_mode():
            arguments = [torch.from_numpy(each) for each in part_inputs(part.takes, values, each=part.each)]
            if part.each == "picture":
                pictures = zip(*(argument.split(1) for argument in arguments), strict=True)
                output = torch.cat([network(*picture) for picture in pictures])
                values[part.name] = output.unflatten(0, values[part.takes[0]].shape[:2]).numpy()
            else:
                values[part.name] = network(*arguments).numpy()
    return values


def part_inputs(takes: Sequence[str], values: Mapping[str, Array], *, each: str) -> list[Array]:
    """The arguments of a part: rows; all rows as one segment; or, for "picture", the pictures of all rows."""
    arguments = [values[name] for name in takes]
    if each == "picture":
        return [value.reshape(-1, *value.shape[2:]) for value in arguments]
    return [value[None] for value in arguments] if each == "segment" else arguments
