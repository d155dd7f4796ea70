"""Splitting of prompts for the exported language scorer."""

import pytest

torch = pytest.importorskip("torch")

from models.networks.owl.exportable import compute_constants, split_prompt  # noqa: E402
from models.networks.owl.language import LanguageConfig  # noqa: E402
from models.networks.owl.owl import PICTURE_TOKEN as PICTURE  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def rows(count: int) -> torch.Tensor:
    """Embeddings that name their position among the text tokens."""
    return torch.arange(float(count))[:, None]


def test_one_open_picture_splits_prefix_and_suffix() -> None:
    """The prefix is all text before the picture, nothing is between, and the picture comes at its end."""
    prompt = split_prompt([1, 2, PICTURE, 3, 4, 5], rows(5))
    assert [part.flatten().tolist() for part in prompt.prefix] == [[0, 1]]
    assert prompt.first_picture_position == 2
    assert len(prompt.between) == 0
    assert prompt.suffix.flatten().tolist() == [2, 3, 4]


def test_two_open_pictures_have_text_between() -> None:
    """The position of the first picture is known; that of the second depends on the first."""
    prompt = split_prompt([1, PICTURE, 2, PICTURE, 3], rows(3))
    assert prompt.first_picture_position == 1
    assert prompt.between.flatten().tolist() == [1]
    assert prompt.suffix.flatten().tolist() == [2]


def test_a_fixed_picture_belongs_to_the_prefix() -> None:
    """Its 65 tokens come before the text that is between it and the open picture."""
    picture = torch.zeros(65, 1)
    prompt = split_prompt([1, PICTURE, 2, 2, PICTURE, 3], rows(4), fixed_pictures=[picture])
    assert [len(part) for part in prompt.prefix] == [1, 65]
    assert prompt.between.flatten().tolist() == [1, 2]
    assert prompt.first_picture_position == 1 + 65 + 2


@pytest.mark.parametrize("ids", [[1, 2], [1, PICTURE], [PICTURE, 1, PICTURE, 2, PICTURE, 3]])
def test_other_numbers_of_open_pictures_are_refused(ids: list[int]) -> None:
    """None, one without text after it, and three."""
    with pytest.raises(ValueError, match="one or two pictures open"):
        split_prompt(ids, rows(sum(token != PICTURE for token in ids)))


def test_prompts_of_one_scorer_share_the_text_between_pictures() -> None:
    """Its length is part of the graph."""
    questions = [split_prompt([1, PICTURE, 2, PICTURE, 3], rows(3)), split_prompt([1, PICTURE, 3], rows(2))]
    with pytest.raises(ValueError, match="same text between pictures"):
        compute_constants(questions, iter(()), config=LanguageConfig(), head=torch.zeros(5, 1))
