"""Damage to encoded media: flipped bits, lost packets of a transport stream, files that were cut off."""

import random


def flip_bits(media: bytes, count: int, *, seed: int = 0) -> bytes:
    """`count` different random bits inverted, wherever they are."""
    damaged = bytearray(media)
    for bit in random.Random(seed).sample(range(8 * len(media)), count):
        damaged[bit >> 3] ^= 1 << (bit & 7)
    return bytes(damaged)


def lose_packets(media: bytes, count: int, *, seed: int = 0) -> bytes:
    """A transport stream without `count` consecutive packets, from the second tenth of the file on."""
    packets = [media[start : start + 188] for start in range(0, len(media), 188)]
    first = random.Random(seed).randrange(len(packets) // 10, len(packets) - count)
    return b"".join(packets[:first] + packets[first + count :])


def cut_off(media: bytes, share: float) -> bytes:
    """The first part of a file, ending within a packet of 188 bytes."""
    length = int(len(media) * share)
    return media[: length - (length % 188 == 0)]
