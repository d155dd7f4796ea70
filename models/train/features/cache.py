"""Caches computed features on disk, by the content of the input file and by the fingerprint of the extractor."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class FeatureCache:
    """One folder per extractor, one `.npy` file per content of an input file.

    `fingerprint` must change whenever the features do: it names the weights, the view and the sampling.
    """

    def __init__(self, folder: Path, *, fingerprint: str) -> None:
        self.folder = folder / sha256(fingerprint.encode()).hexdigest()[:24]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "fingerprint.txt").write_text(fingerprint + "\n", encoding="utf-8")

    def get_or_compute(self, file: Path, compute: Callable[[], Array]) -> Array:
        """The features of a file's content; computed and stored when they are missing or cannot be read."""
        with file.open("rb") as content:
            digest = sha256()
            while block := content.read(1 << 20):
                digest.update(block)
        cached = self.folder / f"{digest.hexdigest()}.npy"
        try:
            features: Array = np.load(cached)
        except (OSError, ValueError):
            features = compute()
            temporary = cached.with_suffix(f".{os.getpid()}")
            with temporary.open("wb") as out:
                np.save(out, features)
            temporary.rename(cached)
        return features
