"""Undoing full-segment encryption: which methods there are and how bytes are decrypted."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urldefrag, urlencode

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from vqmon.core.types import Encryption
from vqmon.errors import FetchError


@dataclass(frozen=True, slots=True)
class _Method:
    key_bytes: int
    mode: Literal["cbc", "ctr"]


# AES-128 is RFC 8216 5.2; the AES-256 ones are what packagers write for the same thing with a longer key.
_METHODS = {
    "AES-128": _Method(16, "cbc"),
    "AES-256": _Method(32, "cbc"),
    "AES-256-CTR": _Method(32, "ctr"),
}


def need_decryptable(encryption: Encryption) -> str:
    """The address of the key, or FetchError("encrypted") when this cannot be undone here."""
    if encryption.method not in _METHODS:
        raise FetchError("encrypted", f"method {encryption.method[:40]} cannot be undone here")
    if encryption.key_url is None:
        raise FetchError("encrypted", f"{encryption.method}: the key is not offered at a plain address")
    return encryption.key_url


def decrypt(encrypted: bytes, encryption: Encryption, key: bytes) -> bytes:
    """Decrypt a whole segment; FetchError("key") when key, iv and bytes do not fit each other."""
    method = _METHODS[encryption.method]
    if len(key) != method.key_bytes:
        raise FetchError("key", f"{encryption.method} needs a key of {method.key_bytes} bytes, got {len(key)}")
    cipher = Cipher(algorithms.AES(key), _mode(method, encryption.iv_hex))
    if method.mode == "cbc" and len(encrypted) % 16:
        raise FetchError("key", f"{len(encrypted)} bytes are no whole number of cipher blocks")
    decryptor = cipher.decryptor()
    plain = decryptor.update(encrypted) + decryptor.finalize()
    if method.mode == "ctr" or not plain:
        return plain
    unpadder = PKCS7(128).unpadder()
    try:
        return unpadder.update(plain) + unpadder.finalize()
    except ValueError:
        raise FetchError("key", "the key does not fit: wrong padding after decryption") from None


def with_encryption(url: str, encryption: Encryption | None) -> str:
    """The address of an encrypted initialization section, with how to decrypt it.

    RFC 8216 4.3.2.4 lets the section have a key of its own, while a Segment has one `encryption`, for its media. So the
    section's own goes into the fragment of its address, which is never sent to a server.
    """
    if encryption is None:
        return url
    facts = {"method": encryption.method, "key": encryption.key_url or "", "iv": encryption.iv_hex or ""}
    return f"{urldefrag(url).url}#{urlencode(facts)}"


def split_encryption(url: str) -> tuple[str, Encryption | None]:
    """Undo `with_encryption`."""
    plain, fragment = urldefrag(url)
    facts = dict(parse_qsl(fragment, keep_blank_values=True))
    if "method" not in facts:
        return plain, None
    key, iv = facts.get("key"), facts.get("iv")
    return plain, Encryption(method=facts["method"], key_url=key or None, iv_hex=iv or None)


def _mode(method: _Method, iv_hex: str | None) -> modes.CBC | modes.CTR:
    try:
        iv = bytes.fromhex(iv_hex or "")
    except ValueError:
        iv = b""
    if len(iv) != 16:
        raise FetchError("key", "the initialization vector must be 16 bytes as hexadecimal digits")
    return modes.CBC(iv) if method.mode == "cbc" else modes.CTR(iv)
