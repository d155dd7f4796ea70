"""Published weights, found, checked and read one tensor at a time: a file, a folder of shards, or a model hub."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from vqmon.scoring.manifests.frame_scorer import Licence

Shapes = Mapping[str, tuple[int, ...]]
"""State-dict name -> shape."""
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_PICKLES = (".bin", ".pt", ".pth", ".pyth")
_NAMED_AT_MOST = 8


class WeightsError(Exception):
    """Weights cannot be used: what is wrong, where, and what to do."""


class Hub(Protocol):
    """Where published weights are kept."""

    def files(self, repository: str, revision: str) -> Mapping[str, str | None]:
        """Name -> sha256, where the hub knows it, of every file of one commit."""
        ...

    def fetch(self, repository: str, revision: str, name: str) -> Path:
        """Bring one file here, going on from where an earlier try broke off, and say where it lies."""
        ...


class HuggingFace:
    """The hub of that name; shows a progress bar, keeps what it fetched in `folder`."""

    def __init__(self, folder: Path, *, endpoint: str | None = None) -> None:
        self._folder, self._endpoint = folder, endpoint

    def files(self, repository: str, revision: str) -> Mapping[str, str | None]:
        from huggingface_hub import HfApi

        found = HfApi(endpoint=self._endpoint).model_info(repository, revision=revision, files_metadata=True)
        return {each.rfilename: each.lfs.sha256 if each.lfs else None for each in found.siblings or ()}

    def fetch(self, repository: str, revision: str, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        folder = self._folder / repository.replace("/", "--") / revision
        place = hf_hub_download(repository, name, revision=revision, local_dir=folder, endpoint=self._endpoint)
        return Path(place)


class Checkpoint(Mapping[str, Tensor]):
    """Tensors by their published names; each is read from its file when it is asked for, and kept by nobody."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._readers: dict[str, Callable[[str], Tensor]] = {}
        for file in files:
            shapes, read = _open(file)
            if twice := sorted(self.shapes.keys() & shapes.keys()):
                raise WeightsError(f"{file}: {_named(twice)} are in another file too")
            self.shapes |= shapes
            self._readers |= dict.fromkeys(shapes, read)

    def __getitem__(self, name: str) -> Tensor:
        return self._readers[name](name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A checkpoint and where it comes from."""

    checkpoint: Checkpoint
    # file name -> sha256
    hashes: Mapping[str, str]
    # as given: a path's last part, or repository@commit
    reference: str


def load(reference: str, *, hub: Hub, sha256: Sequence[str] = ()) -> Found:
    """Weights from a file, a folder, or `owner/name@commit` of a hub.

    With `sha256`, every file must have one of these hashes; what a hub says of a file's hash must be true in any case.
    Raises WeightsError.
    """
    path = Path(reference)
    expected: Mapping[str, str | None] = {}
    if path.exists():
        files, told = _local_files(path), path.resolve().name
    else:
        files, expected, told = *_hub_files(reference, hub), reference
    hashes = {file.name: _hash(file) for file in files}
    for name, found in hashes.items():
        if expected.get(name) not in (None, found):
            raise WeightsError(f"{name}: sha256 is {found}, the hub says {expected[name]}; delete it and fetch again")
        if sha256 and found not in sha256:
            raise WeightsError(f"{name}: sha256 is {found}, which is none of those given; it is not what was pinned")
    return Found(checkpoint=Checkpoint(files), hashes=hashes, reference=told)


def check_names(found: Shapes, needed: Shapes, *, optional: Sequence[str] = (), ignored: Sequence[str] = ()) -> None:
    """Raise WeightsError naming what is missing, left over or of another shape; patterns as in `fnmatch`."""
    missing = [name for name in needed if name not in found and not _matches(name, optional)]
    extra = [name for name in found if name not in needed and not _matches(name, ignored)]
    bent = [
        f"{name} is {tuple(found[name])}, not {tuple(shape)}"
        for name, shape in needed.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    problems = [
        f"{len(names)} {what}: {_named(names)}"
        for what, names in (("missing", missing), ("not known", extra), ("of another shape", bent))
        if names
    ]
    if problems:
        raise WeightsError("the weights do not fit the network; " + "; ".join(problems))


def check_licence(name: str, licence: Licence, *, allow_noncommercial: bool) -> None:
    """Raise WeightsError for weights that may not be used commercially, unless the owner's use is not commercial."""
    if licence.commercial is False and not allow_noncommercial:
        raise WeightsError(
            f"{name} may not be used commercially ({licence.name}: {licence.note}); "
            "give --allow-noncommercial if your use is not commercial"
        )


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """What a network's state dict looks like."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _local_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    index = next((path / name for name in _INDEXES if (path / name).is_file()), None)
    if index is not None:
        return [path / name for name in _shards(index)]
    whole = next((path / name for name in _WHOLE if (path / name).is_file()), None)
    if whole is None:
        raise WeightsError(f"{path}: holds none of {', '.join((*_INDEXES, *_WHOLE))}")
    return [whole]


def _hub_files(reference: str, hub: Hub) -> tuple[list[Path], Mapping[str, str | None]]:
    repository, _, revision = reference.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise WeightsError(f"{reference}: no such file or folder, and not owner/name@commit either")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise WeightsError(f"{reference}: name the commit, {repository}@<40 hexadecimal digits>; a branch may change")
    listed = hub.files(repository, revision)
    name = next((name for name in (*_INDEXES, *_WHOLE) if name in listed), None)
    if name is None:
        raise WeightsError(f"{reference}: holds none of {', '.join((*_INDEXES, *_WHOLE))}")
    first = hub.fetch(repository, revision, name)
    if name in _WHOLE:
        return [first], listed
    return [hub.fetch(repository, revision, shard) for shard in _shards(first)], listed


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index}: not an index of shards") from error
    if strange := [name for name in names if not re.fullmatch(r"[\w-][\w.-]*", name)]:
        raise WeightsError(f"{index}: {_named(strange)} are no plain file names")
    return names


def _open(file: Path) -> tuple[dict[str, tuple[int, ...]], Callable[[str], Tensor]]:
    if not file.is_file():
        raise WeightsError(f"{file}: missing")
    try:
        if file.suffix == ".safetensors":
            archive = safe_open(file, framework="pt")
            shapes = {name: tuple(archive.get_slice(name).get_shape()) for name in archive.keys()}  # noqa: SIM118
            return shapes, archive.get_tensor
        if file.suffix in _PICKLES:
            table = _read_pickle(file)
            return {name: tuple(tensor.shape) for name, tensor in table.items()}, table.__getitem__
    except WeightsError:
        raise
    except Exception as error:  # each format has its own
        raise WeightsError(f"{file}: cannot be read as weights: {str(error).splitlines()[0][:300]}") from error
    raise WeightsError(f"{file}: need a .safetensors file, or one of {', '.join(_PICKLES)}")


def _read_pickle(file: Path) -> dict[str, Tensor]:
    # weights_only: a pickle may hold nothing but tensors. mmap: pages are read when they are needed.
    try:
        table: Any = torch.load(file, weights_only=True, mmap=True, map_location="cpu")
    except RuntimeError:  # files from before torch 1.6 cannot be mapped
        table = torch.load(file, weights_only=True, map_location="cpu")
    for key in ("state_dict", "model_state", "model", "weights"):
        if isinstance(table, dict) and isinstance(table.get(key), dict):
            table = table[key]
    if not isinstance(table, dict) or not all(isinstance(one, Tensor) for one in table.values()):
        raise WeightsError(f"{file}: holds something else than a table of tensors")
    return table


def _hash(file: Path) -> str:
    digest = hashlib.sha256()
    if not file.is_file():
        raise WeightsError(f"{file}: missing")
    size = file.stat().st_size
    with file.open("rb") as source, tqdm(total=size, unit="B", unit_scale=True, desc=file.name, leave=False) as bar:
        while chunk := source.read(2**24):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
