"""What mPLUG-Owl2 costs by arithmetic: floating point operations, a multiply and an add counted as two."""

from models.networks.owl.owl import OwlConfig


def encoder_flops(config: OwlConfig) -> float:
    """One picture through vision tower and abstractor."""
    vision, abstractor = config.vision, config.abstractor
    tokens, width = vision.tokens, vision.width
    patches = (tokens - 1) * width * 3 * vision.patch**2
    block = tokens * width * (4 * width + 2 * vision.inner_width) + 2 * tokens**2 * width
    queries, wide = abstractor.queries, abstractor.width
    seen = queries + tokens
    layer = 2 * seen * abstractor.vision_width * wide + 2 * queries * wide**2 + 2 * queries * seen * wide
    layer += 3 * queries * wide * abstractor.inner_width
    out = queries * wide * config.language.width
    return 2.0 * (patches + vision.depth * block + abstractor.depth * layer + out)


def language_flops(config: OwlConfig, *, tokens: int, remembered: int) -> float:
    """One sequence of `tokens` after `remembered` ones, the last layer's queries and MLP for the final token alone.

    Attention is counted over the whole square, as it is computed with a mask.
    """
    language = config.language
    width, inner, seen = language.width, language.inner_width, tokens + remembered
    remember, look, mlp = 2 * width**2, 2 * width**2, 3 * width * inner
    layer = tokens * (remember + look + mlp) + 2 * tokens * seen * width
    last = tokens * remember + look + mlp + 2 * seen * width
    return 2.0 * ((language.depth - 1) * layer + last)


def plain_language_flops(config: OwlConfig, *, tokens: int) -> float:
    """One whole prompt as the published code runs it, the head for every position included."""
    language = config.language
    per_token = 4 * language.width**2 + 3 * language.width * language.inner_width
    layer = tokens * per_token + 2 * tokens**2 * language.width
    return 2.0 * (language.depth * layer + tokens * language.width * language.vocabulary)
