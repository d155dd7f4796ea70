"""Files as the published trainers write them are read; other files are refused with what they are."""

import argparse
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from models.checkpoints.published_files import PUBLISHED_FILES, recognize_network  # noqa: E402
from models.checkpoints.reading import open_weights, read_saved  # noqa: E402
from models.data.csv_scores import DataError  # noqa: E402
from models.train.checkpoint import read_table, read_training_state  # noqa: E402
from models.weights import WeightsError, check_published, load_weights  # noqa: E402
from tests.models.test_weights import Shelf  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

TENSORS = OrderedDict({"a.weight": torch.arange(6.0).view(2, 3), "b.bias": torch.ones(4, dtype=torch.float16)})
WRAPPED = OrderedDict({f"module.{name}": tensor for name, tensor in TENSORS.items()})
OPTIMIZER = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))]).state_dict()
RESULTS = (np.float64(0.87), np.float32(0.88), 0.7, np.sqrt(np.float64(2)))
ARGUMENTS = argparse.Namespace(folder=Path("runs") / "one", rate=np.float64(1e-4), seeds=np.arange(3))

LAYOUTS: Mapping[str, object] = {
    "fast_vqa: results of validation beside the tensors": {"state_dict": TENSORS, "validation_results": RESULTS},
    "fast_vqa: with optimizer": {"state_dict": TENSORS, "optimizer": OPTIMIZER, "best": [np.int64(3), np.bool_(True)]},
    "dover, liqe: flat": TENSORS,
    "liqe: results of six sets": {
        "epoch": 3, "model_state_dict": TENSORS, "optimizer_state_dict": OPTIMIZER,
        "all_results": {"val": defaultdict(list, {"live": np.array([0.9, 0.8])}), "test": {}},
    },
    "slowfast": {"epoch": 1, "model_state": TENSORS, "optimizer_state": OPTIMIZER, "cfg": "MODEL: x\n"},
    "swin": {"model": TENSORS, "optimizer": OPTIMIZER, "max_accuracy": np.float64(83.5), "epoch": 299},
    "rq_vqa: DataParallel": WRAPPED,
    "averaged model": OrderedDict(n_averaged=torch.tensor(9), **WRAPPED),
    "compiled within DataParallel": {f"module._orig_mod.{name}": tensor for name, tensor in TENSORS.items()},
    "arguments of the command line": {"state_dict": WRAPPED, "args": ARGUMENTS, "hyper_parameters": {"a": ARGUMENTS}},
    "basicsr": {"params_ema": TENSORS},
    "deepspeed": {"module": TENSORS, "global_steps": 3},
    "averaged weights alone": {"model_ema": TENSORS, "epoch": 1},
    "numbers in the table itself": {"iteration": 3, "srcc": np.float64(0.9), **TENSORS},
}  # fmt: skip


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_trainers_are_read(tmp_path: Path, layout: str, is_zip: bool) -> None:
    """Every tensor by its name in the network, from either format of torch.save and whatever the suffix is."""
    file = tmp_path / "checkpoint.pth.tar"
    torch.save(LAYOUTS[layout], file, _use_new_zipfile_serialization=is_zip)
    shapes, read = open_weights(file)
    assert shapes == {"a.weight": (2, 3), "b.bias": (4,)}
    assert all(torch.equal(read(name), tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("core", ["core", "_core"])
def test_numbers_of_either_numpy_are_skipped(tmp_path: Path, core: str) -> None:
    """numpy 1 and 2 pickle under other names; what they are is not built."""
    data = pickle.dumps({"best": np.float64(0.5)}, protocol=2)
    renamed = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    buffer = io.BytesIO()
    torch.save({"best": np.float64(0.5), "weights": dict(TENSORS)}, buffer)
    source = zipfile.ZipFile(buffer)
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as target:
        for name in source.namelist():
            content = source.read(name).replace(b"numpy._core.multiarray", f"numpy.{core}.multiarray".encode())
            target.writestr(name, content)
    assert renamed != data
    saved: Any = read_saved(tmp_path / "x.pth")
    assert not isinstance(saved["best"], float | np.generic)
    assert set(open_weights(tmp_path / "x.pth")[0]) == set(TENSORS)


class Runs:
    """Calls a function when it is unpickled carelessly."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.reduced = call, arguments

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("call", [print, eval, __import__, getattr, np.load, torch.load, torch.hub.load])
def test_other_objects_are_refused_by_name(tmp_path: Path, call: Callable[..., object]) -> None:
    """Beside the tensors, within what is skipped, and in the old format."""
    for at, table in enumerate(
        ({"state_dict": TENSORS, "x": Runs(call, "1")}, {"args": argparse.Namespace(x=Runs(call, "1"))})
    ):
        for is_zip in (True, False):
            file = tmp_path / f"{at}{is_zip}.pth"
            torch.save(table, file, _use_new_zipfile_serialization=is_zip)
            with pytest.raises(ValueError, match=rf"{call.__name__}, which reading would have to run") as caught:
                open_weights(file)
            assert_one_line(str(caught.value))


def test_a_pickled_network_is_refused(tmp_path: Path) -> None:
    """It names classes, not tensors."""
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match=r"object of torch\.nn\.modules\.linear\.Linear.*state_dict\(\) alone"):
        open_weights(tmp_path / "whole.pt")


def assert_one_line(message: str) -> None:
    assert message.isprintable()


def write_wrong_files(folder: Path) -> dict[str, str]:
    """File -> what is said of it."""
    torch.save(dict(TENSORS), folder / "good.pth")
    torch.save(dict(TENSORS), folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(dict(TENSORS), folder / "good.safetensors")
    for name in ("good.pth", "old.pth", "good.safetensors"):
        (folder / f"cut.{name}").write_bytes((folder / name).read_bytes()[:-20])
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 34560013\n"
    (folder / "pointer.pth").write_text(pointer)
    (folder / "page.pth").write_text(
        "<!DOCTYPE html><html><head><title>Google Drive - \x1b[1mVirus scan</title></head></html>"
    )
    (folder / "empty.pth").touch()
    (folder / "text.pth").write_text("\x1b[31mEntry not found")
    with zipfile.ZipFile(folder / "folds.zip", "w") as archive:
        archive.writestr("ckpts/NR_v0.pth", "x")
    np.savez(folder / "musiq.npz", a=np.zeros(2))
    with tarfile.open(folder / "ckpts.tar", "w") as tape:
        tape.add(folder / "good.pth", "NR_v0.pth")
    torch.save([1, 2], folder / "list.pth")
    torch.save({"optimizer": OPTIMIZER, "epoch": 3}, folder / "optimizer.pth")
    (folder / "pickle.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    return {
        "cut.good.pth": "is cut off: a file of torch.save without its end",
        "cut.old.pth": "is cut off: it ends after",
        "cut.good.safetensors": "is cut off: a safetensors file of",
        "pointer.pth": "is a Git LFS pointer, not the file of 34,560,013 bytes that it points to",
        "page.pth": "is a page of a web site (Google Drive - Virus scan), not weights",
        "empty.pth": "is empty",
        "text.pth": "is neither a file of torch.save nor a safetensors file, it begins with `Entry not found`",
        "folds.zip": "is a zip archive of ckpts/NR_v0.pth: unpack it",
        "musiq.npz": "is an archive of numpy arrays (.npz): need a file of torch.save, or safetensors",
        "ckpts.tar": "is a tar archive of NR_v0.pth: unpack it",
        "list.pth": "holds list instead of a table of tensors",
        "optimizer.pth": "is not a table of tensors: it holds optimizer, epoch",
        "pickle.pkl": "cannot be read as a file of torch.save",
    }


def test_wrong_files_say_what_they_are(tmp_path: Path) -> None:
    """In one line without control codes, with what was expected and where that is published."""
    expected = PUBLISHED_FILES["fast_vqa"]
    for name, reason in write_wrong_files(tmp_path).items():
        with pytest.raises(WeightsError) as caught:
            load_weights(str(tmp_path / name), hub=Shelf(tmp_path), published=expected)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / name}: {reason}"), message
        assert message.endswith(f"; expected {expected.file}, published at {expected.location}")
        assert_one_line(message)


NAMES_IN_FILES = {
    "FAST-VQA or FasterVQA": ("fragments_backbone.norm.bias", "vqa_head.fc_hid.bias"),
    "DOVER": ("technical_backbone.layers.0.x", "aesthetic_backbone.norm.bias"),
    "COVER": ("technical_backbone.layers.0.x", "aesthetic_backbone.norm.bias", "semantic_head.fc_hid.bias"),
    "DOVER-Mobile": ("technical_backbone.downsample_layers.0.x", "aesthetic_backbone.norm.bias"),
    "CLIP ViT-B or LIQE": ("visual.class_embedding", "transformer.resblocks.0.x"),
    "CLIP ViT-L": ("visual.class_embedding", "transformer.resblocks.0.x", "visual.transformer.resblocks.23.x"),
    "CLIP in the layout of transformers": ("text_model.encoder.layers.0.x", "vision_model.encoder.layers.0.x"),
    "SlowFast": ("blocks.0.multipathway_blocks.0.conv.weight",),
    "RQ-VQA": ("feature_extraction.feature_extraction.norm.bias", "bot4.net.0.x", "quality.0.weight"),
    "mPLUG-Owl2 (OneAlign, Q-Align, Compare2Score)": ("model.visual_abstractor.x", "model.layers.0.x"),
    "HyperIQA": ("base_model.conv1.weight", "fc_w_modules.0.weight"),
    "HyperIQA in its authors' own layout": ("res.conv1.weight", "fc1w_conv.weight"),
    "DB-CNN": ("features1.0.weight", "features2.0.weight", "fc.weight"),
    "MUSIQ": ("conv_root.weight", "transformer_encoder.cls", "head.weight"),
    "MUSIQ for aesthetics (AVA)": ("conv_root.weight", "transformer_encoder.cls", "head.0.weight"),
    "TOPIQ without a reference": ("semantic_model.conv1.weight", "attn_pool.x", "weight_pool.0.splitconv.weight"),
    "TOPIQ with a reference": ("semantic_model.conv1.weight", "attn_pool.x", "weight_pool.0.0.weight"),
    "TOPIQ with a Swin transformer": ("semantic_model.layers.0.x", "attn_pool.x"),
    "MANIQA": ("vit.cls_token", "tablock1.0.c_q.weight"),
    "a language model without a picture encoder": ("model.embed_tokens.weight", "model.layers.0.x"),
    "a ResNet": ("conv1.weight", "layer4.0.x", "fc.weight"),
    "low-rank updates (LoRA), without the network that they change": (
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
    ),
}


@pytest.mark.parametrize("network", NAMES_IN_FILES)
def test_weights_of_another_network_are_named(network: str) -> None:
    """The network in the file, and the file that was expected; those of the right network name what differs."""
    shapes = {name: (1,) for name in NAMES_IN_FILES[network]}
    assert recognize_network(shapes) == network
    for expected in PUBLISHED_FILES.values():
        with pytest.raises(WeightsError) as caught:
            check_published(shapes, {"needed": (1,)}, expected)
        is_another = expected.network != network
        assert (f"these are the weights of {network}" in str(caught.value)) == is_another
        assert ("1 missing: needed" in str(caught.value)) != is_another
        assert str(caught.value).endswith(f"published at {expected.location}")
    assert recognize_network(["x"]) is None


def test_a_folder_with_one_file_of_weights_is_read(tmp_path: Path) -> None:
    """Whatever the file is named; of several, one must be named."""
    torch.save({"state_dict": TENSORS, "validation_results": RESULTS}, tmp_path / "DOVER.pth")
    (tmp_path / "README.md").write_text("weights")
    assert load_weights(str(tmp_path), hub=Shelf(tmp_path)).checkpoint.shapes["b.bias"] == (4,)
    assert list(load_weights(f"owner/name@{'0' * 40}", hub=Shelf(tmp_path)).hashes) == ["DOVER.pth"]
    torch.save(TENSORS, tmp_path / "DOVER-Mobile.pth")
    with pytest.raises(WeightsError, match=r"several files of weights, name one: DOVER-Mobile\.pth, DOVER\.pth"):
        load_weights(str(tmp_path), hub=Shelf(tmp_path))


def test_shards_without_their_index_are_read_when_all_are_there(tmp_path: Path) -> None:
    """Some of them, or one that is named alone, is said to be a part."""
    names = [f"model-{number:05}-of-00002.safetensors" for number in (1, 2)]
    for name, table in zip(names, ({"a.weight": torch.ones(2)}, {"b.bias": torch.ones(3)}), strict=True):
        save_file(table, tmp_path / name)
    (tmp_path / "README.md").write_text("weights")
    assert load_weights(str(tmp_path), hub=Shelf(tmp_path)).checkpoint.shapes == {"a.weight": (2,), "b.bias": (3,)}
    with pytest.raises(WeightsError, match=r"is shard 2 of 2: name the folder that holds all of them"):
        load_weights(str(tmp_path / names[1]), hub=Shelf(tmp_path))
    (tmp_path / names[0]).unlink()
    with pytest.raises(WeightsError, match=r"holds 1 of 2 shards: model-00002-of-00002\.safetensors"):
        load_weights(str(tmp_path), hub=Shelf(tmp_path))


def test_shards_that_an_index_names_must_all_be_there(tmp_path: Path) -> None:
    """A download that stopped between two shards says which to download too."""
    names = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    save_file({"a.weight": torch.ones(2)}, tmp_path / names[1])
    index = {"weight_map": dict(zip(("x", "a.weight", "z"), names, strict=True))}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    message = rf"lacks 2 of the 3 shards that model\.safetensors\.index\.json names: {names[0]}, {names[2]}; download"
    with pytest.raises(WeightsError, match=message):
        load_weights(str(tmp_path), hub=Shelf(tmp_path))


def test_a_program_of_clip_is_not_taken_for_liqe(tmp_path: Path) -> None:
    """Both have the same names and shapes; only what OpenAI publishes is a TorchScript program."""
    network = torch.nn.Linear(2, 3)
    torch.jit.trace(network.eval(), torch.zeros(1, 2)).save(tmp_path / "ViT-B-32.pt")
    load_weights(str(tmp_path / "ViT-B-32.pt"), hub=Shelf(tmp_path), published=PUBLISHED_FILES["clip"])
    with pytest.raises(WeightsError, match=r"is a TorchScript program: CLIP as OpenAI publishes it.*expected LIQE\.pt"):
        load_weights(str(tmp_path / "ViT-B-32.pt"), hub=Shelf(tmp_path), published=PUBLISHED_FILES["liqe"])


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_is_no_file_of_torch_names_what_it_would_run(tmp_path: Path, protocol: int) -> None:
    """Whatever its protocol; nothing of it runs."""
    target = tmp_path / "ran"

    class Hook:
        def __reduce__(self) -> object:
            return (os.mkdir, (str(target),))

    (tmp_path / "x.pth").write_bytes(pickle.dumps({"state_dict": {}, "hook": Hook()}, protocol=protocol))
    with pytest.raises(ValueError, match=r"posix\.mkdir.* which reading would have to run.* refused"):
        open_weights(tmp_path / "x.pth")
    assert not target.exists()


def test_tensors_of_a_torchscript_program_are_read(tmp_path: Path) -> None:
    """CLIP is published as a program: parameters and buffers of all modules by their names, nothing of its code."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.BatchNorm1d(3)))
    torch.jit.trace(network.eval(), torch.zeros(1, 2)).save(tmp_path / "ViT-B-32.pt")
    shapes, read = open_weights(tmp_path / "ViT-B-32.pt")
    assert shapes == {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert all(torch.equal(read(name), tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"step": 3, "network": TENSORS, "average": TENSORS, "optimiser": OPTIMIZER}, r"last\.pt.*name the best\.pt"),
        ({"stem": TENSORS, "stages": TENSORS}, r"trunk\.pt.*name the lite\.pt"),
    ],
)
def test_files_of_an_own_training_that_are_no_scorer_are_refused_by_name(
    tmp_path: Path, table: object, message: str
) -> None:
    """Where weights are asked for, published or own; the file beside them is named."""
    torch.save(table, tmp_path / "x.pt")
    for read in (open_weights, read_saved):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "x.pt")
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "x.pt")


@pytest.mark.parametrize("part", ["directory", "content"])
def test_a_damaged_archive_is_an_error_with_the_file_whatever_reads_it(tmp_path: Path, part: str) -> None:
    """A hole in the list of its parts or in its table: never an error of the library that unpacks it."""
    file = tmp_path / "best.pt"
    torch.save({"weights": TENSORS}, file)
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02") if part == "directory" else content.index(b"data.pkl") + 40
    content[at : at + 12] = bytes(12)
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"best\.pt: cannot be read as a checkpoint: it "):
        read_table(file)
    with pytest.raises(WeightsError, match=r"best\.pt: "):
        load_weights(str(file), hub=Shelf(tmp_path))
    with pytest.raises(DataError, match=r"best\.pt: cannot be read .*give --fresh"):
        read_training_state(file)
