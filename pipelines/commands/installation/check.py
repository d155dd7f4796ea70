"""`vqmon check`: checks everything that can be wrong before the daemon starts, and says how to fix it."""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipelines.commands.serve_web import exposure_problem
from pipelines.observe.open_scorers import may_use_gpu, open_scorer_tiers
from pipelines.service.delivery.inputs import open_input_client, open_input_hooks, refuse_scorers_that_do_not_run
from pipelines.service.delivery.notifications import mute_filter_of, open_http_client, open_receivers
from pipelines.service.wiring import (
    as_url,
    decoder_pool,
    fetch_policy,
    libvmaf_versions,
    load_experiments,
    load_rules,
    open_spool,
    utc_now,
)
from pipelines.topics.publisher import topic_problems
from vqmon.core.alerts.conditions.regression import Regression
from vqmon.core.alerts.reactions.notifications import OWN_STREAM
from vqmon.core.alerts.regression.chart_status import rule_visibility_text
from vqmon.core.types import Segment
from vqmon.errors import DecodeError, NoHistoryError, SegmentError, SettingsError, VqmonError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.sources.playlist import list_segments
from vqmon.plurals import plural
from vqmon.scoring.runtime.devices import select_gpus
from vqmon.settings.load import Settings, read_settings
from vqmon.settings.scoring import ScoringSettings
from vqmon.telemetry.gpus import GpuReader
from vqmon.telemetry.metrics import Meters
from vqmon.transport.history.history import open_history
from vqmon.transport.secrets import read_secret


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check: what was checked, what was found, and whether it passed."""

    subject: str
    text: str
    passed: bool


def run_checks(config: Path | None, *, offline: bool) -> Iterator[CheckResult]:
    """Run all checks in turn; of settings that are wrong only the files that they name, and nothing is opened.

    `offline` leaves out what needs the network.
    """
    try:
        settings, problems = read_settings(config)
    except VqmonError as error:
        yield CheckResult(subject="settings", text=str(error), passed=False)
        return
    if problems or settings is None:
        yield CheckResult(subject="settings", text="\n".join(problems), passed=False)
        if settings is not None:
            yield from (result for result in _check_files(settings) if not result.passed)
        return
    yield CheckResult(
        subject="settings",
        text=f"source.kind {settings.source.kind}, {settings.decode_workers} decoder processes",
        passed=True,
    )
    yield _check_onnxruntime()
    if may_use_gpu(settings.scoring):
        yield _result_of("gpu", lambda: _describe_gpus(settings.scoring))
    yield _result_of("decoders", lambda: asyncio.run(_check_decoders(settings)))
    scorer_ids: list[str] = []
    yield _result_of("scorers", lambda: asyncio.run(_check_scorers(settings, scorer_ids)))
    if settings.scoring.libvmaf_references:
        yield _result_of("ffmpeg", lambda: asyncio.run(_check_ffmpeg(settings)))
    yield from _check_files(settings, scorer_ids)
    history = _result_of("history", lambda: _check_history(settings))
    yield history
    if history.passed:
        yield from _check_series(settings)
    yield from _check_folders_and_secrets(settings)
    yield from _check_source(settings, offline=offline)
    yield from _check_pages(settings)
    yield from _check_targets(settings, scorer_ids, offline=offline)


def _check_files(settings: Settings, scorer_ids: Sequence[str] = ()) -> Iterator[CheckResult]:
    """Read the files of rules and experiments; without `scorer_ids` a rule may name any scorer."""
    yield _result_of("rules", lambda: _check_rules(settings, scorer_ids))
    experiments_file = settings.experiments.path
    if experiments_file is not None:
        yield _result_of("experiment", lambda: f"{len(load_experiments(experiments_file))} in {experiments_file}")


def _check_pages(settings: Settings) -> Iterator[CheckResult]:
    """What to know of the pages; none of it is a fault for certain."""
    if problem := exposure_problem(settings.web, settings.web.host):
        yield CheckResult(subject="web", text=problem, passed=True)
    if text := _shared_port(settings):
        yield CheckResult(subject="ports", text=text, passed=True)


def _check_targets(settings: Settings, scorer_ids: Sequence[str], *, offline: bool) -> Iterator[CheckResult]:
    """Receivers of alerts and of decisions about inputs."""
    if settings.notify.alertmanagers or settings.notify.webhooks or settings.notify.windows:
        yield _result_of("notify", lambda: asyncio.run(_check_notify_targets(settings, offline=offline)))
    if settings.inputs.hooks:
        yield _result_of("inputs", lambda: asyncio.run(_check_input_hooks(settings, scorer_ids)))


def _shared_port(settings: Settings) -> str:
    """What to know when pages and daemon have one port; "" when they do not. The two may run in separate containers."""
    port = settings.web.port
    if settings.source.kind == "kafka" or port == 0 or port != settings.daemon.health_port:
        return ""
    return (
        f"web.port and daemon.health_port are both {port}: right where `vqmon web` and `vqmon run` have hosts or "
        "containers of their own; on one host the one that starts later finds it taken"
    )


def _check_folders_and_secrets(settings: Settings) -> Iterator[CheckResult]:
    """What settings name that nothing else here opens."""
    state_folder = settings.daemon.state_folder
    if state_folder is not None:
        yield _result_of("state", lambda: _check_state_folder(state_folder))
    if settings.fetch.credentials:
        yield _result_of("fetch", lambda: _check_credentials(settings))


def _result_of(subject: str, check: Callable[[], str]) -> CheckResult:
    """Run a check that returns its text, or raises VqmonError or OSError with the problem."""
    try:
        return CheckResult(subject=subject, text=check(), passed=True)
    except (VqmonError, OSError) as error:
        return CheckResult(subject=subject, text=str(error), passed=False)


def _check_rules(settings: Settings, scorer_ids: Sequence[str]) -> str:
    """Read the rules; says of regression rules which drops open an alert, as that may come from the scorer's noise."""
    # a folder that is not there is found by the check of the scorers
    folders = tuple(folder for folder in settings.scoring.folders if folder.is_dir())
    scoring = settings.scoring.model_copy(update={"folders": folders})
    rules = load_rules(settings.model_copy(update={"scoring": scoring}), scorers=scorer_ids or None)
    drops = [
        f"{rule.name} from {rule.condition.delta_min:g} points"
        for rule in rules
        if isinstance(rule.condition, Regression)
    ]
    return plural(len(rules), "alert rule") + (f"; drops: {', '.join(drops)}" if drops else "")


