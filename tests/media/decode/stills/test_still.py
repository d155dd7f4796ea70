"""The description of a still picture, and the facts that are published with it."""

import pytest

from vqmon.errors import DecodeError
from vqmon.media.decode.stills.still import StillPicture, animation_error, still_facts
from vqmon.media.images.colour import describe_colour


def test_a_picture_without_an_area_is_corrupt() -> None:
    with pytest.raises(DecodeError, match="the webp header gives the size 0x5") as caught:
        StillPicture(format="webp", codec="webp", width=0, height=5, payload=b"")
    assert caught.value.reason == "corrupt"


@pytest.mark.parametrize(("format", "codec", "published"), [("jpeg", "mjpeg", "jpeg"), ("avif", "libdav1d", "av1")])
def test_the_facts_state_one_picture_without_a_duration(format: str, codec: str, published: str) -> None:
    still = StillPicture(format=format, codec=codec, width=4, height=2, payload=b"")  # type: ignore[arg-type]
    colour = describe_colour(colorspace=5, color_range=2, color_trc=2, pixel_format="yuvj420p")
    facts = still_facts(still, pixel_format="yuvj420p", colour=colour)
    assert (facts["container"], facts["codec"], facts["colour"]) == (format, published, "bt601/full")
    assert (facts["frame_count"], facts["duration_seconds"], facts["fps"]) == (1, 0.0, 0.0)


def test_the_refusal_of_an_animation_tells_what_to_send() -> None:
    error = animation_error("WebP")
    assert error.reason == "unsupported_codec"
    assert "send it as video" in error.detail
