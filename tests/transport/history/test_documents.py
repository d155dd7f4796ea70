"""Blocks of events: whatever goes in comes out byte for byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from vqmon.errors import StoreError
from vqmon.transport.history.documents import pack_block, unpack_block
from vqmon.transport.wire import cloudevents

EVENTS = [
    cloudevents.encode_outcome(it, source="vqmon:test")
    for it in (
        factories.event(sequence=0),
        factories.failure(sequence=1),
        factories.event(sequence=2, score=33.3),
        factories.failure(sequence=3),
    )
]
PICTURES = st.one_of(st.text("0123456789abcdefABCDEF", max_size=12), st.text(max_size=4))
ODD = st.builds(
    lambda edges, more: json.dumps({"edges": edges, "more": more}, separators=(",", ":")).encode(),
    st.lists(PICTURES, max_size=3),
    st.one_of(st.text(max_size=9), st.fixed_dictionaries({"edges": st.lists(PICTURES, max_size=2)})),
)


@given(
    documents=st.lists(st.one_of(st.sampled_from(EVENTS), ODD), min_size=1, max_size=70),
    dictionary=st.sampled_from([None, *EVENTS]),
)
def test_documents_come_back_byte_for_byte(documents: list[bytes], dictionary: bytes | None) -> None:
    """Events, failures, and JSON that looks nearly like an event."""
    body, pictures = pack_block(documents, dictionary)
    assert list(unpack_block(body, pictures, dictionary)) == documents


def test_pictures_take_half_their_room() -> None:
    """An event in a block takes little more than the bytes of its two fingerprints."""
    events = [cloudevents.encode_outcome(factories.event(sequence=number), source="vqmon:test") for number in range(64)]
    body, pictures = pack_block(events, events[0])
    assert len(pictures) == 64 * (4 + 2 * 576)
    assert len(body) < 64 * 400


def test_a_damaged_block_says_so() -> None:
    """Bits that rot on the disk are an error with a name, no wrong event."""
    body, pictures = pack_block(EVENTS, None)
    with pytest.raises(StoreError, match="damaged"):
        unpack_block(body[:20] + b"\0\0\0\0" + body[24:], pictures, None)