def _check_onnxruntime() -> CheckResult:
    """Both builds of ONNX Runtime install into one folder: the later overwrites the other, removing one breaks both."""
    installed = []
    for package in ("onnxruntime", "onnxruntime-gpu"):
        try:
            installed.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    if len(installed) == 1:
        return CheckResult(subject="runtime", text=installed[0], passed=True)
    problem = f"{' and '.join(installed)} are both installed" if installed else "ONNX Runtime is not installed"
    remedy = "uninstall both, then install" if installed else "install"
    return CheckResult(
        subject="runtime",
        text=f"{problem}; {remedy} onnxruntime-gpu on a host with a GPU, onnxruntime on others",
        passed=False,
    )


def _describe_gpus(scoring: ScoringSettings) -> str:
    """The GPUs, how they are used, and where engines are stored; whether they can compute, the scorers' check tells."""
    kinds = [device for device in scoring.used_devices if device != "cpu"]
    parts = [f"{' and '.join(kinds)} on {', '.join(scoring.devices) or 'the first GPU'}"]
    select_gpus(scoring.devices, dict(os.environ))
    if "tensorrt" in kinds:
        cache = scoring.engine_cache
        stored = (
            f"stored in {cache}" if cache else "built at every start, which takes minutes: set scoring.engine_cache"
        )
        parts.append(f"TensorRT computes in {scoring.tensorrt_precision}, its engines are {stored}")
    if scoring.cuda_graphs:
        parts.append("with CUDA graphs")
    reader = GpuReader.open(scoring.devices, os.environ)
    if isinstance(reader, str):
        parts.append(f"no metrics of GPUs: {reader}")
    else:
        parts += [
            f"{load.gpu}: {load.model}, {load.used_bytes / 2**30:.1f} of {load.total_bytes / 2**30:.1f} GiB used"
            for load in reader.read()
        ]
    return "; ".join(parts)


