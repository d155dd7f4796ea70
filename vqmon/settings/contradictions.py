"""Settings that are valid by themselves and cannot be right together: of each pair, what contradicts what."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vqmon.media.fetch.ssrf_policy import redact_url

if TYPE_CHECKING:
    # the settings are loaded with this module
    from vqmon.settings.load import Settings


@dataclass(frozen=True, slots=True)
class Contradiction:
    """The dotted keys of settings that contradict each other, and one sentence that names them and the remedy."""

    keys: Sequence[str]
    text: str


def contradictions(settings: "Settings", given: Collection[str]) -> Iterator[Contradiction]:
    """All that settings contradict each other in; `given` = the dotted keys of those that are no defaults."""
    for check in _CHECKS:
        yield from check(settings)
    yield from _one_of_two(settings, given)


def _source(settings: "Settings") -> Iterator[Contradiction]:
    source = settings.source
    if source.folder is not None and source.kind != "folder":
        text = f'source.folder: it is watched with source.kind = "folder" only, and that is "{source.kind}"; '
        yield Contradiction(("source.folder", "source.kind"), text + "set one or remove the other")


def _kafka(settings: "Settings") -> Iterator[Contradiction]:
    kafka = settings.kafka
    files = [name for name in ("ca_file", "cert_file", "key_file") if getattr(kafka, name) is not None]
    if files and not kafka.encrypted:
        keys = [f"kafka.{name}" for name in files]
        text = f"{keys[0]}: without TLS it is not used; set kafka.encrypted = true, or remove {' and '.join(keys)}"
        yield Contradiction((*keys, "kafka.encrypted"), text)
    # the file of a certificate may hold its key too
    if kafka.key_file is not None and kafka.cert_file is None:
        text = "kafka.key_file: mutual TLS needs kafka.cert_file too"
        yield Contradiction(("kafka.key_file", "kafka.cert_file"), text)
    for name in ("username", "password_file"):
        if getattr(kafka, name) and kafka.mechanism is None:
            text = f'kafka.{name}: without kafka.mechanism it is not used; set that, e.g. to "SCRAM-SHA-512"'
            yield Contradiction((f"kafka.{name}", "kafka.mechanism"), text)


def _scoring(settings: "Settings") -> Iterator[Contradiction]:
    scoring = settings.scoring
    named: dict[str, str] = {}
    for setting in ("scorers", "shadows", "heavy"):
        for name in getattr(scoring, setting):
            if name in named:
                where = "named twice" if named[name] == setting else f"in scoring.{named[name]} already"
                keys = (f"scoring.{setting}", f"scoring.{named[name]}")
                yield Contradiction(keys, f"scoring.{setting}: {name!r} is {where}; name it once")
            named.setdefault(name, setting)
    kinds = set(scoring.used_devices)
    for setting in ("devices", "cuda_graphs"):
        if getattr(scoring, setting) and kinds == {"cpu"}:
            text = f'scoring.{setting}: is for GPUs, and scoring.device is "cpu"; set that to "cuda" or "auto", '
            yield Contradiction((f"scoring.{setting}", "scoring.device"), text + f"or remove scoring.{setting}")
    for setting in ("heavy_labels", "heavy_below", "heavy_drop"):
        if getattr(scoring, setting) and not scoring.heavy:
            text = f"scoring.{setting}: chooses segments for the scorers in scoring.heavy, and there are none; "
            yield Contradiction((f"scoring.{setting}", "scoring.heavy"), text + "name one, or remove it")


def _receivers(settings: "Settings") -> Iterator[Contradiction]:
    alertmanagers = settings.notify.alertmanagers
    for url in sorted({url for url in alertmanagers if alertmanagers.count(url) > 1}):
        text = f"notify.alertmanagers: {redact_url(url)} is named twice; name it once"
        yield Contradiction(("notify.alertmanagers",), text)
    names_of: dict[str, str] = {}
    for name, webhook in settings.notify.webhooks.items():
        if (other := names_of.setdefault(webhook.url, name)) != name:
            key = f"notify.webhooks.{name}.url"
            text = f"{key}: is that of notify.webhooks.{other}, which would get every alert twice; remove one of them"
            yield Contradiction((key,), text)


def _hooks(settings: "Settings") -> Iterator[Contradiction]:
    switching = [(name, hook) for name, hook in settings.inputs.hooks.items() if not hook.dry_run]
    for number, (name, hook) in enumerate(switching):
        for other, earlier in switching[:number]:
            if hook.url == earlier.url and set(hook.streams) & set(earlier.streams):
                key = f"inputs.hooks.{name}"
                text = (
                    f"{key}: has a url and `streams` in common with inputs.hooks.{other}: two rules would switch one "
                )
                yield Contradiction((key,), text + "input; remove one of them, or give them different `streams`")


def _one_of_two(settings: "Settings", given: Collection[str]) -> Iterator[Contradiction]:
    """Settings of which one replaces the other."""
    history, daemon = settings.history, settings.daemon
    if history.url and "history.path" in given:
        text = "history.path: holds no history, as history.url names a database; remove one of the two"
        if daemon.state_folder is None:
            text += ", and name the folder of state files, which were beside it, in daemon.state_folder"
        yield Contradiction(("history.path", "history.url"), text)
    if history.password_file is not None and not history.url:
        text = "history.password_file: is that of a database, and history.url names none; set that, or remove it"
        yield Contradiction(("history.password_file", "history.url"), text)
    if daemon.slo_floor is not None and "daemon.slo_drop" in given:
        text = "daemon.slo_drop: is not used, as daemon.slo_floor is set; remove one of the two"
        yield Contradiction(("daemon.slo_drop", "daemon.slo_floor"), text)


def _files(settings: "Settings") -> Iterator[Contradiction]:
    """Databases that would be written into one file."""
    keys_of: dict[Path, str] = {}
    files = {
        "history.path": None if settings.history.url else settings.history.path,
        "notify.path": settings.notify.path,
        "web.reviews": settings.web.reviews,
    }
    for key, file in files.items():
        if file is not None and (other := keys_of.setdefault(file.resolve(), key)) != key:
            text = f"{key}: is the file of {other}; give each its own"
            yield Contradiction((key, other), text)


def _web(settings: "Settings") -> Iterator[Contradiction]:
    auth = settings.web.auth
    if auth.user_header and auth.user_header.lower() == auth.groups_header.lower():
        text = f"web.auth.groups_header: {auth.groups_header} is web.auth.user_header; a header names one of the two"
        yield Contradiction(("web.auth.groups_header", "web.auth.user_header"), text)


_CHECKS: Sequence[Callable[["Settings"], Iterator[Contradiction]]] = (
    _source, _kafka, _scoring, _receivers, _hooks, _files, _web,
)  # fmt: skip
