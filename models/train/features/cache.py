"""Features of frozen networks, kept on disk by the content of the file and by what made them."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class FeatureCache:
    """One folder per maker (a network with its weights and what it sees), one file per content.

    `maker` must change whenever its features do: name it by the hash of the weights, the view and the sampling.
    """

    def __init__(self, folder: Path, *, maker: str) -> None:
        self.folder = folder / sha256(maker.encode()).hexdigest()[:24]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "maker.txt").write_text(maker + "\n", encoding="utf-8")

    def get(self, file: Path, make: Callable[[], Array]) -> Array:
        """The features of a file's content; made when they are not there, or cannot be read."""
        with file.open("rb") as content:
            digest = sha256()
            while block := content.read(1 << 20):
                digest.update(block)
        kept = self.folder / f"{digest.hexdigest()}.npy"
        try:
            found: Array = np.load(kept)
        except (OSError, ValueError):
            found = make()
            unready = kept.with_suffix(f".{os.getpid()}")
            with unready.open("wb") as out:
                np.save(out, found)
            unready.rename(kept)
        return found
