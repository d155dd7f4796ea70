"""Quantized weights against the originals."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from models.export import quantize  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_blocks_of_weights_come_back() -> None:
    """Packed weights differ from the originals by at most half a step, rows that do not fill a block included."""
    weight = torch.randn(75, 20, generator=torch.Generator().manual_seed(0))
    for bits in (4, 8):
        codes, scales, zeros = quantize.pack_blocks(weight, bits)
        if bits == 4:
            codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:2], -1)
            zeros = np.stack([zeros & 15, zeros >> 4], axis=-1).reshape(len(zeros), -1)[:, : scales.shape[1]]
        back = ((codes.astype(float) - zeros[..., None]) * scales[..., None]).reshape(20, -1)[:, :75].T
        slack = np.repeat(scales.T, quantize.BLOCK_SIZE, axis=0)[:75] * 0.501
        assert (np.abs(back - weight.numpy()) <= slack + 1e-6).all()
