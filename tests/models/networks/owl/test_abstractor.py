"""The visual abstractor: position tables, attention of queries to themselves and the picture, and the output tokens."""

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.networks.owl.abstractor import (  # noqa: E402
    Abstractor,
    AbstractorConfig,
    grid_position_table,
    sine_position_table,
)
from tests.models.conftest import OwlGoldens  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CONFIG = AbstractorConfig(queries=3, width=8, inner_width=12, depth=1, heads=2, vision_width=8, grid=2)
OUT_WIDTH = 6


@pytest.fixture
def abstractor() -> Abstractor:
    torch.manual_seed(0)
    network = Abstractor(CONFIG, OUT_WIDTH).eval().requires_grad_(requires_grad=False)
    network.query_embeds.normal_()
    network.vit_eos.normal_()
    return network


def vision_tokens(batch: int) -> Any:
    return torch.randn(batch, 1 + CONFIG.grid**2, CONFIG.vision_width, generator=torch.Generator().manual_seed(1))


def test_sine_tables_hold_sines_before_cosines() -> None:
    """Width 4 has the frequencies 1 and 0.01."""
    expected = [[math.sin(p), math.sin(0.01 * p), math.cos(p), math.cos(0.01 * p)] for p in range(3)]
    np.testing.assert_allclose(sine_position_table(4, 3).numpy(), expected, atol=1e-6)


def test_sine_tables_take_positions_in_any_order() -> None:
    table = sine_position_table(6, torch.tensor([4, 0, 2]))
    assert torch.equal(table, sine_position_table(6, 5)[[4, 0, 2]])


def test_grid_tables_hold_the_column_before_the_row() -> None:
    """The class token has zeros; patches follow row by row."""
    table, line = grid_position_table(8, 3), sine_position_table(4, 3)
    assert table.shape == (10, 8)
    assert not table[0].any()
    for row in range(3):
        for column in range(3):
            assert torch.equal(table[1 + 3 * row + column], torch.cat([line[column], line[row]]))


@pytest.mark.fixtures
def test_position_tables_are_the_published_ones(owl_goldens: OwlGoldens) -> None:
    """The rows that were recorded of both tables, tiny and full."""
    for kind, width in (("tiny", 64), ("full_width", 1024)):
        archive = owl_goldens.archive(kind)
        rows = sine_position_table(width, 64)[[0, 1, 2, 31, 63]]
        recorded = archive[f"{kind}/tables/q_pos_embed_rows_0_1_2_31_63"]
        np.testing.assert_allclose(rows.numpy(), recorded, rtol=0, atol=1e-5)
        rows = grid_position_table(width, 32)[[0, 1, 2, 32, 33, 34, 512, 1024]]
        recorded = archive[f"{kind}/tables/k_pos_embed_rows_0_1_2_32_33_34_512_1024"]
        np.testing.assert_allclose(rows.numpy(), recorded, rtol=0, atol=1e-5)


def test_a_picture_becomes_its_queries_and_a_constant_last_token(abstractor: Abstractor) -> None:
    tokens = abstractor(vision_tokens(2))
    assert tokens.shape == (2, CONFIG.queries + 1, OUT_WIDTH)
    assert torch.equal(tokens[:, -1], abstractor.vit_eos[0].expand(2, -1))
    assert (tokens[0, :-1] - tokens[1, :-1]).abs().max() > 1e-3


def test_pictures_of_a_batch_do_not_affect_each_other(abstractor: Abstractor) -> None:
    vision = vision_tokens(2)
    alone = torch.cat([abstractor(picture[None]) for picture in vision])
    torch.testing.assert_close(abstractor(vision), alone)


def test_the_residual_is_the_normalised_query(abstractor: Abstractor) -> None:
    """Without attention and MLP, the output is the query after its norm, whatever the picture."""
    block = abstractor.encoder.layers[0].crossattention
    for linear in (block.output.out_proj, block.output.mlp.w2):
        linear.weight.zero_()
        linear.bias.zero_()
    expected = abstractor.visual_fc(block.norm1(abstractor.query_embeds)).expand(2, -1, -1)
    torch.testing.assert_close(abstractor(vision_tokens(2))[:, :-1], expected)


def test_attention_adds_positions_to_queries_and_keys_but_not_to_values(abstractor: Abstractor) -> None:
    """Softmax attention computed head by head, over the queries and then the vision tokens."""
    attention = abstractor.encoder.layers[0].crossattention.attention
    queries, vision = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(2)), vision_tokens(1)
    inputs = torch.cat([queries, vision], dim=1)[0]
    positions = torch.cat([sine_position_table(8, 3), grid_position_table(8, 2)])
    query, key = attention.query(queries[0] + positions[:3]), attention.key(inputs + positions)
    value = attention.value(inputs)
    heads = [
        (query[:, head] @ key[:, head].T / math.sqrt(4)).softmax(dim=-1) @ value[:, head]
        for head in (slice(0, 4), slice(4, 8))
    ]
    torch.testing.assert_close(attention(queries, vision)[0], torch.cat(heads, dim=1))


def test_moved_patches_change_the_tokens(abstractor: Abstractor) -> None:
    """The same patches in another order are another picture."""
    vision = vision_tokens(1)
    moved = vision[:, [0, 4, 3, 2, 1]]
    assert (abstractor(vision) - abstractor(moved)).abs().max() > 1e-4


def test_position_tables_are_part_of_the_checkpoint(abstractor: Abstractor) -> None:
    prefix = "encoder.layers.0.crossattention.attention."
    state = abstractor.state_dict()
    assert torch.equal(state[f"{prefix}q_pos_embed"], sine_position_table(8, 3))
    assert torch.equal(state[f"{prefix}k_pos_embed"], grid_position_table(8, 2))
