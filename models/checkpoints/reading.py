"""Reads files of weights without running anything in them, and says what a file is that holds none."""

import io
import json
import pickletools
import re
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

_TABLE_KEYS = (
    "state_dict", "model_state", "model_state_dict", "model", "weights", "params_ema", "params", "net", "network",
    "module", "state_dict_ema", "ema_state_dict", "model_ema", "ema",
)  # fmt: skip
"""Where trainers put the tensors, the likeliest first."""
_WRAPPERS = ("module.", "_orig_mod.")
"""Before every name in files written by DataParallel, DistributedDataParallel, AveragedModel and torch.compile."""
_AVERAGED_COUNT = "n_averaged"
_UNPACK = "unpack it and name the file of weights in it"
_OTHER_FORMATS = {
    b"\x1f\x8b": f"compressed by gzip: {_UNPACK}",
    b"7z\xbc\xaf": f"a 7z archive: {_UNPACK}",
    b"Rar!": f"a RAR archive: {_UNPACK}",
    b"\x89HDF": "an HDF5 file: need a file of torch.save, or safetensors",
    b"\x93NUMPY": "a numpy array: need a file of torch.save, or safetensors",
    b"GGUF": "a GGUF file: need a file of torch.save, or safetensors",
}
"""First bytes -> what the file is."""
_OWN_FILES = {
    ("average", "optimiser"): "is the state of an unfinished training (last.pt), which `train` goes on from: name the "
    "best.pt beside it",
    (
        "stem",
        "stages",
    ): "is the trunk alone of a training of lite2 (trunk.pt), without a head: name the lite.pt beside it",
}
"""Keys of the table in a file that a training here wrote and that is no scorer -> what the file is."""
_PICKLE_MARK = 0x80
_HEAD_BYTES = 4096
_MAX_MESSAGE = 300
_MAX_LISTED = 4
_CONTROL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f-\x9f]")


class _Unread:
    """Stands for an object beside the tensors: takes whatever the file gives it, and forgets it."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _unread_table(*_: object) -> OrderedDict[str, object]:
    return OrderedDict()


class _UnreadTable:
    """Stands for a class of dictionaries, whose entries the reader fills in."""

    def __new__(cls, *_: object) -> Any:
        return OrderedDict()


_UNREAD_NAMES = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    "numpy.dtype", "numpy.ndarray", "numpy.random._pickle.__randomstate_ctor", "argparse.Namespace",
    *(f"{module}.{path}" for module in ("pathlib", "pathlib._local")
      for path in ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    "datetime.datetime", "datetime.timedelta", "datetime.date", "builtins.slice", "builtins.range",
    "builtins.frozenset", "builtins.list", "builtins.dict", "builtins.int", "builtins.float", "builtins.str",
)  # fmt: skip
_ALLOWED_GLOBALS: list[Any] = [
    *((_Unread, name) for name in _UNREAD_NAMES),
    (_unread_table, "collections.defaultdict"),
    *((_UnreadTable, name) for name in ("yacs.config.CfgNode", "easydict.EasyDict", "addict.addict.Dict")),
]
"""Names in files -> what is called for them: none of the named classes and functions, only those above."""


def open_weights(file: Path) -> tuple[dict[str, tuple[int, ...]], Callable[[str], Tensor]]:
    """(name -> shape, reader of one tensor) of a safetensors file or of any file of `torch.save`.

    The format is detected from the content, not from the file's name. A pickle's tensors are taken from the table that
    trainers put them in; numbers, paths and settings beside them are skipped, and an object of any other class refuses
    the file. Raises ValueError with a reason of one line, which says what the file is.
    """
    head = _read_head(file)
    if _is_safetensors(head):
        return _open_safetensors(file, head)
    table = _unwrap_names(_find_tensors(_load_scorer(file, head)))
    return {name: tuple(tensor.shape) for name, tensor in table.items()}, table.__getitem__


def read_saved(file: Path) -> object:
    """What `torch.save` wrote, with tensors, numbers, texts and collections of them; other objects are left out.

    Raises ValueError with a reason of one line.
    """
    return _load_scorer(file, _read_head(file))


def _read_head(file: Path) -> bytes:
    """The first bytes of a file that may hold weights; raises ValueError for another one."""
    with file.open("rb") as source:
        head = source.read(_HEAD_BYTES)
    with _damage_as_value_error():
        problem = _describe_other_file(file, head)
    if problem:
        raise ValueError(problem)
    return head


def _load_scorer(file: Path, head: bytes) -> object:
    with _damage_as_value_error():
        table = _load(file, head)
    for keys, description in _OWN_FILES.items():
        if isinstance(table, dict) and all(key in table for key in keys):
            raise ValueError(description)
    return table


@contextmanager
def _damage_as_value_error() -> Iterator[None]:
    """The errors of `zipfile` for an archive whose parts do not fit together, as ValueError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError) as error:
        message = f"is a damaged file of torch.save ({_one_line(str(error))}): write or download it again"
        raise ValueError(message) from error


