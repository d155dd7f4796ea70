"""What a scorer that is trained here sees of a picture: views of the decoder, through networks that do not learn."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm  # type: ignore[import-untyped]

from models.data.csv_scores import PICTURES, DataError, Row, read_frames
from models.data.photos import SHORT_SIDE
from models.export.assembly.assembly import Source
from models.export.composite import view_of
from models.train.features import extractors as own
from models.train.features.cache import FeatureCache
from models.train.features.decoder_views import Pixels, view_of_picture

Array = NDArray[Any]
LOOKS_AT_CLIPS = 8
"""Frames of a clip that are looked at, each a row of its own, as each moment is in the daemon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A network that is looked through but does not learn, and where it comes from, for a manifest."""

    network: nn.Module
    origin: str


Parts = Mapping[str, Frozen]
"""By name: lite, fragments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One view of a picture: as it is, or through a network, which may need the frozen part `through`."""

    name: str
    source: Source
    network: Callable[..., nn.Module] | None = None
    through: str = ""


SMALL = Source(name="small", made="stretch", side=own.SALIENCY_SIDE)
TILES = Source(name="tiles", made="tiles", side=SHORT_SIDE)
PIECES = Source(name="pieces", made="fragments", side=224)

MAPS = Look(name="trunk-maps", source=TILES, network=own.TrunkMaps, through="lite")
SALIENCY = Look(name="saliency", source=SMALL, network=own.Saliency)
STATISTICS = Look(name="tile-statistics", source=TILES, network=own.TileStatistics, through="lite")
FRAGMENTS = Look(name="fragments", source=PIECES)
FRAGMENT_FEATURES = Look(name="fragment-features", source=PIECES, network=own.FragmentFeatures, through="fragments")


def network_of(look: Look, parts: Parts) -> nn.Module | None:
    """What is looked through, in evaluation mode; raises DataError when its weights are not given."""
    if look.network is None:
        return None
    if look.through and look.through not in parts:
        raise DataError(f"needs trained weights of `{look.through}`: --part {look.through}=best.pt")
    return look.network(*([parts[look.through].network] if look.through else [])).eval()


class Looking:
    """A look with its network, if it has one."""

    def __init__(self, look: Look, parts: Parts) -> None:
        self.look, self._view = look, view_of(look.source)
        self.network = network_of(look, parts)

    @property
    def maker(self) -> str:
        """Changes whenever what is seen does."""
        through = "" if self.network is None else digest_of(self.network)
        return f"{self.look.name} {self._view} frames={LOOKS_AT_CLIPS} {through}"

    def __call__(self, frames: Sequence[Pixels], *, seed: int) -> Array:
        """What is seen of each frame (frames, ...); maps are kept in half precision. Frame k of fragments is drawn from
        seed + k, as in the decoder."""
        seen = np.stack(
            [view_of_picture(self._view, frame, seed=(seed + at) % 2**32) for at, frame in enumerate(frames)]
        ).transpose(0, 3, 1, 2)
        pixels = np.ascontiguousarray(seen)
        if self.network is None:
            return pixels
        with torch.inference_mode():
            found = self.network(torch.from_numpy(pixels))
        return (found.half() if found.dim() == 4 else found).numpy()


def digest_of(network: nn.Module) -> str:
    """sha256 of a network's weights and their names."""
    digest = sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def seen_by(
    looks: Sequence[Look], rows: Sequence[Row], *, parts: Parts, folder: Path
) -> tuple[list[Array], NDArray[np.int64]]:
    """What looks see of the frames of all rows, one array per look, and the number of the row of each frame.

    Each is made once per content, and kept in a folder.
    """
    looking = [Looking(look, parts) for look in looks]
    caches = [FeatureCache(folder, maker=each.maker) for each in looking]
    room = sum(1 if row.path.suffix.lower() in PICTURES else LOOKS_AT_CLIPS for row in rows)
    found: list[Array] = []
    row_of: list[int] = []
    for number, row in enumerate(tqdm(rows, unit="file", desc="features")):
        frames = cache(partial(read_frames, row.path, count=LOOKS_AT_CLIPS))
        seen = [
            kept.get(row.path, partial(_look, each, frames, row.path))
            for each, kept in zip(looking, caches, strict=True)
        ]
        # Filled in place: joined at the end, tens of thousands of maps would be in memory twice.
        found = found or [np.empty((room, *one.shape[1:]), one.dtype) for one in seen]
        at = slice(len(row_of), len(row_of) + len(seen[0]))
        for column, one in zip(found, seen, strict=True):
            column[at] = one
        row_of += [number] * len(seen[0])
    return [column[: len(row_of)] for column in found], np.array(row_of)


def _look(looking: Looking, frames: Callable[[], Pixels], path: Path) -> Array:
    # The decoder draws from the bytes of the segment likewise, and for fragments alone.
    seed = zlib.crc32(path.read_bytes()) if looking.look.source.made == "fragments" else 0
    return looking(list(frames()), seed=seed)
