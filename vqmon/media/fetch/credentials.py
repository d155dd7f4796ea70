"""What is sent to one host so that it serves: a request header, or the signed query of its addresses."""

import re
from dataclasses import dataclass, field

from vqmon.errors import SettingsError

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset({"host", "range", "accept-encoding", "content-length", "transfer-encoding", "connection"})
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
_QUERY = re.compile(r"[A-Za-z0-9%:@!$&'()*+,;=._~/?-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCredential:
    """A secret for one host. It is sent to no other host, also not after a redirect.

    Raises SettingsError, which never shows the secret, for what cannot stand in a request.
    """

    # lower-case ASCII, as in `CheckedUrl`
    host: str
    # name of the request header that holds the secret; "" = it is the query of addresses that have none
    header: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        where = f"fetch.credentials.{self.host}"
        if self.header.lower() in _OWN_HEADERS or (self.header and not _HEADER_NAME.fullmatch(self.header)):
            raise SettingsError(f"{where}: header: {self.header!r} cannot be set")
        if not self.header and not _QUERY.fullmatch(self.secret):
            raise SettingsError(
                f"{where}: the query in its file has characters that must be percent-encoded; write it without '?'"
            )
        if not _HEADER_VALUE.fullmatch(self.secret):
            raise SettingsError(f"{where}: the secret in its file must be one line of printable ASCII")

    def signed_path(self, path: str) -> str:
        """The path and query of a request: those of the address, with the secret as the query where there is none."""
        return path if self.header or "?" in path else f"{path}?{self.secret}"
