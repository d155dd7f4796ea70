"""Finds, verifies and reads published weights, one tensor at a time, from a file, a folder of shards or a model hub."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from models.checkpoints.published_files import PublishedFile, recognize_network
from models.checkpoints.reading import is_program, open_weights
from vqmon.scoring.manifests.frame_scorer import Licence

TensorShapes = Mapping[str, tuple[int, ...]]
"""State dict name -> shape."""
_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".pyth", ".ckpt")
_MAX_LISTED_NAMES = 8


class WeightsError(Exception):
    """Weights cannot be used; the message says why, where, and what to do."""


class Hub(Protocol):
    """A server of published weights."""

    def list_files(self, repository: str, revision: str) -> Mapping[str, str | None]:
        """File name -> sha256, or None where the hub does not state it, of every file of one commit."""
        ...

    def fetch_file(self, repository: str, revision: str, name: str) -> Path:
        """Download a file, resuming an interrupted download; returns its local path."""
        ...


class HuggingFace:
    """The Hugging Face Hub; stores downloads in `folder` and shows a progress bar."""

    def __init__(self, folder: Path, *, endpoint: str | None = None) -> None:
        self._folder, self._endpoint = folder, endpoint

    def list_files(self, repository: str, revision: str) -> Mapping[str, str | None]:
        from huggingface_hub import HfApi

        info = HfApi(endpoint=self._endpoint).model_info(repository, revision=revision, files_metadata=True)
        return {file.rfilename: file.lfs.sha256 if file.lfs else None for file in info.siblings or ()}

    def fetch_file(self, repository: str, revision: str, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        folder = self._folder / repository.replace("/", "--") / revision
        path = hf_hub_download(repository, name, revision=revision, local_dir=folder, endpoint=self._endpoint)
        return Path(path)


class Checkpoint(Mapping[str, Tensor]):
    """Tensors by their published names; each is read from its file when it is accessed, and not kept."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._readers: dict[str, Callable[[str], Tensor]] = {}
        for file in files:
            shapes, read = _open_file(file)
            if duplicates := sorted(self.shapes.keys() & shapes.keys()):
                raise WeightsError(f"{file}: {_list_names(duplicates)} are also in another file")
            self.shapes |= shapes
            self._readers |= dict.fromkeys(shapes, read)

    def __getitem__(self, name: str) -> Tensor:
        return self._readers[name](name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedWeights:
    """A checkpoint with its origin."""

    checkpoint: Checkpoint
    # file name -> sha256
    hashes: Mapping[str, str]
    # last part of the path, or owner/name@commit
    reference: str


_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?P<suffix>safetensors|bin)")
"""The name of a file that holds a part of the tensors, as transformers writes it."""


def load_weights(
    reference: str, *, hub: Hub, sha256: Sequence[str] = (), published: PublishedFile | None = None
) -> LoadedWeights:
    """Weights from a file, a folder, or `owner/name@commit` of a hub.

    With `sha256`, every file must have one of these hashes; a hash that the hub states must match in any case. Raises
    WeightsError, which says where `published` is to be had.
    """
    try:
        loaded = _load(reference, hub, sha256)
        for file in loaded.checkpoint.files if published and published.as_program else ():
            if is_program(file):
                raise WeightsError(f"{file}: is a TorchScript program: {published.as_program}")
        return loaded
    except WeightsError as error:
        raise WeightsError(f"{error}; {published.describe()}" if published else str(error)) from error


def _load(reference: str, hub: Hub, sha256: Sequence[str]) -> LoadedWeights:
    path = Path(reference)
    expected: Mapping[str, str | None] = {}
    if path.exists():
        files, origin = _local_files(path), path.resolve().name
    else:
        files, expected, origin = *_hub_files(reference, hub), reference
    hashes = {file.name: _sha256_of(file) for file in files}
    for name, digest in hashes.items():
        if expected.get(name) not in (None, digest):
            raise WeightsError(f"{name}: sha256 is {digest}, the hub says {expected[name]}; delete it and fetch again")
        if sha256 and digest not in sha256:
            raise WeightsError(f"{name}: sha256 is {digest}, which is none of those given by --sha256")
    return LoadedWeights(checkpoint=Checkpoint(files), hashes=hashes, reference=origin)


def check_published(
    shapes: TensorShapes,
    expected: TensorShapes,
    published: PublishedFile,
    *,
    optional: Sequence[str] = (),
    ignored: Sequence[str] = (),
) -> None:
    """As `check_state_dict`; the error says too which network the tensors are of, and where the right file is."""
    try:
        check_state_dict(shapes, expected, optional=optional, ignored=ignored)
    except WeightsError as error:
        network = recognize_network(shapes)
        problem = str(error) if network in (None, published.network) else f"these are the weights of {network}"
        raise WeightsError(f"{problem}; {published.describe()}") from error


