"""Loudness by libavfilter's `ebur128` (EBU R 128, ITU-R BS.1770): integrated, momentary, true peak."""

import math
from collections.abc import Callable, Iterator
from typing import Any

_GATE_LUFS = -70.0
"""Absolute gate of ITU-R BS.1770: `ebur128` gives this value when no block is louder."""


class LoudnessMeter:
    """Passes frames of one format through the filter; `new_graph` creates an empty filter graph."""

    def __init__(self, new_graph: Callable[[], Any], *, rate_hz: int, layout: str, sample_format: str) -> None:
        self._graph = new_graph()
        self._source = self._graph.add(
            "abuffer",
            f"sample_rate={rate_hz}:sample_fmt={sample_format}:channel_layout={layout}:time_base=1/{rate_hz}",
        )
        meter = self._graph.add("ebur128", "peak=true:metadata=1")
        self._sink = self._graph.add("abuffersink")
        self._source.link_to(meter)
        meter.link_to(self._sink)
        self._graph.configure()
        self._integrated = _GATE_LUFS
        self._momentary = _GATE_LUFS
        self._true_peak = 0.0

    def add(self, frame: Any) -> None:
        """Note an audio frame."""
        self._source.push(frame)
        self._read()

    def finish(self) -> dict[str, float | None]:
        """The fields of `AudioFacts` about loudness; None where no sound is above the gate, or no peak above 0."""
        self._source.push(None)
        self._read()
        return {
            "loudness_lufs": _above_gate(self._integrated),
            "momentary_max_lufs": _above_gate(self._momentary),
            "true_peak_dbtp": 20 * math.log10(self._true_peak) if self._true_peak > 0 else None,
        }

    def _read(self) -> None:
        for metadata in self._measured():
            self._integrated = float(metadata.get("lavfi.r128.I", self._integrated))
            self._momentary = max(self._momentary, float(metadata.get("lavfi.r128.M", self._momentary)))
            self._true_peak = max(self._true_peak, float(metadata.get("lavfi.r128.true_peak", 0.0)))

    def _measured(self) -> Iterator[Any]:
        """The metadata of the frames that leave the filter."""
        while True:
            try:
                frame = self._sink.pull()
            except (BlockingIOError, EOFError):
                return
            yield frame.metadata


def _above_gate(loudness: float) -> float | None:
    return round(loudness, 3) if loudness > _GATE_LUFS else None
