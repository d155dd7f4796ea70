"""Remedies and sentences."""

import pytest

from vqmon.errors import REASONS
from vqmon.web.model.explanations import REMEDIES_BY_REASON, reason_sentence


def test_every_reason_has_a_remedy() -> None:
    """No failure leaves a reader without something to do."""
    assert set(REMEDIES_BY_REASON) == set(REASONS)
    assert all(REMEDIES_BY_REASON.values())


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_a_sentence(reason: str) -> None:
    sentence = reason_sentence(reason)
    assert sentence[0] == sentence[0].upper()
    assert sentence.endswith(".")


def test_an_unknown_reason_of_a_newer_version_is_shown_as_it_is() -> None:
    assert reason_sentence("new_reason") == "New_reason."
