"""Know, segment by segment, whether viewers still see good pictures."""

import os

# ONNX Runtime reports to its maker unless this is set before it is imported; nothing of vqmon reports to anybody
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from vqmon.core.types import (
    Alert,
    AlertEvidence,
    DecodedSegment,
    LaneCursor,
    MediaFacts,
    Outcome,
    Provenance,
    QualityEvent,
    Rendition,
    Score,
    Segment,
    SegmentFailure,
    View,
)
from vqmon.errors import (
    BrokerError,
    DecodeError,
    FencedError,
    FetchError,
    NoHistoryError,
    ScoreError,
    ScorerError,
    SegmentError,
    SettingsError,
    StoreError,
    StoreUnreachableError,
    VqmonError,
    WireError,
)

__all__ = [
    "Alert",
    "AlertEvidence",
    "BrokerError",
    "DecodeError",
    "DecodedSegment",
    "FencedError",
    "FetchError",
    "LaneCursor",
    "MediaFacts",
    "NoHistoryError",
    "Outcome",
    "Provenance",
    "QualityEvent",
    "Rendition",
    "Score",
    "ScoreError",
    "ScorerError",
    "Segment",
    "SegmentError",
    "SegmentFailure",
    "SettingsError",
    "StoreError",
    "StoreUnreachableError",
    "View",
    "VqmonError",
    "WireError",
]
