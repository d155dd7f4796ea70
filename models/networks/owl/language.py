"""The language tower of mPLUG-Owl2: LLaMA whose norms, keys and values have a lane per modality; names as published."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

TEXT, PICTURE = 0, 1

Lanes = Sequence[tuple[int, int]]
"""The sequence cut into (lane, number of tokens), in order."""

Memory = tuple[Tensor, Tensor]
"""Keys, turned by their place, and values: (batch, heads, tokens, head width) each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageConfig:
    """Sizes of the language tower; the defaults are the published ones."""

    vocabulary: int = 32000
    width: int = 4096
    inner_width: int = 11008
    depth: int = 32
    heads: int = 32
    # of the trained positions
    longest: int = 2048
    eps: float = 1e-6
    base: float = 10000.0

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every layer needs to know about a sequence."""

    lanes: Lanes
    # (batch or 1, 1, tokens, head width)
    cosines: Tensor
    sines: Tensor
    # True = may look; (batch or 1, 1, tokens, remembered + tokens)
    mask: Tensor


class Multiway(nn.Module):
    """Two modules with one duty: `multiway.0` for text, `multiway.1` for pictures."""

    def __init__(self, text: nn.Module, picture: nn.Module) -> None:
        super().__init__()
        self.multiway = nn.ModuleList([text, picture])

    def forward(self, tokens: Tensor, lanes: Lanes) -> Tensor:
        # Cut and join, rather than gather and scatter: no shape depends on data, so ONNX needs neither NonZero nor If.
        parts = tokens.split([count for _, count in lanes], dim=1)
        done = [self.multiway[lane](part) for (lane, _), part in zip(lanes, parts, strict=True)]
        return torch.cat(done, dim=1) if len(done) > 1 else done[0]


class RmsNorm(nn.Module):
    """Divides by the root mean square, in float32."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.width))
        self.eps = config.eps

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.rms_norm(tokens, self.weight.shape, self.weight, self.eps)


class SelfAttention(nn.Module):
    """Causal attention; queries share one lane, keys and values have two."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.heads = config.heads
        width = config.width
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = Multiway(nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False))
        self.v_proj = Multiway(nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False))
        self.o_proj = nn.Linear(width, width, bias=False)

    def remember(self, tokens: Tensor, context: Context, past: Memory | None) -> Memory:
        """Keys and values of these tokens after those of the past."""
        keys = turn(self._split(self.k_proj(tokens, context.lanes)), context.cosines, context.sines)
        values = self._split(self.v_proj(tokens, context.lanes))
        if past is None:
            return keys, values
        return torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)

    def look(self, tokens: Tensor, context: Context, memory: Memory) -> Tensor:
        """What these tokens see."""
        queries = turn(self._split(self.q_proj(tokens)), context.cosines, context.sines)
        mixed = functional.scaled_dot_product_attention(queries, *memory, attn_mask=context.mask)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Mlp(nn.Module):
    """SwiGLU, shared by both lanes."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.inner_width, bias=False)
        self.up_proj = nn.Linear(config.width, config.inner_width, bias=False)
        self.down_proj = nn.Linear(config.inner_width, config.width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(tokens)) * self.up_proj(tokens))


class DecoderLayer(nn.Module):
    """One block; `forward` keeps every token, `last` gives the final token alone."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.input_layernorm = Multiway(RmsNorm(config), RmsNorm(config))
        self.self_attn = SelfAttention(config)
        self.post_attention_layernorm = Multiway(RmsNorm(config), RmsNorm(config))
        self.mlp = Mlp(config)

    def forward(self, tokens: Tensor, context: Context, past: Memory | None = None) -> tuple[Tensor, Memory]:
        normed = self.input_layernorm(tokens, context.lanes)
        memory = self.self_attn.remember(normed, context, past)
        tokens = tokens + self.self_attn.look(normed, context, memory)
        return tokens + self.mlp(self.post_attention_layernorm(tokens, context.lanes)), memory

    def last(self, tokens: Tensor, context: Context, past: Memory | None = None) -> Tensor:
        """(batch, 1, width): only keys and values need the others; the final token is text."""
        normed = self.input_layernorm(tokens, context.lanes)
        memory = self.self_attn.remember(normed, context, past)
        end = Context(
            lanes=[(TEXT, 1)],
            cosines=context.cosines[:, :, -1:],
            sines=context.sines[:, :, -1:],
            mask=context.mask[:, :, -1:],
        )
        token = tokens[:, -1:] + self.self_attn.look(normed[:, -1:], end, memory)
        return token + self.mlp(self.post_attention_layernorm(token, end.lanes))


def turn(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary places in the order of Hugging Face's LLaMA: halves, not pairs."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cosines + torch.cat([-second, first], dim=-1) * sines


def rotary_tables(config: LanguageConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines (longest, head width) of every place."""
    half = torch.arange(0, config.head_width, 2, dtype=torch.int64).float() / config.head_width
    angles = torch.outer(torch.arange(config.longest).float(), 1.0 / config.base**half)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def whole_context(config: LanguageConfig, lanes: Lanes, *, dtype: torch.dtype, device: torch.device) -> Context:
    """The context of a sequence from its first token on."""
    count = sum(size for _, size in lanes)
    cosines, sines = (table[:count].to(device, dtype)[None, None] for table in rotary_tables(config))
    mask = torch.ones(count, count, dtype=torch.bool, device=device).tril()[None, None]
    return Context(lanes=lanes, cosines=cosines, sines=sines, mask=mask)
