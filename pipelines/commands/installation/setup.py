"""The first steps of an installation: a settings file for an address, and the files that come with vqmon."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import vqmon
from pipelines.service.wiring import fetch_policy, settings_for_watch
from vqmon.errors import SettingsError
from vqmon.media.fetch.ssrf_policy import FetchPolicy, is_local_address
from vqmon.media.sources.loader import SNIFF_BYTES, detect_kind
from vqmon.settings.load import Settings
from vqmon.whole_files import write_problem

_KEPT = ("config", "systemd")
"""Folders of the checkout that a wheel holds too."""


def settings_text(address: str, *, stream_id: str) -> str:
    """A settings file for a playlist or a folder of media files, with the permissions that it needs and no others.

    Raises SettingsError for what is neither.
    """
    folder = Path(address)
    if is_local_address(address) and folder.is_dir():
        source = ['kind = "folder"', f"folder = {json.dumps(str(folder.resolve()))}"]
        source += [f"folder_stream_id = {json.dumps(stream_id)}"] if stream_id else []
        return _document(source, [])
    if is_local_address(address):
        if not folder.is_file():
            raise SettingsError(f"{address}: no such playlist or folder; give the address of one")
        if not _is_playlist(folder):
            raise SettingsError(f"{address}: not an HLS or DASH playlist; give one, or the folder of the media files")
        # a relative path would mean another file from the place of the settings file
        address = str(folder.resolve())
    [stream] = settings_for_watch(Settings(), address, stream_id=stream_id, history=None).source.streams
    entry = f"{{ id = {json.dumps(stream.id)}, url = {json.dumps(stream.url)} }}"
    source = ['kind = "playlist"', f"streams = [{entry}]", 'start = "newest"']
    return _document(source, list(_permissions(fetch_policy(Settings(), named=[address]))))


def _is_playlist(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return detect_kind(opened.read(SNIFF_BYTES)) != "other"
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error


def _permissions(policy: FetchPolicy) -> Iterator[str]:
    """The keys of [fetch] that differ from their defaults."""
    default = FetchPolicy()
    if policy.file_roots:
        yield f"file_roots = {json.dumps([str(root) for root in policy.file_roots])}"
    if policy.allowed_hosts:
        yield f"allowed_hosts = {json.dumps(policy.allowed_hosts)}"
    if policy.allowed_networks:
        yield f"allowed_networks = {json.dumps(policy.allowed_networks)}"
    if policy.allow_http:
        yield "allow_http = true"
    if policy.allowed_ports != default.allowed_ports:
        yield f"allowed_ports = {json.dumps(list(dict.fromkeys(policy.allowed_ports)))}"


def _document(source: list[str], fetch: list[str]) -> str:
    heading = (
        "# Written by `vqmon init`. Every setting with its default: config/vqmon.toml, which `vqmon files DIR` writes."
    )
    tables = {"source": source, "fetch": fetch, "history": ['path = "vqmon.db"']}
    return "\n\n".join([heading, *("\n".join([f"[{name}]", *lines]) for name, lines in tables.items() if lines)]) + "\n"


def write_settings(text: str, file: Path) -> None:
    """Write a settings file; raises SettingsError when there is one, or when it cannot be written."""
    try:
        # the address of the stream may be signed
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if "?" in text else 0o644)
        try:
            with open(descriptor, "w", encoding="utf-8") as written:
                written.write(text)
        except OSError:
            file.unlink()
            raise
    except FileExistsError as error:
        raise SettingsError(f"{file}: exists already; move it aside, or name another file with --output") from error
    except OSError as error:
        raise SettingsError(f"{file}: {write_problem(error)}") from error


_EXAMPLE_RUNBOOKS = "https://vqmon.example.org/docs/runbooks.html"
"""The page that the shipped Prometheus rules lead to."""


def write_shipped_files(folder: Path, *, runbooks: str = "") -> list[Path]:
    """Copy settings, rules, schemas, SQL, dashboards and units into a folder that is empty or new; returns the files.

    `runbooks` is the address of the page of runbooks that the Prometheus rules lead to; "" leaves the example.
    Raises SettingsError for a folder that holds anything, or cannot be written.
    """
    is_new = not folder.exists()
    if not is_new and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder}: is not empty; name a new folder")
    try:
        for name in _KEPT:
            shutil.copytree(_shipped(name), folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        if runbooks:
            rules = folder / "config" / "prometheus" / "vqmon.rules.yml"
            text = rules.read_text(encoding="utf-8")
            rules.write_text(text.replace(_EXAMPLE_RUNBOOKS, runbooks.partition("#")[0]), encoding="utf-8")
    except OSError as error:
        _remove_shipped_files(folder, is_new=is_new)
        if not isinstance(error, shutil.Error):
            raise SettingsError(f"{folder}: cannot be written: {error.strerror or error}; {_OTHER_FOLDER}") from error
        # one (source, target, message) for each file that failed
        problems = error.args[0]
        # shutil has the text of the error alone
        first = f"{problems[0][1]}: {problems[0][2].partition(': ')[0].partition('] ')[2]}"
        problem = f"{len(problems)} files cannot be written, such as {first}; {_OTHER_FOLDER}"
        raise SettingsError(f"{folder}: {problem}") from error
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _shipped(name: str) -> Path:
    """A folder that comes with vqmon: inside the wheel, else in the checkout."""
    package = Path(vqmon.__file__).parent
    inside = package / "files" / name
    return inside if inside.is_dir() else package.parent / name


_OTHER_FOLDER = "nothing was kept; make room there, or name another folder"


def _remove_shipped_files(folder: Path, *, is_new: bool) -> None:
    for name in _KEPT:
        shutil.rmtree(folder / name, ignore_errors=True)
    if is_new and folder.is_dir():
        folder.rmdir()
