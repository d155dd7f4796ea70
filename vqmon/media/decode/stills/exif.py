"""The orientation that Exif metadata gives (Exif 2.32, 4.6.4: tag 274; TIFF 6.0, section 2)."""

import struct

from vqmon.media.images.resampling import Orientation

_ORIENTATION_TAG = 274
_SHORT = 3
_ENTRY_BYTES = 12
_ORIENTATIONS = {
    1: Orientation(),
    2: Orientation(flips_x=True),
    3: Orientation(flips_x=True, flips_y=True),
    4: Orientation(flips_y=True),
    5: Orientation(transposes=True),
    6: Orientation(transposes=True, flips_x=True),
    7: Orientation(transposes=True, flips_x=True, flips_y=True),
    8: Orientation(transposes=True, flips_y=True),
}
EXIF_PREFIX = b"Exif\0\0"


def read_exif_orientation(exif: bytes) -> Orientation:
    """The orientation in a block of Exif metadata, with or without its prefix; upright without a valid one."""
    tiff = exif.removeprefix(EXIF_PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return Orientation()
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for index in range(count):
            tag, kind, values, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + index * _ENTRY_BYTES)
            if tag == _ORIENTATION_TAG:
                is_valid = kind == _SHORT and values == 1
                return _ORIENTATIONS.get(value, Orientation()) if is_valid else Orientation()
    except struct.error:
        # the directory lies outside the block
        pass
    return Orientation()
