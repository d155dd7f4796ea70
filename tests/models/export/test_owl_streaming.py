"""mPLUG-Owl2 from a checkpoint layer by layer gives what the network in memory gives."""

from fnmatch import fnmatchcase
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from models.export.owl_streaming import (  # noqa: E402
    OPTIONAL_TENSORS,
    expected_shapes,
    head_rows,
    iterate_layers,
    load_encoder,
    reference_logits,
    text_embeddings,
    with_position_tables,
)
from models.networks.owl.abstractor import AbstractorConfig  # noqa: E402
from models.networks.owl.language import LanguageConfig  # noqa: E402
from models.networks.owl.owl import PICTURE_TOKEN, Owl, OwlConfig  # noqa: E402
from models.networks.owl.q_align import MEAN, STD  # noqa: E402
from models.networks.owl.vision import VisionConfig  # noqa: E402
from tests.models.owl_weights import network, random_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CONFIG = OwlConfig(
    vision=VisionConfig(width=8, inner_width=16, depth=1, heads=2, image=28),
    abstractor=AbstractorConfig(queries=3, width=8, inner_width=12, depth=2, heads=2, vision_width=8, grid=2),
    language=LanguageConfig(vocabulary=20, width=16, inner_width=24, depth=3, heads=2, longest=64),
)
VIDEO = (1, 5, PICTURE_TOKEN, 7, 2)
PAIR = (4, PICTURE_TOKEN, 3, PICTURE_TOKEN, 9, 8, 6)
LEVELS = [11, 2, 19]


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    return random_weights(CONFIG)


def picture_features(frames: int, *, seed: int = 1) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, CONFIG.tokens_per_picture, CONFIG.language.width, generator=generator)


def test_expected_shapes_are_those_of_the_network() -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in Owl(CONFIG).state_dict().items()}
    assert {name: tuple(shape) for name, shape in expected_shapes(CONFIG).items()} == expected


def test_only_position_tables_are_optional(weights: dict[str, Any]) -> None:
    optional = {
        name for name in expected_shapes(CONFIG) if any(fnmatchcase(name, pattern) for pattern in OPTIONAL_TENSORS)
    }
    assert optional == expected_shapes(CONFIG).keys() - weights.keys()
    assert len(optional) == 2 * CONFIG.abstractor.depth


def test_missing_position_tables_are_those_of_the_network(weights: dict[str, Any]) -> None:
    completed = with_position_tables(weights, CONFIG)
    state = Owl(CONFIG).state_dict()
    assert set(completed) == set(state)
    for name in state.keys() - weights.keys():
        assert torch.equal(completed[name], state[name])
    assert not any("pos_embed" in name for name in weights)


def test_position_tables_of_the_checkpoint_are_used(weights: dict[str, Any]) -> None:
    """A table in the checkpoint is not replaced; the other ones are computed."""
    name = "model.visual_abstractor.encoder.layers.1.crossattention.attention.q_pos_embed"
    trained = torch.full((3, 8), 0.25)
    completed = with_position_tables({**weights, name: trained}, CONFIG)
    assert completed[name] is trained
    assert set(completed) == set(expected_shapes(CONFIG))


def test_the_encoder_takes_bytes_and_gives_the_networks_features(weights: dict[str, Any]) -> None:
    pixels = torch.randint(0, 256, (2, 3, 28, 28), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    with torch.inference_mode():
        actual = load_encoder(weights, CONFIG)(pixels)
        expected = network(weights, CONFIG).encode_pictures((pixels / 255 - mean) / std)
    assert actual.shape == (2, 4, 16)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_half_precision_checkpoints_are_read_as_float32(weights: dict[str, Any]) -> None:
    """All parameters are float32 and frozen, and have the values of the checkpoint."""
    half = {name: tensor.bfloat16() for name, tensor in weights.items()}
    encoder = load_encoder(half, CONFIG)
    assert not encoder.training
    for name, parameter in encoder.named_parameters():
        assert (parameter.dtype, parameter.requires_grad) == (torch.float32, False)
        assert torch.equal(parameter, half[f"model.{name}"].float())
    assert text_embeddings(half, VIDEO).dtype == head_rows(half, LEVELS).dtype == torch.float32


def test_layers_come_in_order_with_their_own_weights(weights: dict[str, Any]) -> None:
    count = 0
    for index, layer in enumerate(iterate_layers(weights, CONFIG)):
        for name, tensor in layer.state_dict().items():
            assert torch.equal(tensor, weights[f"model.layers.{index}.{name}"])
        count += 1
    assert count == CONFIG.language.depth


def test_a_missing_tensor_is_named(weights: dict[str, Any]) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    without = {key: tensor for key, tensor in weights.items() if key != name}
    layers = iterate_layers(without, CONFIG)
    next(layers)
    with pytest.raises(KeyError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        next(layers)


def test_embeddings_skip_pictures_and_head_rows_keep_their_order(weights: dict[str, Any]) -> None:
    table, head = weights["model.embed_tokens.weight"], weights["lm_head.weight"]
    assert torch.equal(text_embeddings(weights, PAIR), table[[4, 3, 9, 8, 6]])
    assert torch.equal(head_rows(weights, LEVELS), torch.stack([head[11], head[2], head[19]]))


def test_layer_by_layer_is_the_plain_network(weights: dict[str, Any]) -> None:
    """Prompts of different lengths, run together from the checkpoint, have the logits of the network in memory."""
    first, second = picture_features(1, seed=7), picture_features(1, seed=8)
    prompts = [(VIDEO, [picture_features(2)]), (PAIR, [first, second]), (PAIR, [second, first])]
    actual = reference_logits(weights, CONFIG, prompts, head=head_rows(weights, LEVELS))
    plain = network(weights, CONFIG)
    with torch.inference_mode():
        expected = torch.stack([plain.logits(ids, pictures)[LEVELS] for ids, pictures in prompts])
    assert actual.shape == (3, 3)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert (actual[1] - actual[2]).abs().max() > 1e-3
