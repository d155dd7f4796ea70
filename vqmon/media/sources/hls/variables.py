"""Variables of HLS playlists (EXT-X-DEFINE); raises SegmentError("playlist") only."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from vqmon.errors import SegmentError
from vqmon.media.sources.media_playlist import resolve_url

_DEFINE_ATTRIBUTE = re.compile(r'(NAME|VALUE|QUERYPARAM|IMPORT)[ \t]{0,8}=[ \t]{0,8}"([^"]*)"')
_VARIABLE_REFERENCE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")
# Variables can make a very long playlist of a short one.
_MAX_ADDED_CHARACTERS = 16_000_000


def substitute_variables(text: str, url: str, *, imported: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Replace the variables of a playlist; returns the text, line by line, and the variables that it defines.

    `imported` are the variables of the master playlist. A reference to an undefined variable stays in its line.
    """
    variables: dict[str, str] = {}
    if "#EXT-X-DEFINE" not in text:
        return text, variables
    added = 0

    def value_of(reference: re.Match[str]) -> str:
        nonlocal added
        name = reference[1]
        if name not in variables:
            return reference[0]
        added += len(variables[name])
        if added > _MAX_ADDED_CHARACTERS:
            raise SegmentError("playlist", "variables make the playlist too large")
        return variables[name]

    lines = []
    for line in text.splitlines():
        if line.startswith("#EXT-X-DEFINE:"):
            variables.update(_parse_definition(line, url, imported))
        lines.append(_VARIABLE_REFERENCE.sub(value_of, line) if not line.startswith("#EXT-X-DEFINE:") else "")
    return "\n".join(lines), variables


def _parse_definition(line: str, url: str, imported: Mapping[str, str]) -> dict[str, str]:
    attributes: dict[str, str] = dict(_DEFINE_ATTRIBUTE.findall(line))
    if "NAME" in attributes:
        return {attributes["NAME"]: attributes.get("VALUE", "")}
    if "QUERYPARAM" in attributes:
        name = attributes["QUERYPARAM"]
        try:
            values = parse_qs(urlsplit(url).query, keep_blank_values=True, max_num_fields=1000).get(name)
        except ValueError:
            values = None
        return {name: values[0]} if values else {}
    name = attributes.get("IMPORT", "")
    return {name: imported[name]} if name in imported else {}


def resolve_reference(base: str, reference: str) -> str:
    """As `resolve_url`; raises SegmentError("playlist") for a reference with a variable that is not defined too."""
    undefined = _VARIABLE_REFERENCE.search(reference) if "{$" in reference else None
    if undefined:
        raise SegmentError(
            "playlist", f"variable {undefined[1][:40]} is not defined, nor in the master playlist or the URL"
        )
    return resolve_url(base, reference)
