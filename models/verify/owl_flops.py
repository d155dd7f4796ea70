"""Counts the floating-point operations of mPLUG-Owl2; a multiply-add counts as two."""

from models.networks.owl.owl import OwlConfig


def encoder_flops(config: OwlConfig) -> float:
    """Operations of vision tower and abstractor for one picture."""
    vision, abstractor = config.vision, config.abstractor
    tokens, width = vision.tokens, vision.width
    patches = (tokens - 1) * width * 3 * vision.patch**2
    block = tokens * width * (4 * width + 2 * vision.inner_width) + 2 * tokens**2 * width
    queries, abstractor_width = abstractor.queries, abstractor.width
    attended = queries + tokens
    layer = (
        2 * attended * abstractor.vision_width * abstractor_width
        + 2 * queries * abstractor_width**2
        + 2 * queries * attended * abstractor_width
    )
    layer += 3 * queries * abstractor_width * abstractor.inner_width
    out = queries * abstractor_width * config.language.width
    return 2.0 * (patches + vision.depth * block + abstractor.depth * layer + out)


def language_flops(config: OwlConfig, *, tokens: int, earlier: int) -> float:
    """Operations for one sequence of `tokens` after `earlier` ones with cached keys and values; the last layer computes
    queries and MLP of the last token alone.

    Attention is counted over the whole square, as it is computed with a mask.
    """
    language = config.language
    width, inner_width, attended = language.width, language.inner_width, tokens + earlier
    key_values, queries, mlp = 2 * width**2, 2 * width**2, 3 * width * inner_width
    layer = tokens * (key_values + queries + mlp) + 2 * tokens * attended * width
    last = tokens * key_values + queries + mlp + 2 * attended * width
    return 2.0 * ((language.depth - 1) * layer + last)


def reference_language_flops(config: OwlConfig, *, tokens: int) -> float:
    """Operations for one whole prompt as in the published code, with the head at every position."""
    language = config.language
    per_token = 4 * language.width**2 + 3 * language.width * language.inner_width
    layer = tokens * per_token + 2 * tokens**2 * language.width
    return 2.0 * (language.depth * layer + tokens * language.width * language.vocabulary)