def _describe_other_file(file: Path, head: bytes) -> str | None:
    """What a file is that holds no weights, and what to do; None for one that may hold some."""
    if not head:
        return "is empty: download it again"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        size = re.search(rb"size (\d+)", head)
        whole = f" of {int(size[1]):,} bytes" if size else ""
        return f"is a Git LFS pointer, not the file{whole} that it points to: run `git lfs pull`, or download the file"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        title = re.search(rb"<title[^>]*>([^<]*)", head, re.IGNORECASE)
        named = f" ({_one_line(title[1].decode(errors='replace'))})" if title else ""
        return f"is a page of a web site{named}, not weights: follow the download link on it and save what that gives"
    for mark, kind in _OTHER_FORMATS.items():
        if head.startswith(mark):
            return f"is {kind}"
    return _describe_archive(file, head)


def _describe_archive(file: Path, head: bytes) -> str | None:
    if head.startswith(b"PK"):
        if zipfile.is_zipfile(file):
            return _describe_zip(file)
        return f"is cut off: a file of torch.save without its end, {file.stat().st_size:,} bytes; download it again"
    if tarfile.is_tarfile(file):
        with tarfile.open(file) as archive:
            return f"is a tar archive of {_list(archive.getnames())}: {_UNPACK}"
    if head[0] == _PICKLE_MARK or _is_safetensors(head):
        return None
    text = "" if b"\0" in head else f", it begins with `{_one_line(head[:60].decode(errors='replace'))}`"
    return f"is neither a file of torch.save nor a safetensors file{text}"


def _describe_zip(file: Path) -> str | None:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    inner = {name.rpartition("/")[2] for name in names}
    if names and all(name.endswith(".npy") for name in names):
        return "is an archive of numpy arrays (.npz): need a file of torch.save, or safetensors"
    if "data.pkl" not in inner:
        return f"is a zip archive of {_list(names)}: {_UNPACK}"
    return None


