"""Published files become networks, or are refused by the names in them."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")


from models.export.assembly import published  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.networks.fragments.fast_vqa import FastVqa  # noqa: E402
from models.weights import WeightsError  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


CLIPS = SwinConfig(frames=8, side=56, width=8, depths=(2, 1), heads=(1, 2), window=(2, 7, 7), gated_stages=1)


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    """One missing, one unknown, one of another shape, and where the right file is; tables that follow from the sizes
    are accepted."""
    spec = replace(published.PUBLISHED_SCORERS["fast_vqa"].files["fast_vqa"], build=lambda: FastVqa(CLIPS))
    good = dict(FastVqa(CLIPS).state_dict())
    good["fragments_backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(1)
    shapes = {name: tuple(tensor.shape) for name, tensor in good.items()}
    published.load_network(spec, good, shapes)
    bad = dict(shapes)
    bad["vqa_head.fc_last.bias"] = (2,)
    bad["vqa_head.fc_lost.bias"] = bad.pop("vqa_head.fc_hid.bias")
    message = (
        r"1 missing: vqa_head\.fc_hid\.bias; 1 unknown: vqa_head\.fc_lost\.bias; "
        r"1 of another shape: vqa_head\.fc_last\.bias is \(2,\), not \(1,\); "
        r"expected FAST_VQA_B_1_4\.pth or .*, published at https://github\.com/VQAssessment/"
    )
    with pytest.raises(WeightsError, match=message):
        published.load_network(spec, good, bad)


@pytest.mark.parametrize("name", list(published.PUBLISHED_SCORERS))
def test_every_kit_has_facts_and_a_licence(name: str) -> None:
    """The facts of the sheet; none of these states whether commercial use is allowed."""
    facts = published.read_scorer_facts(name)
    assert facts.licence.commercial is None
    assert "paper" in facts.provenance
