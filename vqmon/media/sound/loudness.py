"""Loudness by libavfilter's `ebur128` (EBU R 128, ITU-R BS.1770): integrated, momentary, true peak."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

_GATE_LUFS = -70.0
"""Absolute gate of ITU-R BS.1770: `ebur128` gives this value when no block is louder."""


_PEAK_GAIN = 1000
"""The filter tells peaks in steps of 0.001, which are 1.6 dB at -46 dBTP."""


class LoudnessMeter:
    """Passes frames of one format through the filter; `new_graph` creates an empty filter graph."""

    def __init__(self, new_graph: Callable[[], Any], *, rate_hz: int, layout: str, sample_format: str) -> None:
        self._graph = new_graph()
        self._source = self._graph.add(
            "abuffer",
            f"sample_rate={rate_hz}:sample_fmt={sample_format}:channel_layout={layout}:time_base=1/{rate_hz}",
        )
        # the peak is that of the louder copy; the second meter replaces all other values by those of the sound itself
        chain = [
            self._source,
            self._graph.add("volume", f"{_PEAK_GAIN}:precision=double"),
            self._graph.add("ebur128", "peak=true:metadata=1"),
            self._graph.add("volume", f"1/{_PEAK_GAIN}:precision=double"),
            self._graph.add("ebur128", "metadata=1"),
            self._graph.add("abuffersink"),
        ]
        for before, after in pairwise(chain):
            before.link_to(after)
        self._sink = chain[-1]
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
            self._true_peak = max(self._true_peak, float(metadata.get("lavfi.r128.true_peak", 0.0)) / _PEAK_GAIN)

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
