"""Everything that can be wrong before the daemon starts, and how to mend it."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipelines.experiments.compare import load_experiments
from pipelines.service.notifications import holding_of, open_poster, targets_of
from pipelines.service.wiring import as_url, fetch_policy, load_rules, open_observer, utc_now
from pipelines.topics.publisher import check as check_topics
from vqmon.core.types import Segment
from vqmon.errors import NoHistoryError, SegmentError, SettingsError, VqmonError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.sources.playlist import segments_of
from vqmon.settings.load import Settings, load_settings
from vqmon.transport.history.history import open_history
from vqmon.transport.secrets import read_secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was checked."""

    subject: str
    text: str
    is_good: bool


def check_all(config: Path | None, *, offline: bool) -> Iterator[Finding]:
    """Check one thing after the other; settings that cannot be read end the list."""
    try:
        settings = load_settings(config)
    except VqmonError as error:
        yield Finding(subject="settings", text=str(error), is_good=False)
        return
    yield Finding(
        subject="settings", text=f"{settings.source.kind} source, {settings.decode_workers} decoders", is_good=True
    )
    yield _runtimes()
    ids: list[str] = []
    yield _checked("scorers", lambda: asyncio.run(_scorers(settings, ids)))
    yield _checked("rules", lambda: f"{len(load_rules(settings, scorers=ids or None))} alert rules")
    if settings.experiments.path is not None:
        yield _checked(
            "experiment", lambda: f"{len(load_experiments(settings.experiments.path))} in {settings.experiments.path}"
        )
    yield _checked("history", lambda: _history(settings))
    yield from _sources(settings, offline=offline)
    if settings.notify.alertmanagers or settings.notify.webhooks:
        yield _checked("notify", lambda: asyncio.run(_receivers(settings, offline=offline)))


def _checked(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject=subject, text=look(), is_good=True)
    except (VqmonError, OSError) as error:
        return Finding(subject=subject, text=str(error), is_good=False)


def _runtimes() -> Finding:
    """Both builds of ONNX Runtime fill the same folder: whichever came last wins, and a removal breaks both."""
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if len(found) == 1:
        return Finding(subject="runtime", text=found[0], is_good=True)
    remedy = "uninstall both, then install the one you want (onnxruntime-gpu on hosts with a GPU)"
    return Finding(
        subject="runtime", text=f"{' and '.join(found) or 'no ONNX Runtime'} installed: {remedy}", is_good=False
    )


async def _scorers(settings: Settings, ids: list[str]) -> str:
    """Open the scorers; `ids` gets theirs, for the rules that name them."""
    async with Fetcher(fetch_policy(settings)) as fetcher, open_observer(settings, fetcher=fetcher) as observer:
        ids += [scorer.id for scorer in observer.judged]
        return ", ".join(
            f"{scorer.id} on {scorer.identity.device}, sha256 {scorer.identity.sha256[:12]}, output as in its manifest"
            for scorer in (*observer.judged, *observer.shadows)
        )


def _history(settings: Settings) -> str:
    path = settings.history.place
    if isinstance(path, Path) and not path.is_file():
        if not path.absolute().parent.is_dir():
            raise OSError(f"{path}: the folder does not exist; create it or set history.path")
        return f"{path} will be made at the first run"
    try:
        with open_history(path, mode="read") as history:
            counts = history.queries.counts()
    except NoHistoryError:
        return f"{path} answers; its tables will be made at the first run"
    return f"{path}: {counts.scored} scored, {counts.unscored} unscored"


async def _receivers(settings: Settings, *, offline: bool) -> str:
    """Secrets can be read, addresses are allowed, and every Alertmanager takes a list of no alerts."""
    notify = settings.notify
    holding_of(notify)
    async with open_poster(settings) as post:
        targets = targets_of(notify, post)
        for url in notify.alertmanagers if not offline else ():
            token = {"Authorization": f"Bearer {read_secret(notify.token_file)}"} if notify.token_file else {}
            await post(f"{url.rstrip('/')}/api/v2/alerts", b"[]", {"Content-Type": "application/json"} | token)
    told_by = "`vqmon notify`" if settings.source.kind == "kafka" else "`vqmon run`"
    return f"{', '.join(target.name for target in targets)}, told by {told_by}"


def _sources(settings: Settings, *, offline: bool) -> Iterator[Finding]:
    source = settings.source
    if source.kind == "folder":
        is_there = source.folder is not None and source.folder.is_dir()
        remedy = "" if is_there else ": no such folder; create it or set source.folder"
        yield Finding(subject="source", text=f"folder {source.folder}{remedy}", is_good=is_there)
        return
    if source.kind == "kafka":
        if not offline:
            yield _checked("source", partial(_topics_now, settings))
        return
    if not source.streams:
        text = "nothing to watch: name streams in source.streams, or use `vqmon watch URL`"
        yield Finding(subject="source", text=text, is_good=False)
    for stream in source.streams if not offline else ():
        yield _checked("source", partial(_listed_now, settings, stream.id, stream.url))


def _topics_now(settings: Settings) -> str:
    wrong = asyncio.run(check_topics(settings))
    if wrong:
        raise SettingsError("; ".join(wrong))
    return f"the topics of {settings.kafka.prefix}, group {settings.kafka.group}, match the settings"


def _listed_now(settings: Settings, stream_id: str, url: str) -> str:
    return asyncio.run(_listed(settings, stream_id, url))


async def _listed(settings: Settings, stream_id: str, url: str) -> str:
    async with Fetcher(fetch_policy(settings)) as fetcher:
        try:
            items = await segments_of(as_url(url), fetcher=fetcher, now=utc_now())
        except SegmentError as error:
            hint = "; list its host in fetch.allowed_hosts" if error.reason == "refused" else ""
            raise SettingsError(f"{stream_id}: {error}{hint}") from error
    renditions = sorted(
        {item.rendition.name if isinstance(item, Segment) else item.segment.rendition.name for item in items}
    )
    return f"{stream_id}: {len(items)} segments in {len(renditions)} renditions ({', '.join(renditions)})"
