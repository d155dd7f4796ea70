"""Decryption of segments that are encrypted as a whole (HLS AES-128 and its variants)."""

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


# AES-128 is defined in RFC 8216 5.2; packagers use the AES-256 names for the same scheme with a longer key.
_METHODS = {
    "AES-128": _Method(16, "cbc"),
    "AES-256": _Method(32, "cbc"),
    "AES-256-CTR": _Method(32, "ctr"),
}


# Parts of the pictures are encrypted, in a way that the media itself declares: it may be clear all the same.
_SAMPLE_METHODS = frozenset(
    {"SAMPLE-AES", "SAMPLE-AES-CTR", "SAMPLE-AES-CENC", "ISO-23001-7", "cenc", "cens", "cbc1", "cbcs"}
)


def whole_segment_encryption(encryption: Encryption | None) -> Encryption | None:
    """The encryption to undo before decoding; None when the media is clear or declares itself what is encrypted.

    Clear leads and clear advertisements have the same declaration in the playlist as what follows them.
    """
    return None if encryption is None or encryption.method in _SAMPLE_METHODS else encryption


def require_key_url(encryption: Encryption) -> str:
    """The URL of the key; raises FetchError("encrypted") when the method is not supported or there is no URL."""
    if encryption.method not in _METHODS:
        raise FetchError("encrypted", f"method {encryption.method[:40]} is not supported")
    if encryption.key_url is None:
        raise FetchError("encrypted", f"{encryption.method}: the key has no plain URL")
    return encryption.key_url


def decrypt(encrypted: bytes, encryption: Encryption, key: bytes) -> bytes:
    """Decrypt a whole segment; raises FetchError("key") when key, IV and bytes do not fit each other."""
    method = _METHODS[encryption.method]
    if len(key) != method.key_bytes:
        raise FetchError("key", f"{encryption.method} needs a key of {method.key_bytes} bytes, got {len(key)}")
    cipher = Cipher(algorithms.AES(key), _cipher_mode(method, encryption.iv_hex))
    if method.mode == "cbc" and len(encrypted) % 16:
        raise FetchError("key", f"{len(encrypted)} bytes are not a whole number of cipher blocks")
    decryptor = cipher.decryptor()
    plain = decryptor.update(encrypted) + decryptor.finalize()
    if method.mode == "ctr" or not plain:
        return plain
    unpadder = PKCS7(128).unpadder()
    try:
        return unpadder.update(plain) + unpadder.finalize()
    except ValueError:
        raise FetchError("key", "the key does not fit: wrong padding after decryption") from None


def add_encryption_fragment(url: str, encryption: Encryption | None) -> str:
    """Append the encryption of an initialization section to its URL, as a fragment.

    RFC 8216 4.3.2.4 allows the section a key of its own, while a Segment has one `encryption`, for its media. The
    fragment of a URL is never sent to a server.
    """
    if encryption is None:
        return url
    fields = {"method": encryption.method, "key": encryption.key_url or "", "iv": encryption.iv_hex or ""}
    return f"{urldefrag(url).url}#{urlencode(fields)}"


def split_encryption_fragment(url: str) -> tuple[str, Encryption | None]:
    """The inverse of `add_encryption_fragment`: (URL without fragment, encryption)."""
    plain, fragment = urldefrag(url)
    fields = dict(parse_qsl(fragment, keep_blank_values=True))
    if "method" not in fields:
        return plain, None
    key, iv = fields.get("key"), fields.get("iv")
    return plain, Encryption(method=fields["method"], key_url=key or None, iv_hex=iv or None)


def _cipher_mode(method: _Method, iv_hex: str | None) -> modes.CBC | modes.CTR:
    try:
        iv = bytes.fromhex(iv_hex or "")
    except ValueError:
        iv = b""
    if len(iv) != 16:
        raise FetchError("key", "the initialization vector must be 16 bytes as hexadecimal digits")
    return modes.CBC(iv) if method.mode == "cbc" else modes.CTR(iv)
