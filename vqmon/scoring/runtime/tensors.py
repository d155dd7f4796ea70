"""Converts pixels to the input tensor of a scorer."""

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import Pixels
from vqmon.scoring.manifests.frame_scorer import InputSpec

Tensor = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint8]
"""(batch, 3, height, width), contiguous."""


def to_tensor(pixels: Pixels, spec: InputSpec) -> Tensor:
    """Transpose pictures (batch, height, width, 3) to channels first and normalise them as `spec` says.

    >>> import numpy as np
    >>> from vqmon.core.types import View
    >>> view = View(kind="stretch", width=1, height=1)
    >>> facts = {"name": "x", "colour": "rgb", "layout": "NCHW", "dtype": "float32"}
    >>> spec = InputSpec(view=view, mean=(0.0, 0.0, 0.5), std=(1.0, 0.5, 0.5), **facts)
    >>> to_tensor(np.full((1, 1, 1, 3), 255, np.uint8), spec).ravel().tolist()
    [1.0, 2.0, 1.0]
    """
    planes = pixels.transpose(0, 3, 1, 2)
    if spec.dtype == "uint8":
        return np.ascontiguousarray(planes)
    # One conversion and two passes in place: twice as fast as a table of 256 entries per channel.
    scale = (1 / (255 * np.asarray(spec.std))).astype(np.float32)
    shift = (-np.asarray(spec.mean) / np.asarray(spec.std)).astype(np.float32)
    tensor = np.empty(planes.shape, dtype=np.float32)
    tensor[...] = planes
    tensor *= scale[:, None, None]
    tensor += shift[:, None, None]
    return tensor if spec.dtype == "float32" else tensor.astype(np.float16)
