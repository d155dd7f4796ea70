"""Damage done to media on purpose, the same for the same seed."""

import random


def damage(media: bytes, chance: random.Random) -> bytes:
    """Truncated, bits flipped, a range zeroed or cut out, or the head overwritten."""
    content = bytearray(media)
    kind = chance.choice(("truncate", "flip", "zero", "cut", "head"))
    if kind == "truncate":
        return bytes(content[: chance.randrange(1, len(content))])
    at = chance.randrange(len(content))
    end = min(len(content), at + chance.randrange(1, 5000))
    if kind == "flip":
        for _ in range(chance.choice((1, 10, 200))):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif kind == "zero":
        content[at:end] = bytes(end - at)
    elif kind == "cut":
        del content[at:end]
    else:
        for _ in range(20):
            content[chance.randrange(min(len(content), 2000))] = chance.randrange(256)
    return bytes(content)
