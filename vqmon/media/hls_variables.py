"""EXT-X-DEFINE: variables inside an HLS playlist and their substitution (RFC 8216bis 4.4.2.3)."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from vqmon.errors import SegmentError

_ATTRIBUTE = re.compile(r'(NAME|VALUE|QUERYPARAM|IMPORT)="([^"]*)"')
_REFERENCE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")
# A short playlist can ask for a very long one.
_MAX_ADDED = 16_000_000


def expand(text: str, url: str, *, imported: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """The text with its variables put in, and the variables; raises SegmentError("playlist") for an unknown one."""
    known: dict[str, str] = {}
    if "#EXT-X-DEFINE" not in text:
        return text, known
    added = 0

    def value_of(found: re.Match[str]) -> str:
        nonlocal added
        if found[1] not in known:
            raise SegmentError("playlist", f"variable {found[1][:40]} is not defined")
        added += len(known[found[1]])
        if added > _MAX_ADDED:
            raise SegmentError("playlist", "variables make the playlist too large")
        return known[found[1]]

    lines = []
    for line in text.splitlines():
        if line.startswith("#EXT-X-DEFINE:"):
            known.update(_definition(line, url, imported))
        else:
            lines.append(_REFERENCE.sub(value_of, line))
    return "\n".join(lines), known


def _definition(line: str, url: str, imported: Mapping[str, str]) -> dict[str, str]:
    facts: dict[str, str] = dict(_ATTRIBUTE.findall(line))
    if "NAME" in facts:
        return {facts["NAME"]: facts.get("VALUE", "")}
    if "QUERYPARAM" in facts:
        name = facts["QUERYPARAM"]
        try:
            values = parse_qs(urlsplit(url).query, keep_blank_values=True, max_num_fields=1000).get(name)
        except ValueError:
            values = None
        if values is None:
            raise SegmentError("playlist", f"the address has no query parameter {name[:40]}")
        return {name: values[0]}
    name = facts.get("IMPORT", "")
    if name not in imported:
        raise SegmentError("playlist", f"variable {name[:40]} cannot be imported")
    return {name: imported[name]}
