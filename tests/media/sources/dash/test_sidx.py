"""Parsing of segment index boxes."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from tests.media.sources.dash.rig import sidx
from vqmon.errors import SegmentError
from vqmon.media.sources.dash.sidx import parse_sidx


@given(st.binary(max_size=200))
def test_any_bytes_give_an_index_or_none(box: bytes) -> None:
    """Also with a header that looks right."""
    for candidate in (box, sidx([(5, 5)])[:28] + box):
        with suppress(SegmentError):
            assert isinstance(parse_sidx(candidate, offset_bytes=0), tuple)
