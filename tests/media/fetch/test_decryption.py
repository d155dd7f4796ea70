"""Decryption of segments that are encrypted as a whole."""

import pytest

from tests.media.fetch.rig import IV, KEY, Fetcher, encrypted, loopback_policy, segment
from tests.media.loopback import Answer, Server
from vqmon.core.types import Encryption
from vqmon.errors import FetchError
from vqmon.media.fetch.decryption import add_encryption_fragment, split_encryption_fragment


async def test_encrypted_bytes_must_be_whole_cipher_blocks(server: Server) -> None:
    """A truncated encrypted segment is distinguished from a damaged picture."""
    server.answers = {"/key": Answer(KEY), "/a": Answer(encrypted(b"pictures")[:-1])}
    encryption = Encryption(method="AES-128", key_url=server.url("/key"), iv_hex=IV.hex())
    async with Fetcher(loopback_policy(server)) as fetcher:
        with pytest.raises(FetchError, match="blocks"):
            await fetcher.fetch(segment(server.url("/a"), encryption=encryption))


def test_the_encryption_of_an_init_section_survives_in_its_url() -> None:
    """What goes into the fragment comes out again, and a plain address stays as it is."""
    encryption = Encryption(method="AES-128", key_url="https://k.example/key?a=1&b=2#x", iv_hex="00" * 16)
    for method in (None, encryption, Encryption(method="SAMPLE-AES")):
        assert split_encryption_fragment(add_encryption_fragment("https://e.example/i.mp4?t=1", method)) == (
            "https://e.example/i.mp4?t=1",
            method,
        )
