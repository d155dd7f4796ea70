"""Plain words: what a failure means for the viewer and what to do about it, what a band says."""

from vqmon.errors import REASONS

WHAT_TO_DO: dict[str, tuple[str, ...]] = {
    "gap": ("Look at the packager: it declared this segment as lost.", "One gap is an encoder hiccup; many are not."),
    "encrypted": (
        "Give vqmon a rendition without SAMPLE-AES or DRM, for instance the one before packaging.",
        "AES-128 works when the key address is allowed by the fetch settings.",
    ),
    "stale": ("Check that the encoder and the packager run.", "Open the playlist address: does its last line move?"),
    "playlist": ("Open the playlist address from this host.", "`vqmon check` says what could not be read."),
    "skipped": (
        "vqmon was too slow or was stopped: compare the segments per second with `vqmon scorers`.",
        'Raise `decode.workers`, or set `decode.sampling = "keyframes"`.',
    ),
    "refused": (
        "Name the host in `fetch.allowed_hosts` if you trust it.",
        "Private networks go in `fetch.allowed_networks`.",
    ),
    "not_found": (
        "If one segment: the packager or the CDN lost it. If all: the playlist points to a wrong place.",
        "Ask the origin past the CDN for the same address.",
    ),
    "http_status": ("Look at the server's log for this address.", "401 and 403 mean that the address needs a token."),
    "unreachable": ("Check name service, routes and firewall from this host to the server.",),
    "timeout": ("The server is slow or the line is full.", "`fetch.total_seconds` is the limit."),
    "too_large": ("Check that the address is one segment and not a whole file.", "`fetch.max_bytes` is the limit."),
    "too_slow": ("The line cannot carry this rendition.", "`fetch.min_rate_bytes` is the limit."),
    "file": (
        "Check that the file exists and that the user of vqmon may read it.",
        "`fetch.file_roots` names the allowed folders.",
    ),
    "key": ("Check that the key address answers with exactly 16 bytes.", "The key's host must be allowed as well."),
    "empty": ("Look at the packager: it published a segment without content.",),
    "not_media": (
        "Open the address: often it is an error page with status 200.",
        "Allowed are MPEG-TS, MP4, Matroska and WebM.",
    ),
    "no_video": ("If this is an audio rendition, leave it out by `renditions` in the settings.",),
    "no_frames": ("The segment may not begin with a key frame, or it was cut.", "Try it with `vqmon score ADDRESS`."),
    "corrupt": (
        "Fetch the segment again past the CDN and compare the sizes.",
        "If it is damaged at the origin, look at the encoder.",
    ),
    "missing_init": ("The playlist names no `EXT-X-MAP`, or that address does not answer.",),
    "unsupported_codec": ("Allowed are H.264, HEVC, AV1, VP9 and MPEG-2.", "Other renditions of the stream may do."),
    "too_many_pixels": ("`decode.max_pixels` is the limit; raise it when such pictures are meant.",),
    "too_long": ("Check that the address is one segment and not a whole programme.",),
    "hdr": ('Set `decode.hdr = "tonemap"` to score HDR pictures after a declared conversion to SDR.',),
    "crashed": (
        "The decoder was replaced and the daemon goes on; other segments are not touched.",
        "If it happens again on this rendition, keep the segment and report it.",
    ),
    "out_of_memory": ("Choose a smaller scorer, fewer `decode.workers`, or a device with more memory.",),
    "message": (
        "The announcement lacks what is needed to find the segment; the detail names the field.",
        "Compare the producer with the published schema of segment messages.",
    ),
    "scorer_failed": ("`vqmon check` tests every scorer on its golden input.", "Keep the segment and report it."),
    "no_prompt": ("Say `prompt` in the segment message (`vqmon publish --prompt`).", "Add a scorer that needs none."),
}
"""For each reason of `errors.REASONS`, what a person can do, most useful first."""

STAGES = {
    "source": "find it in the playlist",
    "fetch": "fetch its bytes",
    "decode": "turn them into pictures",
    "score": "score the pictures",
}
"""The stages of a segment's journey, in order, as a person would say them."""

STATES = {
    "failing": "an alert that pages someone is open, or the last score is below 20",
    "degraded": "an alert is open, or the last score is below 40",
    "unscored": "the last segment could not be observed",
    "stale": "no segment for much longer than a segment lasts",
    "good": "nothing to see to",
}
"""The states of a rendition, worst first, and when they are used."""

BANDS = ((80.0, "excellent"), (60.0, "good"), (40.0, "fair"), (20.0, "poor"), (0.0, "bad"))
"""Lowest score of each band: the five grades of ITU-R BT.500 on 0..100."""


def meaning(reason: str) -> str:
    """What a reason means, as a sentence."""
    text = REASONS.get(reason, reason)
    return text[:1].upper() + text[1:] + "."


def band(score: float) -> str:
    """The word for a score.

    >>> band(61.0)
    'good'
    """
    return next((word for lowest, word in BANDS if round(score, 1) >= lowest), "bad")
