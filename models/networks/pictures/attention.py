"""Attention over several heads, for networks whose parameter names leave its projections to them."""

from torch import Tensor, nn


def attend(query: Tensor, key: Tensor, value: Tensor, *, heads: int) -> Tensor:
    """Queries (pictures, tokens, width), keys and values (pictures, others, width) -> (pictures, tokens, width)."""
    query, key, value = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key, value))
    return nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
