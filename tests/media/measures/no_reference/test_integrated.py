"""IL-NIQE: values as the authors' features and formula give them, templates of one's own, and what is refused."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.media.measures import pictures
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.no_reference.integrated import (
    IL_NIQE,
    Template,
    fit_template,
    il_niqe,
    load_template,
    sharp_features,
)


def test_damage_raises_the_value_of_the_template_that_ships() -> None:
    """The formula gives the values that the authors published for their pictures with their template, to 1e-4."""
    scene = pictures.scene()
    clean, noisy = (IL_NIQE.compute(None, Picture(rgb)) for rgb in (scene, pictures.noisy(scene, 40)))

    assert (clean, noisy) == pytest.approx((16.513812, 50.701503), rel=1e-4)


def test_a_template_survives_a_file_and_its_own_blocks_are_near(tmp_path: Path) -> None:
    picture = Picture(pictures.scene())
    blocks = sharp_features(picture)
    assert blocks.shape[1] == 468
    spread = np.random.default_rng(1).normal(0, 1, (600, 468)) * np.maximum(blocks.std(axis=0), 0.05)
    template = fit_template(blocks.mean(axis=0) + spread)
    arrays = {name: getattr(template, name) for name in ("feature_mean", "vectors", "mean", "covariance")}
    np.savez(tmp_path / "own.npz", **arrays)
    loaded = load_template(tmp_path / "own.npz")

    assert all(np.array_equal(getattr(loaded, name), array) for name, array in arrays.items())
    assert template.vectors.shape == (468, 430)
    # of 430 components, each of variance 1: near the root of 430 in the space of the template
    assert il_niqe(picture, loaded) < 60


def test_what_has_no_texture_is_nan() -> None:
    assert math.isnan(IL_NIQE.compute(None, Picture(np.zeros((64, 64, 3), np.uint8))))


def test_templates_of_another_shape_or_of_too_few_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="feature mean of 468"):
        Template(feature_mean=np.zeros(36), vectors=np.zeros((468, 2)), mean=np.zeros(2), covariance=np.eye(2))
    with pytest.raises(ValueError, match="at least 469 blocks, not 36"):
        fit_template(np.zeros((36, 468)))
