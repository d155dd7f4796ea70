"""Detection of still pictures from the first bytes of a file, whatever its name is."""

from vqmon.errors import DecodeError
from vqmon.media.decode.stills.avif import is_picture_file, read_avif
from vqmon.media.decode.stills.jpeg import JPEG_SIGNATURE, is_motion_jpeg, read_jpeg
from vqmon.media.decode.stills.png import PNG_SIGNATURE, read_png
from vqmon.media.decode.stills.still import StillPicture
from vqmon.media.decode.stills.webp import is_webp, read_webp

_OTHER_PICTURES = {
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"8BPS": "Photoshop",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}


def read_still(media: bytes) -> StillPicture | None:
    """Describe a still picture; None for other media.

    Raises DecodeError: corrupt for a picture that is cut off or damaged, unsupported_codec for an animated one and for
    formats that are not decoded.
    """
    if media.startswith(JPEG_SIGNATURE):
        return None if is_motion_jpeg(media) else read_jpeg(media)
    if media.startswith(PNG_SIGNATURE):
        return read_png(media)
    if is_webp(media):
        return read_webp(media)
    if is_picture_file(media):
        return read_avif(media)
    for signature, name in _OTHER_PICTURES.items():
        if media.startswith(signature):
            raise DecodeError("unsupported_codec", f"a {name} picture; JPEG, PNG, WebP and AVIF are decoded")
    return None
