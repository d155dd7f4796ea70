"""BRISQUE: features as in numpy, a reader that orders unseen pictures, and a pair that the daemon serves."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models import MODELS_FOLDER  # noqa: E402
from models.commands import brisque as command  # noqa: E402
from models.data.csv_scores import DataError  # noqa: E402
from models.data.teachers.ladders import LadderScene, TaughtRung, write_scene  # noqa: E402
from models.networks.measures.brisque import TILE_HEIGHT, TILE_WIDTH, Brisque  # noqa: E402
from vqmon.media.measures.measure import Picture  # noqa: E402
from vqmon.media.measures.no_reference.natural_statistics import brisque_features  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import load_frame_spec  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

VARIANCES = [index for index in range(36) if index % 18 in (1, 4, 5, 8, 9, 12, 13, 16, 17)]


def picture(seed: int, *, blur: int = 0, noise: float = 0.0) -> np.ndarray:
    """A texture of several scales, smoothed or with noise, (192, 256, 3)."""
    random = np.random.default_rng(seed)
    luma = np.zeros((TILE_HEIGHT, TILE_WIDTH))
    for size, strength in ((4, 8), (8, 18), (32, 40)):
        coarse = random.normal(0, strength, (TILE_HEIGHT // size, TILE_WIDTH // size))
        luma += np.kron(coarse, np.ones((size, size)))
    for _ in range(blur):
        luma = (luma + np.roll(luma, 1, 0) + np.roll(luma, 1, 1) + np.roll(luma, (1, 1), (0, 1))) / 4
    luma = 128 + luma + random.normal(0, 3 + noise, luma.shape)
    return np.clip(luma[..., None] + np.zeros(3), 0, 255).astype(np.uint8)


def test_features_are_those_of_the_measure_in_numpy() -> None:
    """Variances as logarithms; shapes are interpolated instead of rounded to the grid."""
    pictures = [picture(1), picture(2, blur=4), picture(3, noise=25)]
    tiles = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        features = Brisque().tile_features(tiles).numpy()
    for found, each in zip(features, pictures, strict=True):
        expected = brisque_features(Picture(each))
        expected[VARIANCES] = np.log(expected[VARIANCES] + 1e-4)
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.02)


def test_one_colour_has_finite_features_and_a_score() -> None:
    with torch.inference_mode():
        tiles = torch.zeros(1, 3, 13 * TILE_HEIGHT, TILE_WIDTH)
        assert torch.isfinite(Brisque().tile_features(tiles[:, :, :TILE_HEIGHT])).all()
        assert torch.isfinite(Brisque().eval()(tiles)).all()


def scene(seed: int) -> LadderScene:
    """A clean picture, three times blurred, and three times noisy; the teachers' verdicts fall."""
    steps = [
        (0, 0.0, 97.0),
        (1, 0.0, 80.0),
        (3, 0.0, 50.0),
        (8, 0.0, 20.0),
        (0, 8.0, 85.0),
        (0, 20.0, 60.0),
        (0, 45.0, 30.0),
    ]
    plain = {"damage": 0.0, "codec": None, "lines": None, "factor": None, "pair": None, "network": None}
    rungs = tuple(
        TaughtRung(kind="clean" if number == 0 else "codec", amount=0.0, vmaf_neg=vmaf, ms_ssim=vmaf / 100, **plain)
        for number, (_, _, vmaf) in enumerate(steps)
    )
    tiles = np.stack([[picture(seed, blur=blur, noise=noise)] * 4 for blur, noise, _ in steps])
    small = np.zeros((len(steps), 1, 96, 128, 3), np.uint8)
    return LadderScene(
        source=f"{seed:016x}".ljust(64, "0"), kind="pristine", number=0, rungs=rungs,
        tiles={"canvas": tiles, "half": tiles[:, :2], "whole": small},
    )  # fmt: skip


@pytest.mark.slow
def test_from_ladders_to_a_pair_that_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints correlations on held-out pictures; the exported graph gives torch's scores."""
    options = argparse.Namespace(folder=tmp_path, built=tmp_path / "built", weights=None, version=1, threads=1)
    with pytest.raises(DataError, match="no ladders; make them first"):
        command.train(options)
    write_scene(scene(0), tmp_path)
    with pytest.raises(DataError, match="ladders of 1 pictures; to hold out one of 5 parts"):
        command.train(options)
    for seed in range(8):
        write_scene(scene(seed), tmp_path)
    command.train(options)
    line = capsys.readouterr().out
    assert "32 rungs of 8 pictures, each held out" in line
    assert float(line.split("SRCC ")[1][:5]) > 0.7
    options.weights = tmp_path / "brisque.pt"
    command.export(options)
    assert any(text.startswith("torch against ONNX") for text in command.verify(options))
    assert load_frame_spec(options.built / "brisque@1.json").licence.commercial
    assert "brisque@1" in command.card(options)


def test_the_recipe_is_read_and_a_ridge_of_nothing_refused() -> None:
    recipe = command.read_recipe(MODELS_FOLDER / "brisque.toml")
    with pytest.raises(ValueError, match="ridge"):
        dataclasses.replace(recipe, ridge=0)
