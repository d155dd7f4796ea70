"""Files of the published sizes, laid out and named as their trainers write them, fill the networks that take them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.checkpoints.published_files import PUBLISHED_FILES  # noqa: E402
from models.export.assembly import published  # noqa: E402
from models.export.owl_streaming import load_owl  # noqa: E402
from models.networks.owl.owl import Owl, OwlConfig  # noqa: E402
from models.weights import WeightsError, load_weights, state_dict_shapes  # noqa: E402
from tests.models.test_weights import Shelf  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

MILLIONS = {
    "fast_vqa": 28.1,
    "dover": 56.2,
    "cover": 61.0,
    "liqe": 151.3,
    "slowfast": 34.0,
    "rq_vqa": 91.3,
    "topiq": 44.1,
}
"""Scorer -> parameters of its own network, in millions."""


def of_shape(shape: tuple[int, ...], *, dtype: Any = torch.float32) -> Any:
    """A tensor of any size of which a file holds one number."""
    return torch.zeros((), dtype=dtype).expand(shape)


@pytest.mark.parametrize("name", MILLIONS)
def test_a_file_of_full_size_fills_its_network(tmp_path: Path, name: str) -> None:
    """Every tensor by its full name and shape, in the layout of the repository that publishes it."""
    file = next(iter(published.PUBLISHED_SCORERS[name].files.values()))
    dtype = torch.float16 if name == "liqe" else torch.float32
    shapes = state_dict_shapes(file.build())
    table = {key: of_shape(shape, dtype=dtype) for key, shape in shapes.items()}
    layouts: dict[str, Any] = {
        "fast_vqa": {"state_dict": table, "validation_results": (np.float64(0.87), np.float32(0.88))},
        "dover": table,
        "cover": {
            "state_dict": {
                **table,
                "semantic_backbone.prompt_learner.ctx": of_shape((2, 16, 768)),
                "technical_backbone.layers.0.blocks.0.attn.relative_position_index": of_shape((392, 392)),
            },
            "validation_results": (np.float64(0.91), np.float32(0.25)),
        },
        "liqe": {**table, "input_resolution": torch.tensor(224), "vocab_size": torch.tensor(49408)},
        "slowfast": {"model_state": {**table, "blocks.6.proj.weight": of_shape((400, 2304))}, "cfg": "MODEL: x"},
        "topiq": {"params": {**table, "attn_blks.0.layers.0.self_attn.in_proj_bias": of_shape((768,))}},
        "rq_vqa": {f"module.{key}": tensor for key, tensor in table.items()},
    }
    torch.save(layouts[name], tmp_path / "x.pth")
    assert (tmp_path / "x.pth").stat().st_size < 2**21
    loaded = load_weights(str(tmp_path / "x.pth"), hub=Shelf(tmp_path))
    network = published.load_network(file, loaded.checkpoint, loaded.checkpoint.shapes)
    assert state_dict_shapes(network) == shapes
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(MILLIONS[name], rel=0.02)


def test_the_visual_tower_of_clip_is_taken_from_its_file(tmp_path: Path) -> None:
    """COVER's other file holds both towers; that of another size is refused by shape, and COVER's own by name."""
    kit = published.PUBLISHED_SCORERS["cover"]
    shapes = state_dict_shapes(kit.files["clip"].build())
    text = {
        "positional_embedding": (77, 768),
        "transformer.resblocks.0.ln_1.bias": (768,),
        "text_projection": (768, 768),
    }
    table = {key: of_shape(shape) for key, shape in (shapes | text).items()}
    torch.save(table, tmp_path / "ViT-L-14.pt")
    loaded = load_weights(str(tmp_path / "ViT-L-14.pt"), hub=Shelf(tmp_path))
    network = published.load_network(kit.files["clip"], loaded.checkpoint, loaded.checkpoint.shapes)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(304.0, rel=0.01)
    smaller = loaded.checkpoint.shapes | {"visual.class_embedding": (768,)}
    with pytest.raises(
        WeightsError, match=r"visual\.class_embedding is \(768,\), not \(1024,\); expected CLIP ViT-L/14"
    ):
        published.load_network(kit.files["clip"], loaded.checkpoint, smaller)
    with pytest.raises(WeightsError, match=r"these are the weights of CLIP ViT-L; expected COVER\.pth"):
        published.load_network(kit.files["cover"], loaded.checkpoint, loaded.checkpoint.shapes)


@pytest.mark.parametrize("wrapper", ["", "model.", "net."])
def test_tensors_may_stand_within_a_trainers_wrapper(wrapper: str) -> None:
    """Lightning puts the network's own name before each tensor, and its losses beside them."""
    file = small_file()
    shapes = {f"{wrapper}{name}": shape for name, shape in state_dict_shapes(file.build()).items()}
    weights = {name: torch.full(shape, 2.0) for name, shape in shapes.items()}
    beside = {"loss.weight": (2,)} if wrapper else {}
    network = published.load_network(file, weights, shapes | beside)
    assert all(bool((tensor == 2).all()) for tensor in network.state_dict().values())


