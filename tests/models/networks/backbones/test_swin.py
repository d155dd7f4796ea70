"""Window partitions of Swin: nothing is lost, positions have their biases, shifted regions do not mix."""

import pytest

torch = pytest.importorskip("torch")

from models.networks.backbones.swin import (  # noqa: E402
    Swin,
    SwinConfig,
    WindowPartition,
    relative_position_index,
    split_heads,
)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

TINY = SwinConfig(
    frames=1, side=32, patch=(1, 4, 4), width=8, depths=(2, 1), heads=(1, 2), window=(1, 4, 4), gated_stages=0
)


@pytest.mark.parametrize("shifted", [False, True])
def test_reverse_undoes_partition(shifted: bool) -> None:
    """Of a clip of several windows along every axis, shifted or not."""
    partition = WindowPartition((4, 6, 8), (2, 3, 4), shifted=shifted, gated=False)
    tokens = torch.randn(2, 4, 6, 8, 5)
    windows = partition.partition(tokens)
    assert windows.shape == (2, 8, 24, 5)
    assert torch.equal(partition.reverse(windows), tokens)


@pytest.mark.parametrize("shifted", [False, True])
def test_a_grid_that_windows_do_not_fill_in_time_ends_in_zeros(shifted: bool) -> None:
    """Appended behind the last moment, and gone after the reverse; the regions have them."""
    partition = WindowPartition((5, 4, 8), (2, 4, 4), shifted=shifted, gated=True)
    tokens = 1 + torch.rand(3, 5, 4, 8, 6)
    windows = partition.partition(tokens)
    assert windows.shape == (3, 6, 32, 6)
    assert int((windows == 0).sum()) == 3 * 4 * 8 * 6
    if not shifted:
        assert (windows.view(3, 3, 2, 2, 16, 6)[:, -1, :, 1] == 0).all()
    assert torch.equal(partition.reverse(windows), tokens)
    assert partition.gates.shape == (2, 32, 32)
    assert not shifted or partition.regions.shape == (6, 32)


@pytest.mark.parametrize("grid", [(2, 7, 8), (2, 8, 6), (1, 8, 8)])
def test_other_windows_that_do_not_fill_the_grid_are_refused(grid: tuple[int, int, int]) -> None:
    """Rather than padded on a side, or cropped in time."""
    with pytest.raises(ValueError, match="do not fill a grid"):
        WindowPartition(grid, (2, 4, 4), shifted=False, gated=False)


def test_pairs_at_the_same_distance_share_a_bias() -> None:
    """The index depends on the difference of two positions alone; opposite differences have different rows."""
    index = relative_position_index((1, 2, 3))
    assert index.shape == (6, 6)
    assert len(index.diagonal().unique()) == 1
    assert index[0, 1] == index[1, 2] == index[3, 4]
    assert index[0, 1] != index[1, 0]
    assert int(index.max()) == 1 * 3 * 5 - 1


def test_an_axis_of_one_window_is_not_shifted() -> None:
    """A window that spans all rows shifts columns alone."""
    partition = WindowPartition((1, 4, 8), (1, 4, 4), shifted=True, gated=False)
    assert partition.shift == (0, 0, 2)
    assert not WindowPartition((1, 4, 4), (1, 4, 4), shifted=True, gated=False).is_shifted


def test_only_tokens_that_the_shift_brought_together_are_masked() -> None:
    """Unshifted windows have no mask; the last shifted window keeps its two regions apart."""
    partition = WindowPartition((1, 4, 8), (1, 4, 4), shifted=True, gated=False)
    bias = torch.zeros(1, 1, 16, 16)
    logits = partition.add_bias(torch.zeros(1, 2, 1, 16, 16), bias)[0, :, 0]
    assert logits[0].abs().max() == 0
    columns = torch.arange(16) % 4 // 2
    apart = columns[:, None] != columns[None, :]
    assert torch.equal(logits[1], apart * -100.0)


def test_gates_count_the_distance_of_fragments() -> None:
    """With as many fragments as tokens of a window, two tokens of one fragment are 0 apart, neighbours 1."""
    partition = WindowPartition((1, 8, 8), (1, 4, 4), shifted=False, gated=True)
    gates = partition.gates[0].long()
    assert gates[0, 0] == gates[0, 1] == gates[0, 4] == 0
    assert gates[0, 2] == gates[0, 8] == 1
    assert gates[0, 10] == 2


def test_heads_are_consecutive_slices() -> None:
    """Query, key and value of a head are slices of the fused projection, in this order."""
    fused = torch.arange(12.0).view(1, 1, 12)
    query, key, value = split_heads(fused, 2)
    assert [part[0, head, 0].tolist() for part in (query, key, value) for head in (0, 1)] == [
        [0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]
    ]  # fmt: skip


def test_pictures_do_not_depend_on_their_batch() -> None:
    """Tokens have the last stage's width; a picture alone gives what it gives among others."""
    torch.manual_seed(0)
    network = Swin(TINY).eval()
    pictures = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        tokens = network(pictures)
        torch.testing.assert_close(network(pictures[1:2]), tokens[1:2])
    assert tokens.shape == (3, 1, 4, 4, TINY.features)
