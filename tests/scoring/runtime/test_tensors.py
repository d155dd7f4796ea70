"""Pixels to tensors: layout, numbers and types."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from tests.scoring.tiny_onnx import PLAIN, pictures, tiny_spec
from vqmon.scoring.manifests.frame_scorer import InputSpec
from vqmon.scoring.runtime.tensors import to_tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def spec() -> InputSpec:
    return replace(tiny_spec(PLAIN.to_bytes()).input, mean=MEAN, std=STD)


# float16 keeps 11 bits, and normalised pixels stay below 4.
@pytest.mark.parametrize(("dtype", "off_by"), [("float32", 1e-6), ("float16", 2e-3)])
def test_pixels_are_normalised_per_channel(
    spec: InputSpec, dtype: Literal["float32", "float16"], off_by: float
) -> None:
    """(pixel / 255 - mean) / std, channels first, contiguous."""
    pixels = pictures(3)
    tensor = to_tensor(pixels, replace(spec, dtype=dtype))
    wanted = ((pixels / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    assert tensor.dtype == np.dtype(dtype)
    assert tensor.shape == (3, 3, 8, 16)
    assert tensor.flags.c_contiguous
    assert np.abs(tensor - wanted).max() <= off_by


def test_uint8_pixels_are_not_normalised(spec: InputSpec) -> None:
    """They are only transposed."""
    pixels = pictures(2)
    tensor = to_tensor(pixels, replace(spec, dtype="uint8", mean=(0, 0, 0), std=(1, 1, 1)))
    assert tensor.flags.c_contiguous
    assert (tensor == pixels.transpose(0, 3, 1, 2)).all()


def test_the_pixels_are_not_modified(spec: InputSpec) -> None:
    """They may be read-only."""
    pixels = pictures(1)
    pixels.flags.writeable = False
    assert (to_tensor(pixels, spec) == to_tensor(pixels, spec)).all()
