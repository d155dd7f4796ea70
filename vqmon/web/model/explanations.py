"""Explanations that the pages show: remedies by failure reason, and descriptions of states."""

from vqmon.errors import REASONS

REMEDIES_BY_REASON: dict[str, tuple[str, ...]] = {
    "gap": (
        "Check the packager: it declared this segment lost.",
        "A single gap is an encoder hiccup; repeated gaps are not.",
    ),
    "encrypted": (
        "Point vqmon at a rendition without SAMPLE-AES or DRM, for instance before the packager.",
        "AES-128 works if the fetch settings allow the host of the key.",
    ),
    "stale": (
        "Check that the encoder and the packager are running.",
        "Open the playlist: are new segments being added?",
    ),
    "playlist": ("Open the playlist URL from this host.", "`vqmon check` reports what could not be read."),
    "skipped": (
        "vqmon was stopped for longer than the playlist is long, or the playlist could not be fetched meanwhile.",
        "Nothing is wrong with the segment as far as is known.",
    ),
    "overloaded": (
        "The stream is not at fault: the alert `overloaded` says what is short (decode, score, fetch or history).",
        'Watch fewer renditions, raise `decode.workers`, set `decode.sampling = "keyframes"`, or add a machine.',
    ),
    "refused": (
        "Add the host to `fetch.allowed_hosts` if you trust it.",
        "Add private networks to `fetch.allowed_networks`.",
    ),
    "not_found": (
        "If it is a single segment, the packager or the CDN lost it. If it is every segment, the playlist is wrong.",
        "Request the same path from the origin, bypassing the CDN.",
    ),
    "http_status": ("Check the server's log for this URL.", "401 and 403 mean that the URL needs a token."),
    "unreachable": ("Check DNS, routing and firewalls between this host and the server.",),
    "timeout": ("The server is slow or the network is congested.", "`fetch.total_seconds` is the limit."),
    "origin_away": (
        "Check that the origin is up and reachable from the workers.",
        "If it is some streams only, check their paths. `kafka.origin_wait_seconds` is how long they are waited for.",
    ),
    "too_large": ("Check that the URL is one segment and not a whole file.", "`fetch.max_bytes` is the limit."),
    "too_slow": ("The network is too slow for this rendition.", "`fetch.min_rate_bytes` is the limit."),
    "file": (
        "Check that the file exists and that vqmon's user may read it.",
        "`fetch.file_roots` lists the allowed folders.",
    ),
    "resources": (
        "The origin is not at fault: raise `LimitNOFILE`, `TasksMax` or `MemoryMax` of the unit or container.",
        "Lower `daemon.in_flight`, or watch fewer renditions.",
    ),
    "key": ("Check that the key URL returns exactly 16 bytes.", "The key's host must be allowed as well."),
    "empty": ("Check the packager: it published an empty segment.",),
    "not_media": (
        "Open the URL: often it is an error page with status 200.",
        "MPEG-TS, MP4, Matroska, WebM, JPEG, PNG, WebP and AVIF are supported.",
    ),
    "no_video": ("If this is an audio rendition, exclude it with `renditions` in the settings.",),
    "no_frames": (
        "The segment may not begin with a key frame, or it is truncated.",
        "Try it with `vqmon score ADDRESS`.",
    ),
    "corrupt": (
        "Fetch the segment again, bypassing the CDN, and compare the sizes.",
        "If it is damaged at the origin, check the encoder.",
    ),
    "missing_init": ("The playlist has no `EXT-X-MAP`, or its URL cannot be fetched.",),
    "unsupported_codec": (
        "H.264, HEVC, AV1, VP9 and MPEG-2 are supported, and JPEG, PNG, WebP and AVIF pictures that are not animated.",
        "Another rendition of the stream may use one of them.",
    ),
    "too_many_pixels": (
        "`decode.max_pixels` is the limit of video, `decode.max_still_pixels` that of still pictures.",
        "Raise it if such pictures are intended.",
    ),
    "too_long": ("Check that the URL is one segment and not a whole programme.",),
    "colour": (
        "Check the colour description (`matrix_coefficients`) that the encoder writes.",
        "BT.709, BT.601 and BT.2020 are shown.",
    ),
    "hdr": ('Set `decode.hdr = "tonemap"` to score HDR pictures after conversion to SDR.',),
    "crashed": (
        "The decoder process was replaced; other segments are not affected.",
        "If it happens again on this rendition, keep the segment and report it.",
    ),
    "worker": (
        "This machine is short of memory, process ids or time: see the log, and the limits of the unit or container.",
        "Fewer `decode.workers` need less.",
    ),
    "poison": (
        "A decoder process, or vqmon itself, died again and again on this segment; other segments are not affected.",
        "Keep the segment: it may be an attack on the decoder. `vqmon check` says which protections it has.",
    ),
    "outcome_too_large": (
        "Raise `max.message.bytes` of the topic that the detail names.",
        'With `kafka.when_too_large = "stop"` the partition waits for that instead.',
    ),
    "internal": (
        "The log of the daemon has the trace of the error; report it together with the segment.",
        "`vqmon score ADDRESS` shows whether it happens again.",
    ),
    "out_of_memory": ("Choose a smaller scorer, fewer `decode.workers`, or a device with more memory.",),
    "duplicate": (
        "Nothing is missing: the first announcement has the verdict.",
        "If there are many, check the producer: it should be idempotent, and not repeat segments after a restart.",
    ),
    "message": (
        "The segment message is incomplete; the detail names the field.",
        "Check the producer against the published schema of segment messages.",
    ),
    "scorer_failed": ("`vqmon check` tests every scorer on its golden input.", "Keep the segment and report it."),
    "no_prompt": (
        "Set `prompt` in the segment message (`vqmon publish --prompt`).",
        "Or add a scorer that needs no prompt.",
    ),
}
"""Reason (a key of `errors.REASONS`) -> what a person can do about it, most useful first."""

STAGE_ACTIONS = {
    "source": "find this segment in the playlist",
    "fetch": "fetch this segment",
    "decode": "decode this segment",
    "score": "score this segment",
}
"""Stage of the pipeline, in order -> what vqmon does to a segment there."""

STATE_DESCRIPTIONS = {
    "failing": "an alert of severity page is open, or the last score is below 20",
    "degraded": "an alert is open, or the last score is below 40",
    "unscored": "the last segment could not be scored",
    "stale": "no segment has arrived for much longer than a segment lasts",
    "good": "no alert is open and the last score is fine",
    "ended": "the stream has ended, so no more segments are expected",
}
"""State of a rendition, worst first -> when a rendition is in it."""


def reason_sentence(reason: str) -> str:
    """The meaning of a failure reason as a sentence; of an unknown reason, its code."""
    text = REASONS.get(reason, reason)
    return text[:1].upper() + text[1:] + "."
