"""Variables of HLS playlists (EXT-X-DEFINE); raises SegmentError("playlist") only."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from vqmon.errors import SegmentError

_DEFINE_ATTRIBUTE = re.compile(r'(NAME|VALUE|QUERYPARAM|IMPORT)="([^"]*)"')
_VARIABLE_REFERENCE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")
# Variables can make a very long playlist of a short one.
_MAX_ADDED_CHARACTERS = 16_000_000


def substitute_variables(text: str, url: str, *, imported: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Replace the variables of a playlist; returns the text, line by line, and the variables that it defines.

    `imported` are the variables of the master playlist. Raises SegmentError("playlist") for an undefined variable.
    """
    variables: dict[str, str] = {}
    if "#EXT-X-DEFINE" not in text:
        return text, variables
    added = 0

    def value_of(reference: re.Match[str]) -> str:
        nonlocal added
        name = reference[1]
        if name not in variables:
            raise SegmentError("playlist", f"variable {name[:40]} is not defined")
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
        if values is None:
            raise SegmentError("playlist", f"the URL has no query parameter {name[:40]}")
        return {name: values[0]}
    name = attributes.get("IMPORT", "")
    if name not in imported:
        raise SegmentError("playlist", f"variable {name[:40]} cannot be imported")
    return {name: imported[name]}
