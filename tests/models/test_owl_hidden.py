"""The hidden state that RQ-VQA takes from Q-Align, against the plain network, in torch and as a graph."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from models import graphs, owl_hidden, q_align  # noqa: E402
from models.owl_stream import rows_of  # noqa: E402
from models.parts_verify import open_graph  # noqa: E402
from tests.models.owl_weights import CONFIG, network, random_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    return random_weights()


@pytest.fixture(scope="module")
def expected(weights: dict[str, Any]) -> tuple[Any, Any]:
    """Features of three units' halves, and the mean over tokens and halves of the plain network's last states."""
    net, width = network(weights), CONFIG.language.width
    features = torch.randn(3, 2, 65, width, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        rows = [[net.hidden(owl_hidden.PROMPT, [half[None]])[0].mean(0) for half in unit] for unit in features]
    return features, torch.stack([torch.stack(row).mean(0) for row in rows])


def test_it_is_the_mean_state_of_the_plain_network(weights: dict[str, Any], expected: tuple[Any, Any]) -> None:
    """All tokens of the prompt and of the picture, both halves alike."""
    net = owl_hidden.HiddenMean(CONFIG, rows_of(weights, owl_hidden.PROMPT))
    net.load_state_dict({name: weights[f"model.{name}"] for name in net.state_dict()})
    with torch.inference_mode():
        torch.testing.assert_close(net.eval()(expected[0]), expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("form", "slack"), [("fp32", 1e-4), ("fp16", 5e-3)])
def test_the_graph_says_the_same(
    weights: dict[str, Any], expected: tuple[Any, Any], tmp_path: Path, form: str, slack: float
) -> None:
    """Units together and alone; no node that keeps a GPU waiting."""
    file = owl_hidden.write(
        CONFIG, weights, form=form, target=tmp_path / "x.onnx", one_file_bytes=graphs.ONE_FILE_BYTES
    )
    session = open_graph(file)
    features, wanted = expected[0].numpy(), expected[1].numpy()
    said = session.run(["hidden"], {"features": features})[0]
    assert np.abs(said - wanted).max() <= slack * np.abs(wanted).max()
    alone = session.run(["hidden"], {"features": features[1:2]})[0]
    assert np.abs(said[1:2] - alone).max() <= slack * np.abs(wanted).max()


def test_a_picture_is_cut_in_the_middle() -> None:
    """The upper and the lower half, each padded to a square; an odd row goes to the lower one."""
    picture = Image.new("RGB", (64, 31))
    picture.paste((255, 255, 255), (0, 15, 64, 31))
    upper, lower = owl_hidden.halves(picture)
    assert upper.shape == (448, 448, 3)
    assert tuple(upper[224, 224]) == (0, 0, 0)
    assert tuple(lower[224, 224]) == (255, 255, 255)
    assert tuple(upper[0, 0]) == q_align.PAD_RGB
