"""Which coded pictures are decoded for which wanted ones, on small made-up groups of pictures."""

from vqmon.media.decode.bitstream.gop import CodedPicture, plan_runs, presentation_order, starts_with_key_picture


def coded_pictures(text: str, *, droppable_at: str = "") -> list[CodedPicture]:
    """One picture per word, in decoding order: its time, K for a key picture ("K0 P3 B1 B2")."""
    return [
        CodedPicture(time_seconds=float(word[1:]), is_key=word[0] == "K", is_droppable=word[0] in droppable_at)
        for word in text.split()
    ]


def decoded_positions(pictures: list[CodedPicture], *wanted: int) -> list[tuple[int, ...]]:
    return [run.positions for run in plan_runs(pictures, wanted)]


def test_decoding_ends_at_the_wanted_picture() -> None:
    """From the key picture up to the wanted one, and no further."""
    assert decoded_positions(coded_pictures("K0 P1 P2 P3 P4"), 2) == [(0, 1, 2)]


def test_each_group_starts_at_its_own_key_picture() -> None:
    """Pictures between the wanted one and the next needed group are left out."""
    assert decoded_positions(coded_pictures("K0 P1 P2 K3 P4 P5"), 1, 4) == [(0, 1), (3, 4)]


def test_unused_pictures_are_left_out_unless_wanted() -> None:
    """B pictures from which nothing is predicted are skipped; the wanted one is not."""
    pictures = coded_pictures("K0 P3 B1 B2 P6 B4 B5", droppable_at="B")
    assert decoded_positions(pictures, 5) == [(0, 1, 4, 5)]


def test_leading_pictures_belong_to_the_group_before() -> None:
    """A picture shown before a key picture but coded after it needs the previous key picture."""
    pictures = coded_pictures("K0 P1 P2 K5 B3 B4 P6")
    assert decoded_positions(pictures, 4) == [(0, 1, 2, 3, 4)]
    assert decoded_positions(pictures, 3, 6) == [(3, 4, 5, 6)]
    assert decoded_positions(pictures, 3, 4) == [(0, 1, 2, 3, 4)]


def test_only_referenced_pictures_are_decoded_when_references_are_known() -> None:
    """When every picture says what it needs, nothing else is decoded."""
    needs = [frozenset[int](), frozenset({0}), frozenset({0}), frozenset({1, 2}), frozenset({0})]
    pictures = [CodedPicture(time_seconds=float(i), is_key=i == 0, references=needed) for i, needed in enumerate(needs)]
    assert decoded_positions(pictures, 4) == [(0, 4)]
    assert decoded_positions(pictures, 3) == [(0, 1, 2, 3)]


def test_a_reference_across_a_key_picture_decodes_the_whole_run() -> None:
    """A reference across a key picture is not trusted: the whole stretch is decoded."""
    pictures = [
        CodedPicture(time_seconds=0, is_key=True, references=frozenset()),
        CodedPicture(time_seconds=1, is_key=True, references=frozenset()),
        CodedPicture(time_seconds=2, is_key=False, references=frozenset({1})),
        CodedPicture(time_seconds=3, is_key=False, references=frozenset({0})),
    ]
    assert decoded_positions(pictures, 3) == [(1, 2, 3)]


def test_presentation_order_needs_distinct_times() -> None:
    """Times missing or twice the same tell no order; a start is clean when the first coded is the first shown."""
    assert presentation_order(coded_pictures("K0 P3 B1 B2")) == [0, 2, 3, 1]
    assert presentation_order(coded_pictures("K0 P0")) is None
    assert presentation_order([CodedPicture(time_seconds=None, is_key=True)]) is None
    assert starts_with_key_picture(coded_pictures("K0 P1"), [0, 1])
    assert not starts_with_key_picture(coded_pictures("P0 K1"), [0, 1])
    assert not starts_with_key_picture(coded_pictures("K2 B0 B1"), [1, 2, 0])
