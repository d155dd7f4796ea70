"""Assemblies: golden rows of their inputs, the arguments of their parts, and refused connections."""

import pytest

torch = pytest.importorskip("torch")


from models.export.assembly.assembly import GraphAssembly, GraphPart, PixelInput  # noqa: E402
from models.networks.pictures import liqe  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_parts_that_take_what_nobody_gives_are_refused() -> None:
    """A name that is neither a source nor an earlier part."""
    source = PixelInput(name="picture", transform="centre", side=8)
    part = GraphPart(name="y", network=liqe.ExpectedQuality(), takes=("pictures",))
    with pytest.raises(ValueError, match="takes 'pictures', which is not available; available: picture"):
        GraphAssembly(name="x", version=1, inputs=(source,), parts=(part,))
