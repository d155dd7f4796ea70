"""CLIP with the parameter names of its published files: pictures and texts become vectors of one space.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.backbones.pixels import normalise

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
START_TOKEN, END_TOKEN = 49406, 49407
"""Token ids at the start and the end of every text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipConfig:
    """Sizes; the defaults are those of ViT-B/32."""

    side: int = 224
    patch: int = 32
    width: int = 768
    depth: int = 12
    text_width: int = 512
    text_depth: int = 12
    context: int = 77
    vocabulary: int = 49408
    joint: int = 512
    head: int = 64


def vit_l_14() -> ClipConfig:
    """Sizes of ViT-L/14."""
    return ClipConfig(patch=14, width=1024, depth=24, text_width=768, joint=768)


class ClipVisual(nn.Module):
    """The visual tower alone, under its published names."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisualTower(config)


NOT_IN_VISUAL = (
    "transformer.*", "token_embedding.*", "positional_embedding", "ln_final.*", "text_projection", "logit_scale",
)  # fmt: skip
"""Tensors of published files that belong to the text tower."""


class Clip(nn.Module):
    """Both towers; the parameters of the text tower are top-level, as published."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisualTower(config)
        self.transformer = _Transformer(config.text_width, config.text_depth, config.head)
        self.token_embedding = nn.Embedding(config.vocabulary, config.text_width)
        self.positional_embedding = nn.Parameter(torch.zeros(config.context, config.text_width))
        self.ln_final = nn.LayerNorm(config.text_width)
        self.text_projection = nn.Parameter(torch.zeros(config.text_width, config.joint))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def encode_text(self, ids: Tensor) -> Tensor:
        """Token ids (texts, tokens), each ended by the end token -> vectors (texts, joint), not normalised.

        Tokens after the end token have no effect, so `tokens` may be the length of the longest text.
        """
        return TextEncoder(self)(ids)


class TextEncoder(nn.Module):
    """The text tower: token ids (texts, tokens), each ended by the end token -> vectors (texts, joint)."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.transformer = clip.transformer
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.ln_final = clip.ln_final
        self.text_projection = clip.text_projection
        # the start and end tokens are the last two ids of any vocabulary
        self._end_token = clip.config.vocabulary - 1

    def forward(self, ids: Tensor) -> Tensor:
        count = ids.shape[1]
        tokens = self.token_embedding(ids) + self.positional_embedding[:count]
        causal_mask = torch.full((count, count), float("-inf"), dtype=tokens.dtype, device=tokens.device).triu(1)
        tokens = self.ln_final(self.transformer(tokens, causal_mask))
        ends = (ids == self._end_token).int().argmax(1)
        return tokens.gather(1, ends[:, None, None].expand(-1, 1, tokens.shape[2]))[:, 0] @ self.text_projection


class VisualTower(nn.Module):
    """Normalised pictures (pictures, 3, side, side) -> vectors (pictures, joint), not normalised."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, config.width, config.patch, stride=config.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(config.width))
        self.positional_embedding = nn.Parameter(torch.zeros((config.side // config.patch) ** 2 + 1, config.width))
        self.ln_pre = nn.LayerNorm(config.width)
        self.transformer = _Transformer(config.width, config.depth, config.head)
        self.ln_post = nn.LayerNorm(config.width)
        self.proj = nn.Parameter(torch.zeros(config.width, config.joint))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.ln_post(self.transformer(self.embed(pixels))[:, 0]) @ self.proj

    def embed(self, pixels: Tensor) -> Tensor:
        """Tokens (pictures, 1 + patches, width): the class token, then patches row by row."""
        return self.ln_pre(self._patch_tokens(pixels) + self.positional_embedding)

    def without_positions(self, pixels: Tensor) -> Tensor:
        """The vector of `forward` where no token has a position, so that `side` may be any multiple of a patch and
        more."""
        return self.ln_post(self.transformer(self.ln_pre(self._patch_tokens(pixels)))[:, 0]) @ self.proj

    def patch_vectors(self, pixels: Tensor) -> Tensor:
        """Vectors of the picture and of each patch (pictures, 1 + patches, joint), not normalised."""
        return self.ln_post(self.transformer(self.embed(pixels))) @ self.proj

    def _patch_tokens(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        class_token = self.class_embedding.expand(patches.shape[0], 1, -1)
        return torch.cat([class_token, patches], dim=1)


class PatchEncoder(nn.Module):
    """Pictures (pictures, 3, side, side) uint8 -> vectors of picture and patches (pictures, 1 + patches, joint)."""

    def __init__(self, visual: VisualTower) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pictures: Tensor) -> Tensor:
        return self.visual.patch_vectors(normalise(pictures, MEAN, STD, dtype=self.visual.proj.dtype))


class _Transformer(nn.Module):
    """A sequence of transformer blocks."""

    def __init__(self, width: int, depth: int, head: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_TransformerBlock(width, width // head) for _ in range(depth))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            tokens = block(tokens, mask)
        return tokens


class _TransformerBlock(nn.Module):
    """Pre-norm self-attention and MLP, each with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = _MultiHeadAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = _Mlp(width)
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        tokens = tokens + self.attn(self.ln_1(tokens), mask)
        return tokens + self.mlp(self.ln_2(tokens))


class _MultiHeadAttention(nn.Module):
    """Self-attention with one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        fused = functional.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        parts = fused.unflatten(-1, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    """Two linear layers with CLIP's quick GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.c_fc(tokens)
        return self.c_proj(hidden * torch.sigmoid(1.702 * hidden))
