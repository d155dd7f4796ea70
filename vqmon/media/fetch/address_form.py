"""Addresses as people write them, on the command line or in settings: refuses those that can never be fetched."""

import difflib
import os.path
import re
from urllib.parse import unquote, urlsplit

from vqmon.errors import FetchError, SettingsError
from vqmon.media.fetch.ssrf_policy import FetchPolicy, check_url, printable, redact_url

_READ_SCHEMES = ("https", "http", "file")
_SCHEME_WITHOUT_HOST = re.compile(r"([A-Za-z]{2,}):/?(?!/)")
_HOST_WITHOUT_SCHEME = re.compile(
    r"(?P<host>localhost|(\d{1,3}\.){3}\d{1,3}|([a-z0-9_-]+\.)+[a-z]{2,})(?P<port>:\d+)?/\S", re.IGNORECASE
)


def check_address_form(address: str) -> None:
    """Raise SettingsError, with the remedy, for an address that cannot name a resource whatever servers answer.

    An address is an http(s) or file URL, or a path; whether its host may be fetched from is not asked here.
    """
    if not address or "\0" in unquote(address):
        raise _no_address(address)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise _no_address(address) from None
    if "://" not in address:
        _check_path(address)
    elif parts.scheme not in _READ_SCHEMES:
        raise SettingsError(f"{_shown(address)}: {_explain_scheme(address)}")
    elif parts.scheme != "file":
        every = FetchPolicy(allowed_hosts=("*",), allow_http=True, allowed_ports=(80, 443, *([port] if port else [])))
        try:
            check_url(address, every)
        except FetchError as error:
            raise SettingsError(error.detail) from None


def _check_path(address: str) -> None:
    """Refuse what has no scheme or half of one, and is no path of an existing folder or file."""
    if os.path.exists(address.split("/", 1)[0] or "/"):
        return
    if (scheme := _SCHEME_WITHOUT_HOST.match(address)) and (meant := _nearest_scheme(scheme[1])):
        rest = address[scheme.end() :]
        raise SettingsError(f"{_shown(address)}: a URL begins with {meant}://; write {_shown(f'{meant}://{rest}')}")
    if host := _HOST_WITHOUT_SCHEME.match(address):
        is_local = host["host"].lower() == "localhost" or host["host"].replace(".", "").isdigit()
        url = f"{'http' if is_local else 'https'}://{address}"
        raise SettingsError(f"{_shown(address)}: there is no such file; for a server write the scheme, {_shown(url)}")


def _explain_scheme(address: str) -> str:
    scheme = address.partition("://")[0]
    if meant := _nearest_scheme(scheme):
        return f"the scheme {scheme!r} is misspelt: write {meant}://"
    return (
        f"{scheme}:// is not read; HLS and DASH playlists and media files are, over https:// and http:// or as a path"
    )


def _nearest_scheme(scheme: str) -> str:
    nearest = next(iter(difflib.get_close_matches(scheme.lower(), _READ_SCHEMES, n=1, cutoff=0.7)), "")
    if nearest in ("http", "https"):
        return "https" if "s" in scheme.lower() else "http"
    return nearest


def _no_address(address: str) -> SettingsError:
    return SettingsError(f"{_shown(address)!r} is no address: write a path, or https://host[:port]/path")


def _shown(address: str) -> str:
    return printable(redact_url(address))
