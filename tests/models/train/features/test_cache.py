"""The feature cache: what is computed once, and what makes it compute again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from models.train.features.cache import FeatureCache

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two files with the same content and one with another."""
    for name, content in (("a", b"same"), ("b", b"same"), ("c", b"other")):
        (tmp_path / name).write_bytes(content)
    return tmp_path


class Computations:
    """Counts computations; the n-th one returns n three times."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def __call__(self, file: str) -> Callable[[], np.ndarray]:
        def compute() -> np.ndarray:
            self.files.append(file)
            return np.full(3, len(self.files), np.float32)

        return compute


def test_files_with_the_same_content_share_their_features(files: Path) -> None:
    """The name of a file does not matter, its content does."""
    compute = Computations()
    cache = FeatureCache(files / "cache", fingerprint="net@1")
    assert [cache.get_or_compute(files / name, compute(name)).tolist() for name in "abc"] == [[1] * 3, [1] * 3, [2] * 3]
    assert compute.files == ["a", "c"]


def test_another_fingerprint_has_features_of_its_own(files: Path) -> None:
    """Features of other weights or views are never mixed up, and the old ones stay."""
    compute = Computations()
    for fingerprint, expected in (("net@1", 1), ("net@2", 2), ("net@1", 1)):
        cache = FeatureCache(files / "cache", fingerprint=fingerprint)
        assert cache.get_or_compute(files / "a", compute("a")).tolist() == [expected] * 3


def test_a_damaged_entry_is_computed_again(files: Path) -> None:
    """A file that was cut short cannot be read, and is replaced by a readable one."""
    compute = Computations()
    cache = FeatureCache(files / "cache", fingerprint="net@1")
    cache.get_or_compute(files / "a", compute("a"))
    (entry,) = cache.folder.glob("*.npy")
    entry.write_bytes(entry.read_bytes()[:-5])
    assert cache.get_or_compute(files / "a", compute("a")).tolist() == [2] * 3
    assert cache.get_or_compute(files / "a", compute("a")).tolist() == [2] * 3
