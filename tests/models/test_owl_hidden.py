"""The hidden state that RQ-VQA takes from Q-Align, against the plain network, in torch and as a graph."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from models import graphs, owl_hidden, parts_verify, q_align, rich  # noqa: E402
from models.owl_stream import rows_of  # noqa: E402
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


@pytest.mark.parametrize("form", ["fp32", "fp16"])
def test_a_checkpoint_becomes_a_graph_that_says_the_same(
    weights: dict[str, Any], expected: tuple[Any, Any], tmp_path: Path, form: str
) -> None:
    """Its sheet holds what the plain network says, read a layer at a time; units together and alone."""
    sheet = tmp_path / f"q-align-hidden-{form}@1.parts.json"
    facts = rich.facts_of("q_align_hidden")
    owl_hidden.write_scorer(CONFIG, weights, facts, form=form, sheet=sheet, one_file_bytes=graphs.ONE_FILE_BYTES)
    assert len(parts_verify.verify(sheet)) == 3
    said = parts_verify.PartsRunner(sheet).run({"halves": expected[0].numpy()})["llm"]
    wanted = expected[1].numpy()
    assert np.abs(said - wanted).max() <= parts_verify.SLACK[form] * np.abs(wanted).max()


def test_a_picture_is_cut_in_the_middle() -> None:
    """The upper and the lower half, each padded to a square; an odd row goes to the lower one."""
    picture = Image.new("RGB", (64, 31))
    picture.paste((255, 255, 255), (0, 15, 64, 31))
    upper, lower = owl_hidden.halves(picture)
    assert upper.shape == (448, 448, 3)
    assert tuple(upper[224, 224]) == (0, 0, 0)
    assert tuple(lower[224, 224]) == (255, 255, 255)
    assert tuple(upper[0, 0]) == q_align.PAD_RGB