class _ScriptModule:
    """Stands for a module of a TorchScript program; holds its attributes."""

    def __init__(self) -> None:
        self.attributes: dict[str, object] = {}

    def __new__(cls, *_: object) -> "_ScriptModule":
        module = super().__new__(cls)
        module.attributes = {}
        return module

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}

    def state_dict(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of this module and of those within it."""
        for name, value in self.attributes.items():
            if isinstance(value, _ScriptModule):
                yield from value.state_dict(f"{prefix}{name}.")
            elif isinstance(value, Tensor):
                yield f"{prefix}{name}", value


def _load_script(file: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript program, whose code is neither read nor run; raises ValueError."""
    tensors_only = io.BytesIO()
    names: set[str] = set()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(tensors_only, "w") as target:
        for entry in source.namelist():
            part = entry.partition("/")[2]
            if part == "data.pkl":
                globals_ = (text for code, text, _ in pickletools.genops(source.read(entry)) if code.name == "GLOBAL")
                names |= {str(text).replace(" ", ".") for text in globals_}
            if part in ("data.pkl", "version", "byteorder") or part.startswith("data/"):
                target.writestr(entry, source.read(entry))
    tensors_only.seek(0)
    modules: list[Any] = [(_ScriptModule, name) for name in names if name.startswith("__torch__.")]
    modules += [(_Unread, name) for name in names if name.startswith("torch.jit._pickle.")]
    try:
        with torch.serialization.safe_globals(modules):
            program = torch.load(tensors_only, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many types
        cause = str(error).rpartition("WeightsUnpickler error: ")[2]
        raise ValueError(f"is a TorchScript program that cannot be read: {_one_line(cause)}") from error
    return dict(program.state_dict()) if isinstance(program, _ScriptModule) else {}


def is_program(file: Path) -> bool:
    """Whether a file is a TorchScript program."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**30


def _open_safetensors(file: Path, head: bytes) -> tuple[dict[str, tuple[int, ...]], Callable[[str], Tensor]]:
    length = int.from_bytes(head[:8], "little")
    with file.open("rb") as source:
        source.seek(8)
        header = source.read(length)
    size = file.stat().st_size
    try:
        entries = json.loads(header)
        end = 8 + length + max(entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")
    except (ValueError, TypeError, KeyError, AttributeError):
        end = 8 + length if len(header) < length else size
    if size < end:
        raise ValueError(f"is cut off: a safetensors file of {size:,} instead of {end:,} bytes; download it again")
    try:
        archive = safe_open(file, framework="pt")
        shapes = {name: tuple(archive.get_slice(name).get_shape()) for name in archive.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors has an error type of its own, and none in common
        raise ValueError(f"is a safetensors file that cannot be read: {_one_line(str(error))}") from error
    return shapes, archive.get_tensor


def _load(file: Path, head: bytes) -> object:
    # mmap reads pages when they are needed; the format from before torch 1.6 cannot be mapped
    is_zip = head.startswith(b"PK")
    if is_zip and is_program(file):
        return _load_script(file)
    try:
        with torch.serialization.safe_globals(_ALLOWED_GLOBALS):
            return torch.load(file, weights_only=True, mmap=is_zip, map_location="cpu")
    except Exception as error:  # torch raises many types for a file of another format
        whole = _CONTROL_CODES.sub(" ", str(error))
        if refused := re.search(r"GLOBAL (\S+)", whole):
            raise ValueError(
                f"holds an object of {refused[1]}, which reading would have to run: it is no table of tensors, and is "
                "refused; where you trust the file, load it with the authors' code and save its state_dict() alone"
            ) from error
        if isinstance(error, EOFError) or "unexpected EOF" in whole or "Ran out of input" in whole:
            raise ValueError(f"is cut off: it ends after {file.stat().st_size:,} bytes; download it again") from error
        if not is_zip and (named := _globals_of_pickle(file)):
            raise ValueError(
                f"is a pickle of Python objects ({_list(named)}), which reading would have to run, not a file of "
                "torch.save: it is refused"
            ) from error
        cause = str(error).rpartition("WeightsUnpickler error: ")[2]
        raise ValueError(f"cannot be read as a file of torch.save: {_one_line(cause)}") from error


def _globals_of_pickle(file: Path) -> list[str]:
    """The classes and functions that a pickle names before its end or its first damage; nothing of it is run."""
    named: dict[str, None] = {}
    texts: list[str] = []
    with file.open("rb") as source, suppress(ValueError, EOFError, struct.error, UnicodeDecodeError):
        for code, argument, _ in pickletools.genops(source):
            if code.name == "GLOBAL":
                named[str(argument).replace(" ", ".")] = None
            elif code.name == "STACK_GLOBAL":
                named[".".join(texts[-2:])] = None
            elif isinstance(argument, str):
                texts.append(argument)
    return list(named)


def _find_tensors(table: object) -> dict[str, Tensor]:
    """The tensors of a checkpoint, which lie in the table itself or in one that it holds."""
    if not isinstance(table, dict):
        raise ValueError(f"holds {type(table).__name__.lstrip('_')} instead of a table of tensors")
    tensors = {str(name): tensor for name, tensor in table.items() if isinstance(tensor, Tensor)}
    for key in _TABLE_KEYS:
        if isinstance(table.get(key), dict) and table[key]:
            return _find_tensors(table[key])
    if not tensors:
        raise ValueError(f"is not a table of tensors: it holds {_list([str(name) for name in table])}")
    return tensors


def _unwrap_names(table: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the names that they have within the network."""
    names = [name for name in table if name != _AVERAGED_COUNT]
    for wrapper in _WRAPPERS:
        if names and all(name.startswith(wrapper) for name in names):
            return _unwrap_names({name.removeprefix(wrapper): table[name] for name in names})
    return dict(table)


def _one_line(message: str) -> str:
    """The first line of a message, without escape and control codes."""
    lines = [_CONTROL_CODES.sub("", line).strip() for line in message.splitlines()]
    line = next((line for line in lines if line), "no reason given")
    return line if len(line) <= _MAX_MESSAGE else f"{line[:_MAX_MESSAGE]} ..."


def _list(names: list[str]) -> str:
    remaining = len(names) - _MAX_LISTED
    listed = ", ".join(_one_line(name) for name in names[:_MAX_LISTED]) or "nothing"
    return listed + (f" and {remaining} more" if remaining > 0 else "")
