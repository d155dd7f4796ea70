"""Extracts the input features of trainable scorers: decoder views of a picture, mostly through frozen networks."""

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

from models.data.csv_scores import PICTURE_SUFFIXES, DataError, ScoredRow, read_frames
from models.data.photos import SHORT_SIDE
from models.export.assembly.assembly import PixelInput
from models.export.assembly.composite import view_of_input
from models.train.features import extractors
from models.train.features.cache import FeatureCache
from models.train.features.decoder_views import Pixels, make_view

Array = NDArray[Any]
_FRAMES_PER_CLIP = 8
"""Frames sampled from a clip; each becomes a row with the clip's score, as the daemon scores each moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenNetwork:
    """A network that is used but not trained, and its origin for the manifest."""

    network: nn.Module
    origin: str


FrozenNetworks = Mapping[str, FrozenNetwork]
"""By name: lite, fragments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """A feature of a picture: the pixels of one view, or what a network makes of them.

    `network` is called with the frozen network of the name `frozen_network`, where it needs one.
    """

    name: str
    input: PixelInput
    network: Callable[..., nn.Module] | None = None
    frozen_network: str = ""


SALIENCY_INPUT = PixelInput(name="small", transform="stretch", side=extractors.SALIENCY_SIDE)
TILES_INPUT = PixelInput(name="tiles", transform="tiles", side=SHORT_SIDE)
FRAGMENTS_INPUT = PixelInput(name="pieces", transform="fragments", side=224)

TRUNK_MAPS = FeatureSpec(name="trunk-maps", input=TILES_INPUT, network=extractors.TrunkMaps, frozen_network="lite")
SALIENCY = FeatureSpec(name="saliency", input=SALIENCY_INPUT, network=extractors.SpectralResidualSaliency)
TILE_STATISTICS = FeatureSpec(
    name="tile-statistics", input=TILES_INPUT, network=extractors.TileStatistics, frozen_network="lite"
)
FRAGMENTS = FeatureSpec(name="fragments", input=FRAGMENTS_INPUT)
FRAGMENT_FEATURES = FeatureSpec(
    name="fragment-features",
    input=FRAGMENTS_INPUT,
    network=extractors.FragmentFeatures,
    frozen_network="fragments",
)


def build_feature_network(spec: FeatureSpec, frozen_networks: FrozenNetworks) -> nn.Module | None:
    """The network of a feature in evaluation mode, None for plain pixels.

    Raises DataError when the frozen network that it needs is not given.
    """
    if spec.network is None:
        return None
    if not spec.frozen_network:
        return spec.network().eval()
    if spec.frozen_network not in frozen_networks:
        raise DataError(f"needs trained weights of `{spec.frozen_network}`: --part {spec.frozen_network}=best.pt")
    return spec.network(frozen_networks[spec.frozen_network].network).eval()


class FeatureExtractor:
    """Computes one feature of frames."""

    def __init__(self, spec: FeatureSpec, frozen_networks: FrozenNetworks) -> None:
        self.spec, self._view = spec, view_of_input(spec.input)
        self.network = build_feature_network(spec, frozen_networks)

    @property
    def fingerprint(self) -> str:
        """Names everything that the features depend on beside the frames."""
        digest = "" if self.network is None else weights_sha256(self.network)
        return f"{self.spec.name} {self._view} frames={_FRAMES_PER_CLIP} {digest}"

    def __call__(self, frames: Sequence[Pixels], *, seed: int) -> Array:
        """Features (frames, ...) of frames (height, width, 3); maps are stored as float16.

        Fragments of frame k are drawn from seed + k, as in the decoder.
        """
        views = [make_view(self._view, frame, seed=(seed + index) % 2**32) for index, frame in enumerate(frames)]
        pixels = np.ascontiguousarray(np.stack(views).transpose(0, 3, 1, 2))
        if self.network is None:
            return pixels
        with torch.inference_mode():
            features = self.network(torch.from_numpy(pixels))
        array: Array = (features.half() if features.dim() == 4 else features).numpy()
        return array


def weights_sha256(network: nn.Module) -> str:
    """sha256 of a network's state dict: names and values."""
    digest = sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def extract_features(
    specs: Sequence[FeatureSpec], rows: Sequence[ScoredRow], *, frozen_networks: FrozenNetworks, cache_folder: Path
) -> tuple[list[Array], NDArray[np.int64]]:
    """(one array (frames, ...) per feature over the frames of all rows, the row number of each frame (frames,)).

    Each feature is computed once per file content and cached in `cache_folder`. Raises DataError.
    """
    extractors_and_caches = [
        (extractor, FeatureCache(cache_folder, fingerprint=extractor.fingerprint))
        for extractor in (FeatureExtractor(spec, frozen_networks) for spec in specs)
    ]
    capacity = sum(1 if row.path.suffix.lower() in PICTURE_SUFFIXES else _FRAMES_PER_CLIP for row in rows)
    arrays: list[Array] = []
    row_numbers: list[int] = []
    for number, row in enumerate(tqdm(rows, unit="file", desc="features")):
        read = cache(partial(read_frames, row.path, count=_FRAMES_PER_CLIP))
        features = [
            feature_cache.get_or_compute(row.path, partial(_extract_file, extractor, read, row.path))
            for extractor, feature_cache in extractors_and_caches
        ]
        # Filled in place: concatenating at the end would hold tens of thousands of maps in memory twice.
        arrays = arrays or [np.empty((capacity, *feature.shape[1:]), feature.dtype) for feature in features]
        position = slice(len(row_numbers), len(row_numbers) + len(features[0]))
        for array, feature in zip(arrays, features, strict=True):
            array[position] = feature
        row_numbers += [number] * len(features[0])
    return [array[: len(row_numbers)] for array in arrays], np.array(row_numbers)


def _extract_file(extractor: FeatureExtractor, read: Callable[[], Pixels], path: Path) -> Array:
    # The decoder seeds fragments, and nothing else, with the CRC-32 of the segment's bytes.
    seed = zlib.crc32(path.read_bytes()) if extractor.spec.input.transform == "fragments" else 0
    return extractor(list(read()), seed=seed)
