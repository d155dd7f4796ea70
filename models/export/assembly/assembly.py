"""Scorers made of several graphs: what goes into each, and how they run one after the other in torch."""

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

Made = Literal["stretch", "centre", "fragments", "windows", "halves", "tiles"]
"""How pictures are made of a frame: squeezed whole; scaled to the short side, then its centre; pieces at native size
put together (`fragments.py`); windows at native size (`liqe.crop_boxes`); both halves (`owl_hidden.halves`); lite's
mosaic of tiles at a short side."""
Order = Literal["NCHW", "NCTHW", "NKCHW"]
Array = NDArray[np.generic]
GOLDEN_PROMPT = "A red fox in fresh snow, 35 mm film, it's dawn."


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Pixels of a segment, uint8 RGB: a row is one moment with `pictures` pictures, a clip (NCTHW) or crops (NKCHW)."""

    name: str
    made: Made
    side: int
    order: Order = "NCHW"
    pictures: int = 1
    # of a clip: how many frames on the next one is
    stride: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a picture; that of tiles is lite's."""
        return (ROWS * TILE_HEIGHT, COLUMNS * TILE_WIDTH) if self.made == "tiles" else (self.side, self.side)

    def golden(self, rows: int, *, seed: int) -> NDArray[np.uint8]:
        """Rows that anybody can make again."""
        height, width = self.size
        view = View(kind="stretch", width=width, height=height)
        frames = golden_frames(view, seed=seed, frames=rows * self.pictures)
        shaped = frames.reshape(rows, self.pictures, height, width, 3)
        axes = {"NCTHW": (0, 4, 1, 2, 3), "NKCHW": (0, 1, 4, 2, 3), "NCHW": (0, 1, 4, 2, 3)}[self.order]
        turned = shaped.transpose(axes)
        return np.ascontiguousarray(turned[:, 0] if self.order == "NCHW" else turned)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Features that another scorer's graph makes: one row of `shape` per moment."""

    name: str
    shape: tuple[int, ...]

    def golden(self, rows: int, *, seed: int) -> NDArray[np.float32]:
        """Rows of standard normal numbers that anybody can make again."""
        draw = np.random.Generator(np.random.PCG64(seed))
        return draw.standard_normal((rows, *self.shape)).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Text:
    """A segment's prompt as token ids (rows, tokens), one row repeated; see `vqmon.scoring.scorers.clip_tokenizer`."""

    name: str
    # how many token ids there are
    ids: int
    # merges, a pair a line; none until an owner names a list
    content: bytes = b""
    tokens: int = 77

    @property
    def spec(self) -> TextSpec:
        """What a manifest says of it."""
        digest = sha256(self.content).hexdigest()
        return TextSpec(
            name=self.name, file=f"clip-merges-{digest[:8]}.txt", sha256=digest, size_bytes=len(self.content),
            ids=self.ids, tokens=self.tokens,
        )  # fmt: skip

    def golden(self, rows: int, *, seed: int) -> NDArray[np.int64]:
        """Rows of a prompt that anybody can write again."""
        del seed
        return load_clip_tokenizer(self.content, vocabulary_size=self.ids).encode_batch(
            [GOLDEN_PROMPT] * rows, context_length=self.tokens
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One graph. `takes` names sources and earlier parts, in the order of the network's arguments.

    `each` "row": one answer per row, whatever the others are. "segment": arguments (segments, rows, ...), one answer
    per segment, so that rows may be looked at together.
    """

    # of the graph's file too: parts of one name and weights are one file, whichever scorer they serve
    name: str
    network: nn.Module
    takes: tuple[str, ...]
    each: Literal["row", "segment"] = "row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A scorer before it is written: the last part's answer is its value, or its features."""

    name: str
    version: int
    sources: tuple[Source | Given | Text, ...]
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        known = [source.name for source in self.sources]
        for part in self.parts:
            if missing := [name for name in part.takes if name not in known]:
                raise ValueError(f"part {part.name} takes {missing[0]!r}; known before it: {', '.join(known)}")
            known.append(part.name)

    def golden(self, rows: int, *, seed: int) -> dict[str, Array]:
        """Every source's golden rows."""
        return golden_rows(self.sources, rows, seed=seed)


def golden_rows(sources: Sequence[Source | Given | Text], rows: int, *, seed: int) -> dict[str, Array]:
    """Rows by source: pixels of one seed, as the daemon's self-test makes them; features of a seed each."""
    return {
        source.name: source.golden(rows, seed=seed + (at if isinstance(source, Given) else 0))
        for at, source in enumerate(sources)
    }


class Interchange(nn.Module):
    """A part as its graph is: floats come and go in float32, whatever the network computes in.

    A network without weights computes in float32 in every form: it costs nothing.
    """

    def __init__(self, network: nn.Module, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self._dtype = dtype if any(True for _ in network.parameters()) else torch.float32

    def forward(self, *inputs: Tensor) -> Tensor:
        taken = [each.to(self._dtype) if each.is_floating_point() else each for each in inputs]
        return self.network(*taken).float()


def run_torch(assembly: Assembly, given: Mapping[str, Array]) -> dict[str, Array]:
    """What every part says of rows of all sources, in float32; segment parts of all rows as one segment."""
    values: dict[str, Array] = dict(given)
    for part in assembly.parts:
        with torch.inference_mode():
            inputs = [torch.from_numpy(each) for each in inputs_of(part.takes, values, each=part.each)]
            values[part.name] = Interchange(part.network.eval(), dtype=torch.float32)(*inputs).numpy()
    return values


def inputs_of(takes: Sequence[str], values: Mapping[str, Array], *, each: str) -> list[Array]:
    """A part's arguments: rows, all rows as one segment, or the pictures of rows side by side."""
    taken = [values[name] for name in takes]
    if each == "picture":
        return [value.reshape(-1, *value.shape[2:]) for value in taken]
    return [value[None] for value in taken] if each == "segment" else taken
