"""Weights from files, shards and a hub: what fits is read piece by piece, what does not is refused by name."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from models.export.owl_streaming import IGNORED_TENSORS, OPTIONAL_TENSORS, expected_shapes  # noqa: E402
from models.weights import Checkpoint, HuggingFace, WeightsError, check_licence, check_state_dict, load_weights  # noqa: E402
from tests.models.hub_server import serve  # noqa: E402
from tests.models.owl_weights import CONFIG, random_weights  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import Licence  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = {"a.weight": torch.arange(6.0).view(2, 3), "b.bias": torch.ones(4, dtype=torch.bfloat16)}


class Shelf:
    """A hub that is a folder."""

    def __init__(self, folder: Path, hashes: Mapping[str, str | None] | None = None) -> None:
        self.folder, self.hashes, self.asked = folder, hashes or {}, []

    def list_files(self, repository: str, revision: str) -> Mapping[str, str | None]:
        return {path.name: self.hashes.get(path.name) for path in self.folder.iterdir()}

    def fetch_file(self, repository: str, revision: str, name: str) -> Path:
        self.asked.append((repository, revision, name))
        return self.folder / name


def write_shards(folder: Path, *, suffix: str) -> None:
    """Two shards and their index, as the published checkpoints have them."""
    stem, file_name = {"safetensors": ("model", "model.safetensors"), "bin": ("pytorch_model", "pytorch_model.bin")}[
        suffix
    ]
    names: dict[str, str] = {}
    for at, (name, tensor) in enumerate(SMALL.items(), start=1):
        file = f"{stem}-0000{at}-of-00002.{suffix}"
        if suffix == "bin":
            torch.save({name: tensor}, folder / file)
        else:
            save_file({name: tensor}, folder / file)
        names[name] = file
    (folder / f"{file_name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def same(tensors: Mapping[str, Any]) -> bool:
    return set(tensors) == set(SMALL) and all(torch.equal(tensors[name], tensor) for name, tensor in SMALL.items())


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_in_a_folder_are_one_checkpoint(tmp_path: Path, suffix: str) -> None:
    """Both layouts of published checkpoints, with one hash per file."""
    write_shards(tmp_path, suffix=suffix)
    loaded = load_weights(str(tmp_path), hub=Shelf(tmp_path))
    assert same(loaded.checkpoint)
    assert loaded.checkpoint.shapes["a.weight"] == (2, 3)
    assert sorted(map(len, loaded.hashes.values())) == [64, 64]


def test_single_files_are_read(tmp_path: Path) -> None:
    """One file of each kind, an old one that cannot be mapped, and one that keeps its tensors one level down."""
    save_file(SMALL, tmp_path / "one.safetensors")
    torch.save(SMALL, tmp_path / "two.bin")
    torch.save(SMALL, tmp_path / "three.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": SMALL}, tmp_path / "four.pt")
    for name in ("one.safetensors", "two.bin", "three.pth", "four.pt"):
        assert same(load_weights(str(tmp_path / name), hub=Shelf(tmp_path)).checkpoint)


def test_a_commit_of_a_hub_is_fetched(tmp_path: Path) -> None:
    """The index first, then its shards, each of the commit that was named."""
    write_shards(tmp_path, suffix="bin")
    hub = Shelf(tmp_path)
    loaded = load_weights(f"owner/name@{COMMIT}", hub=hub)
    assert same(loaded.checkpoint)
    assert loaded.reference == f"owner/name@{COMMIT}"
    assert [revision for _, revision, _ in hub.asked] == [COMMIT] * 3
    assert hub.asked[0][2] == "pytorch_model.bin.index.json"


def hub_files(folder: Path) -> dict[str, bytes]:
    write_shards(folder, suffix="safetensors")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_hubs_own_client_fetches_and_keeps(tmp_path: Path) -> None:
    """Index and shards come over HTTP, hashes agree with what the hub says, and a second time nothing is fetched."""
    (tmp_path / "there").mkdir()
    with serve(hub_files(tmp_path / "there"), commit=COMMIT) as server:
        hub = HuggingFace(tmp_path / "here", endpoint=server.url)
        assert same(load_weights(f"owner/name@{COMMIT}", hub=hub).checkpoint)
        bodies = [name for method, name, _ in server.seen if method == "GET"]
        assert len(bodies) == 3
        assert same(load_weights(f"owner/name@{COMMIT}", hub=hub).checkpoint)
        assert len([name for method, name, _ in server.seen if method == "GET"]) == 3


def test_a_broken_transfer_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    """The rest is asked for, not the whole, and the file is whole in the end."""
    large = {"a": torch.arange(6_000_000, dtype=torch.float32)}
    save_file(large, tmp_path / "model.safetensors")
    files = {"model.safetensors": (tmp_path / "model.safetensors").read_bytes()}
    with serve(files, commit=COMMIT, breaks=1) as server:
        hub = HuggingFace(tmp_path / "here", endpoint=server.url)
        loaded = load_weights(f"owner/name@{COMMIT}", hub=hub)
        assert torch.equal(loaded.checkpoint["a"], large["a"])
        ranges = [wanted for method, _, wanted in server.seen if method == "GET"]
    assert ranges[0] is None
    assert ranges[1] not in (None, "bytes=0-")


@pytest.mark.parametrize("reference", ["owner/name", "owner/name@main", "owner/name@0123", "nowhere.bin", "../up/x@1"])
def test_what_may_change_is_refused(tmp_path: Path, reference: str) -> None:
    """A branch is no pin, and what is neither a file nor a repository is said to be so."""
    with pytest.raises(WeightsError, match="commit"):
        load_weights(reference, hub=Shelf(tmp_path))


def test_a_file_that_is_not_what_the_hub_says_is_refused(tmp_path: Path) -> None:
    """A transfer that went wrong is found by its hash."""
    save_file(SMALL, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="the hub says"):
        load_weights(f"owner/name@{COMMIT}", hub=Shelf(tmp_path, {"model.safetensors": "0" * 64}))


def test_a_pinned_hash_must_be_met(tmp_path: Path) -> None:
    """The right hash loads, another does not."""
    file = tmp_path / "one.safetensors"
    save_file(SMALL, file)
    (digest,) = load_weights(str(file), hub=Shelf(tmp_path)).hashes.values()
    assert same(load_weights(str(file), hub=Shelf(tmp_path), sha256=[digest]).checkpoint)
    with pytest.raises(WeightsError, match="none of those given"):
        load_weights(str(file), hub=Shelf(tmp_path), sha256=["f" * 64])


class Evil:
    """Runs code when it is unpickled carelessly."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("unpickled",))


