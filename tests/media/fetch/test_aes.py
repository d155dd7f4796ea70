"""AES in numpy: the published vectors, and the same answers as the package cryptography."""

import os

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from vqmon.media.fetch import decryption
from vqmon.media.fetch.aes import decrypt_cbc, decrypt_ctr

# NIST SP 800-38A, appendix F: one plain text under every mode
PLAIN = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
KEY_128 = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
KEY_256 = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
IV = bytes(range(16))
COUNTER = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
CBC_128 = bytes.fromhex(
    "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
    "73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"
)
CBC_256 = bytes.fromhex(
    "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"
    "39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"
)
CTR_256 = bytes.fromhex(
    "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
)


def test_the_vectors_of_nist_decrypt_to_their_plain_text() -> None:
    """SP 800-38A F.2.2, F.2.6 and F.5.6; the counter vector has a carry within its last byte."""
    assert decrypt_cbc(CBC_128, KEY_128, IV) == PLAIN
    assert decrypt_cbc(CBC_256, KEY_256, IV) == PLAIN
    assert decrypt_ctr(CTR_256, KEY_256, COUNTER) == PLAIN


@settings(max_examples=25)
@given(
    key=st.sampled_from([16, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    iv=st.binary(min_size=16, max_size=16),
    size=st.integers(0, 300),
)
def test_any_key_counter_and_length_decrypt_as_by_the_library(key: bytes, iv: bytes, size: int) -> None:
    """Counters that overflow 64 or 128 bits too."""
    encrypted = os.urandom(size)
    for counter in (iv, b"\xff" * 16, b"\x01" * 8 + b"\xff" * 8):
        library = Cipher(algorithms.AES(key), modes.CTR(counter)).decryptor()
        assert decrypt_ctr(encrypted, key, counter) == library.update(encrypted)
    blocks = encrypted[: size // 16 * 16]
    assert decrypt_cbc(blocks, key, iv) == Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor().update(blocks)


def test_more_blocks_than_are_worked_on_at_once() -> None:
    """A segment is many chunks; its order stays."""
    encrypted = os.urandom(16 * 20_000)
    library = Cipher(algorithms.AES(KEY_128), modes.CBC(IV)).decryptor()
    assert decrypt_cbc(encrypted, KEY_128, IV) == library.update(encrypted)


def test_without_the_library_segments_are_decrypted_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding included; a wrong key is seen by it."""
    padded = PLAIN + b"\x10" * 16
    encryptor = Cipher(algorithms.AES(KEY_128), modes.CBC(IV)).encryptor()
    encrypted = encryptor.update(padded) + encryptor.finalize()
    encryption = decryption.Encryption(method="AES-128", key_url="https://host/key", iv_hex=IV.hex())
    by_library = decryption.decrypt(encrypted, encryption, KEY_128)
    monkeypatch.setattr(decryption, "find_spec", lambda name: None)
    assert decryption.decrypt(encrypted, encryption, KEY_128) == by_library == PLAIN
    with pytest.raises(decryption.FetchError, match="wrong padding"):
        decryption.decrypt(encrypted, encryption, KEY_128[::-1])
