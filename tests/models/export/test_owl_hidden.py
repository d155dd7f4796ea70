"""The hidden state that RQ-VQA takes from Q-Align, against the plain network, in torch and as a graph."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models import MODELS_FOLDER  # noqa: E402
from models.export import graphs, owl, owl_hidden  # noqa: E402
from models.export.assembly import published  # noqa: E402
from models.export.owl_recipes import q_align_recipe  # noqa: E402
from models.export.owl_streaming import text_embeddings  # noqa: E402
from models.export.pair import read_manifest_facts  # noqa: E402
from models.networks.owl import q_align  # noqa: E402
from models.verify import assembly  # noqa: E402
from models.weights import WeightsError  # noqa: E402
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
        rows = [
            [net.hidden_states(owl_hidden.HIDDEN_STATE_PROMPT, [half[None]])[0].mean(0) for half in unit]
            for unit in features
        ]
    return features, torch.stack([torch.stack(row).mean(0) for row in rows])


def test_it_is_the_mean_state_of_the_plain_network(weights: dict[str, Any], expected: tuple[Any, Any]) -> None:
    """All tokens of the prompt and of the picture, both halves alike."""
    net = owl_hidden.MeanHiddenState(CONFIG, text_embeddings(weights, owl_hidden.HIDDEN_STATE_PROMPT))
    net.load_state_dict({name: weights[f"model.{name}"] for name in net.state_dict()})
    with torch.inference_mode():
        torch.testing.assert_close(net.eval()(expected[0]), expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_checkpoint_becomes_graphs_that_say_the_same(weights: dict[str, Any], tmp_path: Path, precision: str) -> None:
    """From pixels of both halves; the sheet holds what the plain network says, read a layer at a time; units together
    and alone."""
    sheet = written(weights, tmp_path, precision=precision)
    assert len(assembly.verify_assembly(sheet)) == 6
    pixels = np.random.default_rng(1).integers(0, 256, (3, 2, 3, 448, 448), dtype=np.uint8)
    output = assembly.AssemblyRunner(sheet).run({"halves": pixels})
    net = network(weights)
    with torch.inference_mode():
        for unit, seen, thought in zip(pixels, output["q-align-encoder"], output["llm"], strict=True):
            features = net.encode_pictures(torch.from_numpy(q_align.normalise_pictures(unit.transpose(0, 2, 3, 1))))
            means = [net.hidden_states(owl_hidden.HIDDEN_STATE_PROMPT, [half[None]])[0].mean(0) for half in features]
            for actual, wanted in ((seen, features.numpy()), (thought, torch.stack(means).mean(0).numpy())):
                assert np.abs(actual - wanted).max() <= assembly.RELATIVE_TOLERANCE[precision] * np.abs(wanted).max()


def test_the_encoder_is_the_scorers_own_file(weights: dict[str, Any], tmp_path: Path) -> None:
    """Written before or after it, byte for byte the same; one of other weights is not written over."""
    recipe = q_align_recipe(read_manifest_facts(MODELS_FOLDER / "q_align.facts.toml"), config=CONFIG)
    owl.write_level_scorer(
        recipe, weights, precision="fp32", folder=tmp_path, max_embedded_bytes=graphs.MAX_EMBEDDED_BYTES
    )
    file = tmp_path / "q-align-fp32@1.encoder.onnx"
    before = file.read_bytes()
    written(weights, tmp_path)
    assert file.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    with pytest.raises(WeightsError, match=r"q-align-fp32@1\.encoder\.onnx exists and has other weights"):
        written(random_weights(seed=1), tmp_path)
    assert file.read_bytes() == before


def written(weights: dict[str, Any], folder: Path, *, precision: str = "fp32") -> Path:
    sheet, facts = folder / f"q-align-hidden-{precision}@1.parts.json", published.read_scorer_facts("q_align_hidden")
    limit = graphs.MAX_EMBEDDED_BYTES
    return owl_hidden.write_hidden_scorer(
        CONFIG, weights, facts, precision=precision, sheet=sheet, max_embedded_bytes=limit
    )