def test_pickles_that_hold_more_than_tensors_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in a file is ever run."""
    torch.save({"a": Evil()}, tmp_path / "one.bin")
    (tmp_path / "two.bin").write_bytes(pickle.dumps({"a": Evil()}))
    torch.save({"a": 3}, tmp_path / "three.bin")
    for name in ("one.bin", "two.bin", "three.bin"):
        with pytest.raises(WeightsError, match=name):
            load_weights(str(tmp_path / name), hub=Shelf(tmp_path))
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../up.bin", "/etc/x.bin", "a/b.bin", ""])
def test_an_index_cannot_point_elsewhere(tmp_path: Path, name: str) -> None:
    """Shards lie beside their index."""
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(WeightsError, match="plain file names"):
        load_weights(str(tmp_path), hub=Shelf(tmp_path))


def test_broken_files_are_refused(tmp_path: Path) -> None:
    """Cut short, of an unknown kind, missing, without an index that can be read."""
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    (tmp_path / "what.txt").write_text("weights")
    for name in ("cut.safetensors", "what.txt"):
        with pytest.raises(WeightsError, match=name):
            load_weights(str(tmp_path / name), hub=Shelf(tmp_path))
    (tmp_path / "cut.safetensors").unlink()
    with pytest.raises(WeightsError, match="holds none of"):
        load_weights(str(tmp_path), hub=Shelf(tmp_path))
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(WeightsError, match="not an index"):
        load_weights(str(tmp_path), hub=Shelf(tmp_path))


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    """Which of the two would be meant cannot be told."""
    for name in ("a.safetensors", "b.safetensors"):
        save_file(SMALL, tmp_path / name)
    with pytest.raises(WeightsError, match=r"a\.weight, b\.bias are also in another file"):
        Checkpoint([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])


def test_missing_extra_and_misshapen_keys_are_named() -> None:
    """All three kinds in one message, eight names of each at most."""
    needed = {"kept": (1,), "gone": (2,), "bent": (3, 3), **{f"lost.{at}": (1,) for at in range(10)}}
    shapes = {"kept": (1,), "bent": (3, 4), "new": (5,)}
    with pytest.raises(WeightsError) as caught:
        check_state_dict(shapes, needed)
    message = str(caught.value)
    assert "11 missing: gone, lost.0" in message
    assert "and 3 more" in message
    assert "1 unknown: new" in message
    assert "1 of another shape: bent is (3, 4), not (3, 3)" in message


def test_published_names_fit_with_nothing_left_over() -> None:
    """A checkpoint as published, with or without the tables that can be computed, and with old rotary tables."""
    needed = expected_shapes(CONFIG)
    shapes = {name: tuple(tensor.shape) for name, tensor in random_weights().items()}
    assert set(shapes) < set(needed)
    old = {f"model.layers.{at}.self_attn.rotary_emb.inv_freq": (16,) for at in range(2)}
    check_state_dict(shapes | old, needed, optional=OPTIONAL_TENSORS, ignored=IGNORED_TENSORS)
    check_state_dict(needed, needed)
    for name in shapes:
        with pytest.raises(WeightsError, match="missing"):
            check_state_dict(
                {key: shape for key, shape in shapes.items() if key != name}, needed, optional=OPTIONAL_TENSORS
            )


def test_noncommercial_weights_need_a_word() -> None:
    """Refused with the reason, unless the owner has said that the use is not commercial."""
    licence = Licence(name="CC BY-NC 4.0", commercial=False, note="for research")
    with pytest.raises(WeightsError, match="for research"):
        check_licence("x", licence, allow_noncommercial=False)
    check_licence("x", licence, allow_noncommercial=True)
    for unsaid in (True, None):
        check_licence("x", Licence(name="y", commercial=unsaid, note=""), allow_noncommercial=False)