async def _check_decoders(settings: Settings) -> str:
    """Start one decoder process and say which protections it works under."""
    decode = settings.decode.model_copy(update={"workers": 1})
    async with decoder_pool(settings.model_copy(update={"decode": decode})) as pool:
        report = pool.isolation
        if not pool.versions:
            if decode.socket:
                raise SettingsError(
                    f"decode.socket: no decoder answers at {decode.socket}; see `systemctl status vqmon-decoder.socket`"
                )
            raise DecodeError("worker", "no decoder process starts; see the memory and process limits of this machine")
    in_force = [f"{name} ({detail})" if detail else name for name, detail in report.in_force.items()]
    lines = [f"decode.isolation {settings.decode.isolation}: {', '.join(in_force)}".replace("_", " ")]
    lines += [f"without {name}: {why}".replace("_", " ") for name, why in report.missing.items()]
    if settings.decode.hardware:
        lines.append(f"decode.hardware: {pool.versions['nvdec']}")
    if os.geteuid() == 0:
        lines.append("runs as root: run vqmon as a user of its own")
    return "; ".join(lines)


async def _check_scorers(settings: Settings, scorer_ids: list[str]) -> str:
    """Open all scorers, which runs their self-tests; adds the ids that alert rules may name to `scorer_ids`.

    Nothing else is opened, so that what fails here is a setting of the scorers.
    """
    async with open_scorer_tiers(settings.scoring, meters=Meters()) as tiers:
        judged = (*tiers.scorers, *(tiers.heavy.scorers if tiers.heavy else ()))
        scorer_ids += [scorer.id for scorer in judged]
        return ", ".join(
            f"{scorer.id} on {scorer.identity.device}, sha256 {scorer.identity.sha256[:12]}, self-test passed"
            for scorer in (*judged, *tiers.shadows)
        )


async def _check_ffmpeg(settings: Settings) -> str:
    """Compare a picture with itself by all measures of libvmaf."""
    versions = await libvmaf_versions(settings.scoring)
    return f"{settings.scoring.ffmpeg}: {', '.join(f'{name} {version}' for name, version in versions.items())}"


def _check_history(settings: Settings) -> str:
    location = settings.history.location
    if isinstance(location, Path) and not location.is_file():
        if not location.absolute().parent.is_dir():
            raise OSError(f"{location}: its folder does not exist; create the folder or set history.path")
        return f"{location} does not exist yet; the first run creates it"
    try:
        with open_history(location, mode="read") as history:
            history.check()
            counts = history.queries.counts()
            alerts = history.queries.alerts(open_only=True, stream_id=OWN_STREAM)
            identity = history.queries.identity()
    except NoHistoryError:
        return f"{location} is reachable and has no tables yet; the first run creates them"
    spool = open_spool(settings, identity=identity)
    left = sum(len(write.outcomes) for write in spool.read())
    waiting = f"; {plural(left, 'outcome')} in {spool.path} that it has not taken yet" if left else ""
    about_vqmon = waiting + "".join(f"; since {alert.opened_at:%F %H:%M} UTC {alert.summary}" for alert in alerts)
    return f"{location}: {plural(counts.scored, 'segment')} scored, {counts.unscored} unscored{about_vqmon}"


def _check_state_folder(folder: Path) -> str:
    if not folder.is_dir():
        raise SettingsError(f"daemon.state_folder: {folder}: no such folder; create it, or correct the setting")
    return f"what outlives a kill is in {folder}"


def _check_credentials(settings: Settings) -> str:
    """Read the credentials of hosts."""
    return f"credentials of {', '.join(credential.host for credential in fetch_policy(settings).credentials)}"


def _check_series(settings: Settings) -> Iterator[CheckResult]:
    """Say which drops the stored series of regression rules see, and how soon; nothing where none are stored."""
    parts = []
    try:
        with open_history(settings.history.location, mode="read") as history:
            for rule in load_rules(settings):
                if isinstance(rule.condition, Regression):
                    states = history.queries.states_of_rule(rule.name)
                    if text := rule_visibility_text(states, delta_min=rule.condition.delta_min):
                        parts.append(f"{rule.name}: {text}")
    except (VqmonError, OSError):
        # the checks of rules and history report it
        return
    if parts:
        yield CheckResult(subject="series", text="; ".join(parts), passed=True)


