"""The language tower of mPLUG-Owl2: LLaMA with separate norms, keys and values per modality; names as published."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

TEXT, PICTURE = 0, 1

ModalitySpans = Sequence[tuple[int, int]]
"""The sequence as runs of one modality: (modality, number of tokens), in order."""

KeyValues = tuple[Tensor, Tensor]
"""Rotated keys and values, each (batch, heads, tokens, head width)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageConfig:
    """Sizes of the language tower; the defaults are the published ones."""

    vocabulary: int = 32000
    width: int = 4096
    inner_width: int = 11008
    depth: int = 32
    heads: int = 32
    # number of trained positions
    longest: int = 2048
    eps: float = 1e-6
    base: float = 10000.0

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionContext:
    """What every decoder layer needs to know about a sequence."""

    spans: ModalitySpans
    # (batch or 1, 1, tokens, head width)
    cosines: Tensor
    sines: Tensor
    # True = may attend; (batch or 1, 1, tokens, earlier tokens + tokens)
    mask: Tensor


class _Multiway(nn.Module):
    """One module per modality: `multiway.0` for text, `multiway.1` for pictures."""

    def __init__(self, text: nn.Module, picture: nn.Module) -> None:
        super().__init__()
        self.multiway = nn.ModuleList([text, picture])

    def forward(self, tokens: Tensor, spans: ModalitySpans) -> Tensor:
        # Split and concatenate instead of gather and scatter: no shape depends on data, so ONNX needs no NonZero or If.
        parts = tokens.split([count for _, count in spans], dim=1)
        outputs = [self.multiway[modality](part) for (modality, _), part in zip(spans, parts, strict=True)]
        return torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]


class RmsNorm(nn.Module):
    """Root-mean-square norm."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.width))
        self.eps = config.eps

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.rms_norm(tokens, self.weight.shape, self.weight, self.eps)


class _SelfAttention(nn.Module):
    """Causal self-attention; queries share one projection, keys and values have one per modality."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.heads = config.heads
        width = config.width
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = _Multiway(nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False))
        self.v_proj = _Multiway(nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False))
        self.o_proj = nn.Linear(width, width, bias=False)

    def keys_and_values(self, tokens: Tensor, context: AttentionContext, earlier: KeyValues | None) -> KeyValues:
        """Keys and values of these tokens, appended to those of earlier tokens."""
        keys = apply_rotary(self._split(self.k_proj(tokens, context.spans)), context.cosines, context.sines)
        values = self._split(self.v_proj(tokens, context.spans))
        if earlier is None:
            return keys, values
        return torch.cat([earlier[0], keys], dim=2), torch.cat([earlier[1], values], dim=2)

    def attend(self, tokens: Tensor, context: AttentionContext, key_values: KeyValues) -> Tensor:
        """The attention output of these tokens."""
        queries = apply_rotary(self._split(self.q_proj(tokens)), context.cosines, context.sines)
        mixed = functional.scaled_dot_product_attention(queries, *key_values, attn_mask=context.mask)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class _Mlp(nn.Module):
    """SwiGLU, shared by both modalities."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.inner_width, bias=False)
        self.up_proj = nn.Linear(config.width, config.inner_width, bias=False)
        self.down_proj = nn.Linear(config.inner_width, config.width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(tokens)) * self.up_proj(tokens))


class DecoderLayer(nn.Module):
    """One decoder layer: `forward` computes every token, `forward_last_token` the last one alone."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.input_layernorm = _Multiway(RmsNorm(config), RmsNorm(config))
        self.self_attn = _SelfAttention(config)
        self.post_attention_layernorm = _Multiway(RmsNorm(config), RmsNorm(config))
        self.mlp = _Mlp(config)

    def forward(
        self, tokens: Tensor, context: AttentionContext, earlier: KeyValues | None = None
    ) -> tuple[Tensor, KeyValues]:
        normed = self.input_layernorm(tokens, context.spans)
        key_values = self.self_attn.keys_and_values(normed, context, earlier)
        tokens = tokens + self.self_attn.attend(normed, context, key_values)
        return tokens + self.mlp(self.post_attention_layernorm(tokens, context.spans)), key_values

    def forward_last_token(self, tokens: Tensor, context: AttentionContext, earlier: KeyValues | None = None) -> Tensor:
        """The last token (batch, 1, width), which must be text; the others only give keys and values."""
        normed = self.input_layernorm(tokens, context.spans)
        key_values = self.self_attn.keys_and_values(normed, context, earlier)
        last_context = AttentionContext(
            spans=[(TEXT, 1)],
            cosines=context.cosines[:, :, -1:],
            sines=context.sines[:, :, -1:],
            mask=context.mask[:, :, -1:],
        )
        token = tokens[:, -1:] + self.self_attn.attend(normed[:, -1:], last_context, key_values)
        return token + self.mlp(self.post_attention_layernorm(token, last_context.spans))


def apply_rotary(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding as in Hugging Face's LLaMA: halves of a head are rotated, not pairs."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cosines + torch.cat([-second, first], dim=-1) * sines


def rotary_tables(config: LanguageConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines (longest, head width) of all positions."""
    exponents = torch.arange(0, config.head_width, 2, dtype=torch.int64).float() / config.head_width
    angles = torch.outer(torch.arange(config.longest).float(), 1.0 / config.base**exponents)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def causal_context(
    config: LanguageConfig, spans: ModalitySpans, *, dtype: torch.dtype, device: torch.device
) -> AttentionContext:
    """The context of a whole sequence with a causal mask."""
    count = sum(size for _, size in spans)
    cosines, sines = (table[:count].to(device, dtype)[None, None] for table in rotary_tables(config))
    mask = torch.ones(count, count, dtype=torch.bool, device=device).tril()[None, None]
    return AttentionContext(spans=spans, cosines=cosines, sines=sines, mask=mask)
