"""Lite's weights out of its shipped graph: the network says what the graph says."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402

from models.export.pair import TILES_VIEW, run_onnx, to_network_input  # noqa: E402
from models.train.features.lite_weights import LITE_ONNX, lite_config, read_lite_weights  # noqa: E402
from models.weights import WeightsError  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import golden_frames  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_the_network_scores_as_the_graph_does() -> None:
    """Of patterns and of noise, within 1e-4; nothing of it learns any more."""
    lite = read_lite_weights(LITE_ONNX, lite_config())
    noise = np.random.default_rng(0).integers(0, 256, (2, TILES_VIEW.height, TILES_VIEW.width, 3)).astype(np.uint8)
    pictures = np.concatenate([golden_frames(TILES_VIEW, seed=7, frames=3), noise])
    with torch.inference_mode():
        ours = lite(torch.from_numpy(to_network_input(pictures))).numpy()
    np.testing.assert_allclose(ours, run_onnx(LITE_ONNX, pictures, threads=1), atol=1e-4)
    assert not any(each.requires_grad for each in lite.parameters())


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("trunk.blocks.3.1.dw_mid.conv.weight_bias", "its norms are not folded"),
        ("scale.running_var", r"has no scale\.running_var"),
    ],
)
def test_another_graph_is_refused(tmp_path: Path, lost: str, message: str) -> None:
    """One that lacks what this network needs; the file and the name are said."""
    model = onnx.load(str(LITE_ONNX))
    initializers = [each for each in model.graph.initializer if each.name != lost]
    del model.graph.initializer[:]
    model.graph.initializer.extend(initializers)
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(WeightsError, match=message):
        read_lite_weights(tmp_path / "other.onnx", lite_config())
