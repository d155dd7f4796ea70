"""Stream ids and names in URLs."""

import pytest

from vqmon.web.urls import quote_stream_id, stream_path, unquote_stream_id


@pytest.mark.parametrize(
    "stream_id", ["a", "a/b", "..", "a/../b", "a//b", "~x", "ü 1", "a?b#c", "%2F", "x\n", "/", "a\\b"]
)
def test_any_stream_id_survives_a_url(stream_id: str) -> None:
    """What goes into a path comes out of it, and a browser finds no dots to fold."""
    from urllib.parse import unquote

    quoted = quote_stream_id(stream_id)
    assert unquote_stream_id(unquote(quoted)) == stream_id
    assert not {"", ".", ".."} & set(quoted.split("/"))
    assert stream_path(stream_id).isascii()