async def _check_notify_targets(settings: Settings, *, offline: bool) -> str:
    """Read the secrets, check the addresses, and post an empty list of alerts to every Alertmanager."""
    notify = settings.notify
    mute_filter_of(notify)
    async with open_http_client(settings) as client:
        targets = open_receivers(notify, client)
        for url in notify.alertmanagers if not offline else ():
            headers = {"Content-Type": "application/json"}
            if notify.token_file:
                headers["Authorization"] = f"Bearer {read_secret(notify.token_file, setting='notify.token_file')}"
            await client.post(f"{url.rstrip('/')}/api/v2/alerts", b"[]", headers)
    sender = "`vqmon notify`" if settings.source.kind == "kafka" else "`vqmon run`"
    return f"{', '.join(target.name for target in targets) or 'no receiver'}; alerts are sent by {sender}"


async def _check_input_hooks(settings: Settings, scorer_ids: Sequence[str]) -> str:
    """Read the secrets and check the addresses; nothing is sent, as it would be followed."""
    if scorer_ids and settings.source.kind != "kafka":
        # the workers of a fleet have settings of their own
        refuse_scorers_that_do_not_run(settings.inputs, scorer_ids)
    async with open_input_client(settings) as client:
        open_input_hooks(settings, client, meters=Meters(), record=lambda record: None)
    sender = "`vqmon switch-inputs`" if settings.source.kind == "kafka" else "`vqmon run`"
    names = [f"{name} (dry run)" if hook.dry_run else name for name, hook in settings.inputs.hooks.items()]
    return f"{', '.join(names)}; decisions are made by {sender}"


def _check_source(settings: Settings, *, offline: bool) -> Iterator[CheckResult]:
    source = settings.source
    if source.kind == "folder":
        if source.folder is None:
            yield CheckResult(subject="source", text="source.folder: name the folder of the media files", passed=False)
            return
        exists = source.folder.is_dir()
        remedy = "" if exists else ": no such folder; create it or set source.folder"
        yield CheckResult(subject="source", text=f"folder {source.folder}{remedy}", passed=exists)
        return
    if source.kind == "kafka":
        if not offline:
            yield _result_of("source", partial(_check_topics, settings))
        return
    if not source.streams:
        text = "no streams yet: `vqmon run` needs source.streams; `vqmon watch URL` and `vqmon score` do not"
        yield CheckResult(subject="source", text=text, passed=True)
    for stream in source.streams if not offline else ():
        yield _result_of("source", partial(_check_playlist, settings, stream.id, stream.url))


def _check_topics(settings: Settings) -> str:
    problems = asyncio.run(topic_problems(settings))
    if problems:
        raise SettingsError("; ".join(problems))
    return f"the topics of {settings.kafka.prefix}, group {settings.kafka.group}, match the settings"


def _check_playlist(settings: Settings, stream_id: str, url: str) -> str:
    return asyncio.run(_describe_playlist(settings, stream_id, url))


async def _describe_playlist(settings: Settings, stream_id: str, url: str) -> str:
    async with Fetcher(fetch_policy(settings)) as fetcher:
        try:
            items = await list_segments(as_url(url), fetcher=fetcher, now=utc_now())
        except SegmentError as error:
            raise SettingsError(f"{stream_id}: {error}") from error
    segments = [item if isinstance(item, Segment) else item.segment for item in items]
    # a rendition whose playlist cannot be had is listed as one failure
    failed = [item for item in items if not isinstance(item, Segment) and item.reason == "playlist"]
    if failed:
        problems = (f"{failure.segment.rendition.name}: {failure.detail}" for failure in failed)
        raise SettingsError(f"{stream_id}: {'; '.join(problems)}")
    if [segment.url for segment in segments] == [as_url(url)]:
        raise SettingsError(f"{stream_id}: a media file, not an HLS or DASH playlist; score it with `vqmon score`")
    renditions = sorted({segment.rendition.name for segment in segments})
    counts = f"{plural(len(items), 'segment')} in {plural(len(renditions), 'rendition')}"
    return f"{stream_id}: {counts} ({', '.join(renditions)})"
