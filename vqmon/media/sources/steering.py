"""Content steering: a server tells which of several origins to prefer (HLS: RFC 8216bis 7; DASH: ETSI TS 103 998)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from vqmon.errors import FetchError, SegmentError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.sources.media_playlist import Origin, parse_seconds, resolve_url

_MANIFEST_MAX_BYTES = 65_536
_DEFAULT_TTL_SECONDS = 300.0
_MIN_TTL_SECONDS = 10.0
_MAX_PATHWAYS = 20
_PRIORITY_KEYS = ("PATHWAY-PRIORITY", "SERVICE-LOCATION-PRIORITY")


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringServer:
    """Where the steering manifest is, and the pathway to begin with."""

    url: str
    default: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathwayClone:
    """A pathway that the steering manifest adds: the origins of another one with another host or query."""

    id: str
    base_id: str
    host: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)

    def clone(self, origin: Origin) -> Origin:
        """The origin of this pathway that corresponds to one of the base pathway."""
        parts = urlsplit(origin.url)
        query = urlencode({**dict(parse_qsl(parts.query, keep_blank_values=True)), **self.parameters})
        url = urlunsplit((parts.scheme, self.host or parts.netloc, parts.path, query, ""))
        return Origin(url=url, pathway=self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringManifest:
    """The answer of a steering server."""

    ttl_seconds: float
    # pathways, the preferred one first
    priority: Sequence[str]
    reload_url: str
    clones: Sequence[PathwayClone] = ()


def parse_steering(body: bytes, url: str) -> SteeringManifest:
    """Parse a steering manifest; `url` is its own. Raises SegmentError("playlist")."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise SegmentError("playlist", "the steering manifest is not a JSON object")
    priority: list[Any] = next((document[key] for key in _PRIORITY_KEYS if isinstance(document.get(key), list)), [])
    reload_reference = document.get("RELOAD-URI")
    clones = document.get("PATHWAY-CLONES")
    return SteeringManifest(
        ttl_seconds=max(parse_seconds(document.get("TTL")) or _DEFAULT_TTL_SECONDS, _MIN_TTL_SECONDS),
        priority=[pathway for pathway in priority if isinstance(pathway, str)][:_MAX_PATHWAYS],
        reload_url=resolve_url(url, reload_reference) if isinstance(reload_reference, str) else url,
        clones=[_parse_clone(clone) for clone in clones[:_MAX_PATHWAYS] if isinstance(clone, dict)]
        if isinstance(clones, list)
        else [],
    )


def _parse_clone(clone: Mapping[str, Any]) -> PathwayClone:
    replacement = clone.get("URI-REPLACEMENT")
    replacement = replacement if isinstance(replacement, dict) else {}
    parameters = replacement.get("PARAMS")
    return PathwayClone(
        id=str(clone.get("ID", "")),
        base_id=str(clone.get("BASE-ID", "")),
        host=str(replacement.get("HOST", "")),
        parameters={str(name): str(value) for name, value in parameters.items()}
        if isinstance(parameters, dict)
        else {},
    )


class ContentSteering:
    """Orders the origins of a stream as its steering server says, and asks it again when its answer has expired."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._server: SteeringServer | None = None
        self._manifest: SteeringManifest | None = None
        self._expires_at: datetime | None = None
        # why the last answer could not be used; empty when it could
        self.warning = ""

    async def refresh(self, server: SteeringServer | None, now: datetime) -> None:
        """Ask the server of a playlist when its last answer has expired, within the fetch policy."""
        if server != self._server:
            self._server, self._manifest, self._expires_at, self.warning = server, None, None, ""
        if server is not None and (self._expires_at is None or now >= self._expires_at):
            await self._reload(server, now)

    def order(self, origins: Sequence[Origin]) -> list[Origin]:
        """The origins, the preferred one first; without an answer the default pathway, then the playlist's order."""
        server = self._server
        if server is None:
            return list(origins)
        clones = [
            clone.clone(origin)
            for clone in (self._manifest.clones if self._manifest else ())
            for origin in origins
            if origin.pathway == clone.base_id and clone.base_id
        ]
        priority: Sequence[str] = self._manifest.priority if self._manifest else [server.default]
        rank = {pathway: position for position, pathway in reversed(list(enumerate(priority)))}
        return sorted([*origins, *clones], key=lambda origin: rank.get(origin.pathway, len(rank)))

    async def _reload(self, server: SteeringServer, now: datetime) -> None:
        url = self._manifest.reload_url if self._manifest else server.url
        try:
            document = await self._fetcher.get(url, max_bytes=_MANIFEST_MAX_BYTES)
            self._manifest = parse_steering(document.body, document.url)
            self.warning = ""
        except (FetchError, SegmentError) as error:
            self.warning = f"content steering: {error.detail}"
        ttl = self._manifest.ttl_seconds if self._manifest else _DEFAULT_TTL_SECONDS
        self._expires_at = now + timedelta(seconds=ttl)
