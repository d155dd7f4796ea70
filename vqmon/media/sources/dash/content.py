"""What the sets and representations of an MPD hold: which are video, and how they are encrypted."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from vqmon.core.types import Encryption
from vqmon.media.sources.dash import xml
from vqmon.media.sources.media_playlist import SOUND_CODECS, has_only_other_codecs, resolve_url

_NO_VIDEO_SCHEMES = frozenset(
    {
        "http://dashif.org/guidelines/trickmode",
        "http://dashif.org/guidelines/thumbnail_tile",
        "http://dashif.org/thumbnail_tile",
    }
)
_VIDEO_CODECS = ("avc", "hvc", "hev", "dvh", "dva", "av01", "dav1", "vp08", "vp09", "vp8", "vp9", "vvc", "vvi", "mp4v")
_SEGMENT_ENCRYPTION = "urn:mpeg:dash:sea:2012"
_COMMON_ENCRYPTION = "urn:mpeg:dash:mp4protection:2011"
_PROTECTION_SCHEMES = frozenset({"cenc", "cens", "cbc1", "cbcs"})


def is_video(adaptation_set: Element, element: Element) -> bool:
    """Whether a Representation has moving pictures of its own: no sound, text, tiles, trick mode or enhancement layer.

    The codecs decide where they are given, as they name every component of a multiplex; then the kinds of content that
    the set declares, then the media type.
    """
    for level in (adaptation_set, element):
        properties = xml.find_children(level, "EssentialProperty") + xml.find_children(level, "SupplementalProperty")
        if any(descriptor.get("schemeIdUri") in _NO_VIDEO_SCHEMES for descriptor in properties):
            return False
    mime = (element.get("mimeType") or adaptation_set.get("mimeType") or "").strip().lower()
    if "dependencyId" in element.attrib or mime.startswith("image/"):
        return False
    components = [component.get("contentType") for component in xml.find_children(adaptation_set, "ContentComponent")]
    kinds = {kind.strip().lower() for kind in (adaptation_set.get("contentType"), *components) if kind}
    codecs = element.get("codecs") or adaptation_set.get("codecs") or ""
    if any(codec.strip().startswith(_VIDEO_CODECS) for codec in codecs.lower().split(",")):
        return True
    if has_only_other_codecs(codecs):
        return False
    if kinds:
        return "video" in kinds
    return mime.startswith("video/") if mime else any(name in element.attrib for name in ("width", "height"))


def is_sound(adaptation_set: Element, element: Element) -> bool:
    """Whether a Representation has sound alone, by its kind of content, its media type or its codecs."""
    codecs = (element.get("codecs") or adaptation_set.get("codecs") or "").lower().split(",")
    if any(codec.strip() and not codec.strip().startswith(SOUND_CODECS) for codec in codecs):
        return False
    kind = (adaptation_set.get("contentType") or "").strip().lower()
    mime = (element.get("mimeType") or adaptation_set.get("mimeType") or "").strip().lower()
    return kind == "audio" or mime.startswith("audio/") or any(codec.strip() for codec in codecs)


def parse_encryption(levels: Sequence[Element], base: str) -> Encryption | None:
    """The encryption that the ContentProtection elements of a set and its representation declare."""
    protections = [element for level in levels for element in xml.find_children(level, "ContentProtection")]
    if not protections:
        return None
    for element in protections:
        period = xml.find_child(element, "CryptoPeriod")
        if element.get("schemeIdUri") == _SEGMENT_ENCRYPTION and period is not None:
            return _parse_segment_encryption(element, period, base)
    values = [element.get("value", "") for element in protections if element.get("schemeIdUri") == _COMMON_ENCRYPTION]
    return Encryption(method=next((value for value in values if value in _PROTECTION_SCHEMES), "cenc"))


def _parse_segment_encryption(element: Element, period: Element, base: str) -> Encryption:
    """ISO/IEC 23009-4: AES-128-CBC of whole segments with one key and IV for all; nothing else is supported."""
    system = xml.find_child(element, "SegmentEncryption")
    scheme = system.get("schemeIdUri", "") if system is not None else ""
    key, iv = period.get("keyUriTemplate", ""), period.get("IV", "")
    if (
        "aes128-cbc" not in scheme
        or not key
        or "$" in key
        or not iv
        or len(xml.find_children(element, "CryptoPeriod")) > 1
    ):
        return Encryption(method="sea")
    return Encryption(method="AES-128", key_url=resolve_url(base, key), iv_hex=iv.lower().removeprefix("0x").zfill(32))