def check_state_dict(
    shapes: TensorShapes, expected: TensorShapes, *, optional: Sequence[str] = (), ignored: Sequence[str] = ()
) -> None:
    """Raise WeightsError naming the tensors that are missing, unknown or of another shape.

    `optional` may be missing from the file and `ignored` unknown to the network; both are patterns as in `fnmatch`.
    """
    missing = [name for name in expected if name not in shapes and not _matches_any(name, optional)]
    unknown = [name for name in shapes if name not in expected and not _matches_any(name, ignored)]
    misshapen = [
        f"{name} is {tuple(shapes[name])}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name in shapes and tuple(shapes[name]) != tuple(shape)
    ]
    problems = [
        f"{len(names)} {problem}: {_list_names(names)}"
        for problem, names in (("missing", missing), ("unknown", unknown), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise WeightsError("the weights do not fit the network; " + "; ".join(problems))


def check_licence(name: str, licence: Licence, *, allow_noncommercial: bool) -> None:
    """Raise WeightsError for non-commercial weights, unless `allow_noncommercial` is set."""
    if licence.commercial is False and not allow_noncommercial:
        raise WeightsError(
            f"{name} may not be used commercially ({licence.name}: {licence.note}); "
            "give --allow-noncommercial if your use is not commercial"
        )


def state_dict_shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Name -> shape of a network's state dict."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _local_files(path: Path) -> list[Path]:
    if path.is_file():
        if (shard := _SHARD.fullmatch(path.name)) and int(shard["count"]) > 1:
            part = f"shard {int(shard['number'])} of {int(shard['count'])}"
            raise WeightsError(f"{path}: is {part}: name the folder that holds all of them")
        return [path]
    names = [file.name for file in path.iterdir() if file.is_file()]
    if shards := _complete_shards(names, where=str(path)):
        return [path / name for name in shards]
    file = path / _choose_file(names, where=str(path))
    if file.name not in _INDEX_FILES:
        return [file]
    shards = _shard_names(file)
    if missing := [name for name in shards if name not in names]:
        raise WeightsError(
            f"{path}: lacks {len(missing)} of the {len(shards)} shards that {file.name} names: {_list_names(missing)}; "
            "download them too"
        )
    return [path / name for name in shards]


def _hub_files(reference: str, hub: Hub) -> tuple[list[Path], Mapping[str, str | None]]:
    repository, _, revision = reference.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise WeightsError(f"{reference}: neither a file nor a folder, nor owner/name@commit")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise WeightsError(f"{reference}: name a commit, {repository}@<40 hexadecimal digits>; a branch can change")
    hashes = hub.list_files(repository, revision)
    file = hub.fetch_file(repository, revision, _choose_file(list(hashes), where=reference))
    if file.name not in _INDEX_FILES:
        return [file], hashes
    return [hub.fetch_file(repository, revision, shard) for shard in _shard_names(file)], hashes


def _complete_shards(names: Sequence[str], *, where: str) -> list[str]:
    """All shards of a folder without their index, in order; none where there is an index or a whole file.

    Raises WeightsError when some are missing.
    """
    if not {*_INDEX_FILES, *_SINGLE_FILES}.isdisjoint(names):
        return []
    shards = sorted(filter(None, map(_SHARD.fullmatch, names)), key=lambda match: match.string)
    kinds = {(match["stem"], match["count"], match["suffix"]) for match in shards}
    if len(kinds) != 1:
        return []
    count = int(shards[0]["count"])
    if len(shards) < count:
        raise WeightsError(f"{where}: holds {len(shards)} of {count} shards: {_list_names([s.string for s in shards])}")
    return [match.string for match in shards]


def _choose_file(names: Sequence[str], *, where: str) -> str:
    """The index of shards, the whole file, or the only file of weights among names."""
    usual = next((name for name in (*_INDEX_FILES, *_SINGLE_FILES) if name in names), None)
    others = sorted(name for name in names if Path(name).suffix in _SUFFIXES)
    if usual is not None or len(others) == 1:
        return usual or others[0]
    if others:
        raise WeightsError(f"{where}: holds several files of weights, name one: {_list_names(others)}")
    raise WeightsError(
        f"{where}: holds none of {', '.join((*_INDEX_FILES, *_SINGLE_FILES))}, nor a file {', '.join(_SUFFIXES)}"
    )


def _shard_names(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index}: not an index of shards") from error
    if invalid := [name for name in names if not re.fullmatch(r"[\w-][\w.-]*", name)]:
        raise WeightsError(f"{index}: {_list_names(invalid)} are not plain file names")
    return names


def _open_file(file: Path) -> tuple[dict[str, tuple[int, ...]], Callable[[str], Tensor]]:
    if not file.is_file():
        raise WeightsError(f"{file}: missing")
    try:
        return open_weights(file)
    except (ValueError, OSError) as error:
        raise WeightsError(f"{file}: {error}") from error


def _sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    if not file.is_file():
        raise WeightsError(f"{file}: missing")
    size = file.stat().st_size
    with file.open("rb") as source, tqdm(total=size, unit="B", unit_scale=True, desc=file.name, leave=False) as bar:
        while chunk := source.read(2**24):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _matches_any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _list_names(names: Sequence[str]) -> str:
    remaining = len(names) - _MAX_LISTED_NAMES
    return ", ".join(names[:_MAX_LISTED_NAMES]) + (f" and {remaining} more" if remaining > 0 else "")
