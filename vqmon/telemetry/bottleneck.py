"""Which stage is short when vqmon cannot keep up, by the time that segments spend in each, and what to do about it."""

from collections import Counter, deque
from collections.abc import Callable

from vqmon.telemetry.metrics import Meters

OVERLOADED_RULE = "overloaded"

_WINDOW_SECONDS = 60.0

_STAGES = {"fetch": "fetch", "fetch_reference": "fetch", "decode": "decode", "decode_again": "decode"} | {
    "score": "score",
    "score_heavy": "score",
    "score_again": "score",
    "history": "history",
}

_REMEDIES = {
    "fetch": "the network or the origins are slow: raise daemon.in_flight, or watch fewer renditions",
    "decode": 'add cores or raise decode.workers, set decode.sampling = "keyframes", or watch fewer renditions',
    "score": "use a cheaper scorer, a GPU (scoring.device), standard_error_points = 0, or watch fewer renditions",
    "history": "the history is slow or cannot be written: see /readyz, and put it on a faster local disk",
}


class Bottleneck:
    """The stage in which segments spent most of the last minute; `monotonic` is in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # when a stage was busy for so many seconds
        self._busy: deque[tuple[float, str, float]] = deque()

    def record_stage(self, stage: str, seconds: float) -> None:
        """A segment was so long in a stage of its observation, or in being written to the history."""
        self._busy.append((self._monotonic(), _STAGES.get(stage, stage), seconds))
        # here too: nobody asks for the stage while vqmon keeps up
        self._forget_old()

    @property
    def stage(self) -> str:
        """Fetch, decode, score or history."""
        self._forget_old()
        seconds: Counter[str] = Counter()
        for _, stage, busy_seconds in self._busy:
            seconds[stage] += busy_seconds  # type: ignore[assignment]
        known = [stage for stage, _ in seconds.most_common() if stage in _REMEDIES]
        # nothing was finished: what is in flight is being fetched, decoded or scored
        return known[0] if known else "decode"

    def describe(self, consequence: str) -> str:
        """What is short, what comes of it, and what to do, for people."""
        short = self.stage
        return f"vqmon cannot keep up, {short} is short; {consequence}; {_REMEDIES[short]}"

    def report(self, meters: Meters, *, is_overloaded: bool) -> None:
        """Set the gauge of each stage."""
        short = self.stage if is_overloaded else ""
        meters.replace("vqmon.overloaded", [(float(stage == short), {"short": stage}) for stage in _REMEDIES])

    def _forget_old(self) -> None:
        oldest = self._monotonic() - _WINDOW_SECONDS
        while self._busy and self._busy[0][0] < oldest:
            self._busy.popleft()