def test_a_file_of_two_networks_is_refused() -> None:
    """Which of them is meant, a student or its teacher, the names do not say."""
    file = small_file()
    own = state_dict_shapes(file.build())
    shapes = {f"{wrapper}.{name}": shape for wrapper in ("student", "teacher") for name, shape in own.items()}
    weights = {name: torch.ones(shape) for name, shape in shapes.items()}
    with pytest.raises(WeightsError, match=r"holds 2 networks \(student\., teacher\.\)"):
        published.load_network(file, weights, shapes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor * float("nan"), "0.weight holds numbers that are not finite.*expected FAST_VQA"),
        (lambda tensor: tensor.to(torch.int8), "0.weight is of int8, as in a quantized network.*expected FAST_VQA"),
    ],
)
def test_numbers_that_are_no_parameters_are_refused(change: Callable[[Any], Any], message: str) -> None:
    file = small_file()
    shapes = state_dict_shapes(file.build())
    weights = {name: change(torch.ones(shape)) for name, shape in shapes.items()}
    with pytest.raises(WeightsError, match=message):
        published.load_network(file, weights, shapes)


def test_a_missing_file_is_named_with_its_address() -> None:
    """Which network, where it is published, and by which option it is given."""
    with pytest.raises(WeightsError) as caught:
        published.require_files("cover", {})
    assert "--weights FILE: COVER.pth, published at " in str(caught.value)
    assert "--part clip=FILE: CLIP ViT-L/14 (ViT-L-14.pt), published at " in str(caught.value)
    with pytest.raises(WeightsError, match=r"not named: --part clip=FILE: CLIP ViT-L/14.*openai/CLIP"):
        published.require_files("cover", {"cover": "COVER.pth"})


def small_file() -> published.WeightsFile:
    """A file of a network of one layer, under the name of FAST-VQA."""
    return replace(
        published.PUBLISHED_SCORERS["fast_vqa"].files["fast_vqa"],
        build=lambda: torch.nn.Sequential(torch.nn.Linear(2, 3)),
    )


@pytest.mark.parametrize("name", ["q_align", "compare2score"])
def test_shards_of_full_size_are_those_of_the_language_model(tmp_path: Path, name: str) -> None:
    """8.2 billion parameters in two shards with their index, and the frequencies that older files hold."""
    with torch.device("meta"):
        shapes = state_dict_shapes(Owl(OwlConfig()))
    shapes |= {f"model.layers.{number}.self_attn.rotary_emb.inv_freq": (64,) for number in range(32)}
    names, index = sorted(shapes), {}
    for number, half in enumerate((names[::2], names[1::2]), start=1):
        shard = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({key: of_shape(shapes[key], dtype=torch.bfloat16) for key in half}, tmp_path / shard)
        index |= dict.fromkeys(half, shard)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    loaded = load_owl(str(tmp_path), OwlConfig(), Shelf(tmp_path), published=PUBLISHED_FILES[name])
    assert set(loaded.hashes) == {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"}
    sizes = {key: int(np.prod(shape)) for key, shape in loaded.checkpoint.shapes.items()}
    count = sum(size for key, size in sizes.items() if "pos_embed" not in key and "inv_freq" not in key)
    assert count == pytest.approx(8_197_859_328, rel=1e-4)
