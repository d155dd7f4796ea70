"""Tuning of lite@2's trunk: which rungs are compared, and that a scorer learns from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.data.csv_scores import DataError  # noqa: E402
from models.data.teachers.labels import quality_labels  # noqa: E402
from models.data.teachers.ladders import LadderScene, TaughtRung, write_scene  # noqa: E402
from models.networks.lite2 import Lite2, Lite2Config  # noqa: E402
from models.train.builtin.lite2_head import tile_features  # noqa: E402
from models.train.builtin.lite2_trunk import ScoredPhoto, TrunkTuningConfig, draw_pairs, tune_trunk  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(600)]
SHAPES = {"canvas": (4, 192, 256, 3), "half": (2, 192, 256, 3), "whole": (1, 96, 128, 3)}


def rung(kind: str, ms_ssim: float, **facts: object) -> TaughtRung:
    """A rung that both teachers see alike."""
    empty = {"amount": 0.0, "damage": 0.0, "codec": None, "lines": None, "factor": None, "pair": None, "network": None}
    return TaughtRung(kind=kind, vmaf_neg=97.4 * ms_ssim, ms_ssim=ms_ssim, **{**empty, **facts})  # type: ignore[arg-type]


RUNGS = (
    rung("clean", 1.0),
    rung("noise", 0.98, amount=18.0),
    rung("soft", 0.9, pair=7),
    rung("softsharp", 0.91, pair=7, amount=2.0),
    rung("codec", 0.99, codec="av1", damage=0.2),
    rung("codec", 0.9, codec="av1", damage=0.9),
    rung("codec", 0.8, codec="x264", damage=0.9),
    rung("size", 0.7, lines=180),
    rung("size", 0.97, lines=720),
)


def test_pairs_are_those_that_a_scorer_gets_wrong() -> None:
    """Each is (worse, better) by its labels, of one family; rates of two encoders are never compared."""
    random, labels = np.random.default_rng(0), quality_labels(RUNGS)
    seen = set()
    for _ in range(40):
        rows, pairs = draw_pairs(RUNGS, 9, random)
        assert len(rows) == 9
        assert RUNGS[rows[0]].kind == "clean"
        for worse, better in ((rows[worse], rows[better]) for worse, better in pairs):
            assert labels[worse] < labels[better]
            seen.add((RUNGS[worse].kind, RUNGS[better].kind))
            assert RUNGS[worse].codec == RUNGS[better].codec
    assert seen == {("noise", "clean"), ("softsharp", "soft"), ("codec", "codec"), ("size", "size")}


def test_few_rungs_leave_pairs_out() -> None:
    """A pair is only kept when both of its rungs are."""
    rows, pairs = draw_pairs(RUNGS, 3, np.random.default_rng(0))
    assert len(rows) == 3
    assert all(max(pair) < 3 for pair in pairs)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four scenes of random texture, each clean and with stripes of three strengths, that both teachers see."""
    folder, random = tmp_path_factory.mktemp("scenes"), np.random.default_rng(3)
    files = []
    for number in range(4):
        strengths = (0, 15, 30, 60)
        tiles = {}
        for name, shape in SHAPES.items():
            texture = random.integers(60, 190, shape)
            stripes = np.where(np.arange(shape[2]) % 2, 1, -1)[:, None]
            tiles[name] = np.stack([np.clip(texture + s * stripes, 0, 255).astype(np.uint8) for s in strengths])
        rungs = tuple(rung("clean" if not s else "blur", 1 - s / 100, amount=s / 15) for s in strengths)
        scene = LadderScene(source=f"{number:016d}", kind="pristine", number=0, rungs=rungs, tiles=tiles)
        files.append(write_scene(scene, folder))
    return files


CONFIG = TrunkTuningConfig(steps=0, steps_without_photos=25, scenes=2, rungs=4, photos=0, averaging=0.3)


def small_network() -> Lite2:
    torch.manual_seed(0)
    return Lite2(Lite2Config()).eval()


def test_tuning_makes_the_fault_easier_to_see(scenes: list[Path]) -> None:
    """Features of a clean and a striped tile are further apart, measured by how far clean tiles lie from each other."""

    def separation(network: Lite2) -> float:
        random = np.random.default_rng(9)
        clean = random.integers(60, 190, (8, 1, 192, 256, 3))
        striped = np.clip(clean + 15 * np.where(np.arange(256) % 2, 1, -1)[:, None], 0, 255)
        groups = [
            [pictures.repeat(count, 1).astype(np.uint8) for count, _ in network.config.groups]
            for pictures in (clean, striped)
        ]
        a, b = (tile_features(network, group) for group in groups)
        return float(np.abs((a.mean(0) - b.mean(0)) / (a.std(0) + 1e-3)).mean())

    network = small_network()
    before = separation(network)
    tune_trunk(network, scenes, [], CONFIG)
    assert separation(network) > 1.2 * before


def test_without_steps_the_trunk_stays(scenes: list[Path]) -> None:
    """Not one weight changes."""
    network, same = small_network(), small_network()
    tune_trunk(network, scenes, [], replace(CONFIG, steps_without_photos=0))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), same.parameters(), strict=True))


def test_data_that_cannot_be_read_is_named(scenes: list[Path], tmp_path: Path) -> None:
    """Too few scenes, and a photo that is none: the error of the reading process arrives."""
    with pytest.raises(DataError, match="make more of them"):
        tune_trunk(small_network(), scenes[:1], [], CONFIG)
    broken = tmp_path / "photo.jpg"
    broken.write_bytes(b"no picture")
    photos = [ScoredPhoto(file=broken, score=50.0)]
    with pytest.raises(DataError, match=r"photo\.jpg"):
        tune_trunk(small_network(), scenes, photos, replace(CONFIG, steps=1, photos=1))
