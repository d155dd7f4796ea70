"""Decoder layers of mPLUG-Owl2: cached keys and values, the last token alone, modalities, rotary positions."""

import pytest

torch = pytest.importorskip("torch")

from models.networks.owl.language import (  # noqa: E402
    PICTURE,
    TEXT,
    AttentionContext,
    DecoderLayer,
    LanguageConfig,
    apply_rotary,
    causal_context,
    rotary_tables,
)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CONFIG = LanguageConfig(width=16, inner_width=24, depth=1, heads=2, longest=32)


@pytest.fixture(scope="module")
def layer() -> DecoderLayer:
    torch.manual_seed(0)
    return DecoderLayer(CONFIG).eval().requires_grad_(requires_grad=False)


def context_of(*spans: tuple[int, int]) -> AttentionContext:
    return causal_context(CONFIG, list(spans), dtype=torch.float32, device=torch.device("cpu"))


def test_the_last_token_alone_is_that_of_the_whole_sequence(layer: DecoderLayer) -> None:
    """Picture tokens before it only give keys and values."""
    tokens, context = torch.randn(2, 7, 16), context_of((TEXT, 2), (PICTURE, 3), (TEXT, 2))
    whole, _ = layer(tokens, context)
    torch.testing.assert_close(layer.forward_last_token(tokens, context), whole[:, -1:])


def test_cached_keys_and_values_replace_the_earlier_tokens(layer: DecoderLayer) -> None:
    """A sequence in two runs gives what it gives in one."""
    tokens, context = torch.randn(1, 6, 16), context_of((TEXT, 6))
    whole, _ = layer(tokens, context)
    _, cached = layer(tokens[:, :4], context_of((TEXT, 4)))
    rest = AttentionContext(
        spans=[(TEXT, 2)],
        cosines=context.cosines[:, :, 4:],
        sines=context.sines[:, :, 4:],
        mask=context.mask[:, :, 4:],
    )
    torch.testing.assert_close(layer(tokens[:, 4:], rest, cached)[0], whole[:, 4:])


def test_later_tokens_have_no_effect_on_earlier_ones(layer: DecoderLayer) -> None:
    """Attention is causal."""
    tokens, context = torch.randn(1, 5, 16), context_of((TEXT, 5))
    changed = tokens.clone()
    changed[:, 3:] += 1
    before, after = layer(tokens, context)[0], layer(changed, context)[0]
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().max() > 1e-3


def test_modalities_have_norms_keys_and_values_of_their_own(layer: DecoderLayer) -> None:
    """The same tokens as text and as a picture give different outputs."""
    tokens = torch.randn(1, 4, 16)
    text, picture = (layer(tokens, context_of((modality, 4)))[0] for modality in (TEXT, PICTURE))
    assert (text - picture).abs().max() > 1e-3


def test_rotary_products_depend_on_the_distance_alone() -> None:
    """The product of a rotated query and key is the same at positions 2, 5 and 12, 15; lengths are kept."""
    cosines, sines = rotary_tables(CONFIG)
    query, key = torch.randn(8), torch.randn(8)

    def rotated(vector: torch.Tensor, position: int) -> torch.Tensor:
        return apply_rotary(vector, cosines[position], sines[position])

    torch.testing.assert_close(rotated(query, 2) @ rotated(key, 5), rotated(query, 12) @ rotated(key, 15))
    torch.testing.assert_close(rotated(query, 9).norm(), query.norm())
