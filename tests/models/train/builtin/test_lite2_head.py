"""The closed-form head of lite@2: differences within scenes count, and the network computes what was fitted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import timm  # noqa: E402

from models.export.pair import to_network_input  # noqa: E402
from models.networks.lite2 import DEGRADATIONS, MEAN, STD, Lite2, Lite2Config  # noqa: E402
from models.train.builtin.lite2_head import (  # noqa: E402
    Lite2TrainingConfig,
    Penalty,
    PhotoFeatures,
    RungFeatures,
    cross_predict,
    fit_head,
    interval_table,
    load_trunk,
    percentile_table,
    set_head,
    split_view,
    tile_features,
)
from models.weights import WeightsError  # noqa: E402
from vqmon.core.calibration import Calibration  # noqa: E402

pytestmark = pytest.mark.torch
CONFIG = Lite2TrainingConfig(ridge=1e-3)


def planted(*, scenes: int = 12, width: int = 6) -> RungFeatures:
    """Rungs whose labels are a linear function of standard normal features, plus an offset of their scene."""
    random = np.random.default_rng(1)
    numbers = np.repeat(np.arange(scenes), 20)
    features = random.standard_normal((len(numbers), width)) + 0.5 * random.standard_normal((scenes, width))[numbers]
    labels = features @ np.arange(1.0, width + 1)
    return RungFeatures(
        features=features,
        labels=labels,
        degradations=np.clip(features[:, :1] * np.linspace(0, 0.1, len(DEGRADATIONS)) + 0.5, 0, 1),
        scenes=numbers,
        kinds=np.where(np.arange(len(numbers)) % 20 == 0, "clean", "codec"),
    )


def test_the_planted_function_is_found() -> None:
    """And stays the same when whole scenes are moved: only differences within one content count."""
    rungs = planted()
    moved = replace(rungs, labels=rungs.labels + 30 * rungs.scenes)
    slopes = [head.weights / head.scale for head in (fit_head(rungs, None, CONFIG), fit_head(moved, None, CONFIG))]
    np.testing.assert_allclose(slopes[0], np.arange(1.0, 7.0), rtol=1e-3)
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-6)


def test_photos_decide_where_ladders_say_nothing() -> None:
    """A feature that is constant in the ladders gets its weight from the photos."""
    rungs, random = planted(), np.random.default_rng(2)
    rungs.features[:, 5] = 0
    photos = PhotoFeatures(features=random.standard_normal((300, 6)), scores=np.zeros(300))
    photos.scores[:] = photos.features @ np.array([1.0, 2, 3, 4, 5, 9])
    without, with_photos = fit_head(rungs, None, CONFIG), fit_head(rungs, photos, CONFIG)
    assert abs(without.weights[5] / without.scale[5]) < 0.01
    assert with_photos.weights[5] / with_photos.scale[5] == pytest.approx(9, rel=0.02)


def test_sharpened_rungs_count_more() -> None:
    """Where they contradict the others, a larger weight brings the head closer to them."""
    rungs = planted()
    is_sharp = np.arange(len(rungs.labels)) % 4 == 1
    rungs = replace(rungs, kinds=np.where(is_sharp, "sharp", rungs.kinds))
    rungs.labels[is_sharp] *= -1
    errors = []
    for weight in (1.0, 30.0):
        head = fit_head(rungs, None, replace(CONFIG, kind_weights={"sharp": weight}))
        errors.append(float(np.abs(head.predict(rungs.features) - rungs.labels)[is_sharp].mean()))
    assert errors[1] < errors[0]


@pytest.fixture(scope="module")
def network() -> Lite2:
    """Random weights."""
    torch.manual_seed(3)
    return Lite2(Lite2Config()).eval()


def test_the_network_computes_what_was_fitted(network: Lite2) -> None:
    """Features of tiles, standardised and read by the head, with a penalty for sharpening: the network's output."""
    view = network.config.view
    pictures = np.random.default_rng(4).integers(0, 256, (2, view.height, view.width, 3)).astype(np.uint8)
    features = tile_features(network, split_view(network, pictures))
    random = np.random.default_rng(5)
    count = features.shape[1]
    population = features.mean(0) + 0.3 * random.standard_normal((60, count))
    rungs = RungFeatures(
        features=population, labels=random.uniform(0, 100, 60), degradations=random.uniform(0, 1, (60, 7)),
        scenes=np.arange(60) // 20, kinds=np.where(np.arange(60) % 20 == 0, "clean", "codec"),
    )  # fmt: skip
    head = fit_head(rungs, None, Lite2TrainingConfig(penalties={"over_sharpening": Penalty(limit=-1.0, gain=50.0)}))
    unpunished = replace(head, penalty_gains=np.zeros(len(DEGRADATIONS)))
    assert (head.predict(features) < unpunished.predict(features) - 5).all()
    set_head(network, head)
    pixels = torch.from_numpy(to_network_input(pictures, mean=MEAN, std=STD))
    with torch.inference_mode():
        scores, degradations = network(pixels)
    np.testing.assert_allclose(scores.numpy(), head.predict(features), atol=0.01)
    assert degradations.shape == (2, len(DEGRADATIONS))


def test_the_published_trunk_is_read_in_its_own_layout(network: Lite2, tmp_path: Path) -> None:
    """Other names in the same order, and strides that are not contiguous; another network is refused."""
    torch.manual_seed(6)
    source = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    strided = [tensor.T.contiguous().T if tensor.ndim == 2 else tensor for tensor in source.state_dict().values()]
    file = tmp_path / "lite0.pth"
    torch.save({f"layer{index}": tensor for index, tensor in enumerate(strided)}, file)
    fresh = Lite2(Lite2Config()).eval()
    load_trunk(fresh, file)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected, maps = source.bn1(source.conv_stem(pixels)), fresh.stem(pixels)
        torch.testing.assert_close(maps, expected)
        for stage, block in zip(fresh.stages, source.blocks, strict=False):
            maps, expected = stage(maps), block(expected)
        torch.testing.assert_close(maps, expected)
    with pytest.raises(WeightsError, match="another version"):
        load_trunk(fresh, file, sha256="0" * 64)
    torch.save({"layer": torch.zeros(3)}, file)
    with pytest.raises(WeightsError, match="EfficientNet-Lite0"):
        load_trunk(fresh, file)


def test_scales_of_photos_come_from_heads_that_have_not_seen_them() -> None:
    """Predictions of noise do not follow it; percentiles span 0..100, and the interval holds its coverage."""
    rungs, random = planted(), np.random.default_rng(7)
    noise = PhotoFeatures(features=random.standard_normal((400, 6)), scores=random.uniform(0, 100, 400))
    natives = cross_predict(rungs, noise, CONFIG, folds=4, uses_photos=True)
    assert abs(float(np.corrcoef(natives, noise.scores)[0, 1])) < 0.15
    table = percentile_table(natives, "noise")
    assert (table.points[0][1], table.points[-1][1]) == (0, 100)
    assert table.apply(float(np.median(natives))) == pytest.approx(50, abs=0.01)
    calibration = Calibration(version=1, points=((-60.0, 0.0), (60.0, 100.0)))
    interval = interval_table(natives, noise.scores, calibration, coverage=0.9, population="noise")
    values = [calibration.apply(native) for native in natives]
    inside = [
        interval.at(value).low <= score <= interval.at(value).high
        for value, score in zip(values, noise.scores, strict=True)
    ]
    assert 0.85 < np.mean(inside) < 0.95
