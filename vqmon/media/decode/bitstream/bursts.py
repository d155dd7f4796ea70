"""Bursts: short runs of consecutive pictures at sampled frames, for signals that one picture a second cannot show.

Between two samples a decoder leaves out the pictures from which nothing is predicted, or, where samples are key
pictures, everything. A burst is `BURST_PICTURES` pictures in a row that begin or end with a sample, whichever needs
fewer additional pictures.
"""

from collections.abc import Collection, Sequence

from vqmon.media.decode.bitstream.gop import CodedPicture, plan_runs

BURST_PICTURES = 8

_MAX_COST_SHARE = 0.08
# what one sampled frame costs besides its decoding - its views and signals - in decoded pictures
_SAMPLE_PICTURES = 7
_MAX_MEASURED_SAMPLES = 240


def plan_bursts(
    pictures: Sequence[CodedPicture], order: Sequence[int], sampled: Sequence[int], *, planned: Collection[int]
) -> set[int]:
    """Positions of the pictures of all bursts; `order` is the presentation order, `planned` is decoded anyway.

    The cheapest bursts come first, until they add a twelfth to the cost of the look; the first one is always there. Of
    long segments the first `_MAX_MEASURED_SAMPLES` samples may have one.
    """
    index_of = {position: index for index, position in enumerate(order)}
    decoded = set(planned)
    candidates = []
    for rank, position in enumerate(sampled[:_MAX_MEASURED_SAMPLES]):
        costs = []
        for burst in _bursts_at(order, index_of[position]):
            needed = {coded for run in plan_runs(pictures, burst) for coded in run.positions}
            costs.append((len(needed - decoded), rank, burst, needed))
        candidates += [min(costs, key=lambda cost: cost[0])] if costs else []
    allowance = _MAX_COST_SHARE * (len(decoded) + _SAMPLE_PICTURES * len(sampled))
    chosen: set[int] = set()
    for number, (_, _, burst, needed) in enumerate(sorted(candidates, key=lambda cost: cost[:2])):
        cost = len(needed - decoded)
        if number and cost > allowance:
            break
        allowance -= cost
        decoded |= needed
        chosen.update(burst)
    return chosen


def _bursts_at(order: Sequence[int], index: int) -> list[Sequence[int]]:
    """The longest bursts that end or begin with the picture at `index`."""
    bursts = [order[max(index + 1 - BURST_PICTURES, 0) : index + 1], order[index : index + BURST_PICTURES]]
    longest = max(len(burst) for burst in bursts)
    return [burst for burst in bursts if len(burst) == longest and longest > 1]
