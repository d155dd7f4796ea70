"""The image and `compose.yaml` agree with the settings, the commands, the routes and the files that they name."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from click.testing import CliRunner

from pipelines.demo.arms import ARMS, STREAM_ID
from pipelines.service.wiring import load_experiments
from tests.conftest import need
from vqmon.cli.main import main
from vqmon.settings.load import Settings, load_settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@pytest.fixture
def settings() -> Settings:
    """The settings of the containers; unknown keys are errors."""
    return load_settings(ROOT / "config" / "compose" / "vqmon.toml")


def urls_in(text: str) -> set[str]:
    return set(re.findall(r"https?://[^'\"\s,\]]+", text))


def probe_of(service: dict[str, Any]) -> str:
    """The URL that the health check of a service of ours asks: its own, else the one of its image."""
    if "healthcheck" in service:
        return urls_in(" ".join(service["healthcheck"]["test"])).pop()
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    (stage,) = [stage for stage in stages if stage.split("\n")[0].endswith(f" AS {service['build']['target']}")]
    return urls_in(stage[stage.index("HEALTHCHECK") :]).pop()


def mounts_of(service: dict[str, Any]) -> list[tuple[str, str]]:
    """(source, target) of each volume; the source is a path, or the name of a volume."""
    return [(source, target) for source, target, *_ in (volume.split(":") for volume in service.get("volumes", ()))]


def test_images_are_pinned_and_ours_has_one_version_everywhere() -> None:
    """In compose.yaml, the bases of the Dockerfile and the manifests for Kubernetes."""
    bases = [line.split()[1] for line in DOCKERFILE.split("\n") if line.startswith("FROM ")]
    stages = set(re.findall(r"^FROM .* AS ([a-z-]+)$", DOCKERFILE, flags=re.MULTILINE))
    images = [service["image"] for service in SERVICES.values()] + [base for base in bases if base not in stages]
    assert all(re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z-]+)?$", image) for image in images), images
    manifests = [path.read_text(encoding="utf-8") for path in (ROOT / "config" / "kubernetes").glob("*.yaml")]
    named = {name for text in manifests for name in re.findall(r"image: \S*/(vqmon:\S+)", text)}
    assert named == {f"vqmon:{VERSION}"}
    assert {service["image"] for service in OURS.values()} == {f"vqmon:{VERSION}", f"vqmon-demo:{VERSION}"}
    assert {service["build"]["target"] for service in OURS.values()} <= stages


def test_the_build_context_holds_what_the_dockerfile_copies_and_nothing_else() -> None:
    """An image cannot be built without a file that .dockerignore keeps out."""
    copied = {line.split()[1] for line in DOCKERFILE.split("\n") if line.startswith("COPY ") and "--from=" not in line}
    everything, *kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert everything == "*"
    assert {pattern.removeprefix("!") for pattern in kept} == copied
    assert all((ROOT / path).is_file() for path in copied if "*" not in path)


def test_the_environment_of_the_image_is_settings(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """And says the same as the settings of compose.yaml."""
    variables = dict(re.findall(r"(VQMON_\w+)=(\S+)", DOCKERFILE))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    of_image = load_settings(ROOT / "config" / "compose" / "vqmon.toml")
    assert len(variables) == 3
    assert (of_image.daemon, of_image.web) == (settings.daemon, settings.web)


@pytest.mark.parametrize("name", SERVICES)
def test_each_file_that_a_service_mounts_exists(name: str) -> None:
    """Volumes and secrets are declared, and what a service waits for has a health check or ends."""
    service = SERVICES[name]
    for source, _ in mounts_of(service):
        assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], source
    for secret in service.get("secrets", ()):
        assert (ROOT / COMPOSE["secrets"][secret]["file"]).is_file()
    for awaited, condition in service.get("depends_on", {}).items():
        can_be_healthy = "healthcheck" in SERVICES[awaited] or awaited in OURS
        assert can_be_healthy or condition["condition"] != "service_healthy"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", OURS)
def test_each_container_of_ours_has_no_rights_and_a_command_that_exists(name: str) -> None:
    """Its root is read-only, so all that it writes is in a volume or in memory."""
    service = OURS[name]
    assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    mounted = dict(map(reversed, mounts_of(service)))  # type: ignore[arg-type]
    assert mounted["/etc/vqmon/vqmon.toml"] == "./config/compose/vqmon.toml"
    if service["build"]["target"] == "vqmon":
        result = CliRunner().invoke(main, [*service["command"], "--help"])
        assert result.exit_code == 0, result.output
    assert re.findall(r"^USER (.*)$", DOCKERFILE, flags=re.MULTILINE) == ["10001:10001"]


def test_each_health_check_asks_a_port_and_a_route_that_is_served(settings: Settings) -> None:
    """Pages have /healthz alone; the packager is well while it has a playlist."""
    probes = {name: urlsplit(probe_of(service)) for name, service in OURS.items() if name != "topics"}
    daemon, web = (settings.daemon.health_port, "/readyz"), (settings.web.port, "/healthz")
    found = {name: (probe.port, probe.path) for name, probe in probes.items()}
    packager = found.pop("packager")
    assert packager == (settings.fetch.allowed_ports[0], "/720p-v1.m3u8")
    assert found == {"worker": daemon, "record": daemon, "notify": daemon, "web": web}
    exposed = {int(port) for line in re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE) for port in line.split()}
    assert exposed == {settings.web.port, settings.daemon.health_port, packager[0]}


def test_hosts_and_ports_in_the_settings_are_services(settings: Settings) -> None:
    """Brokers, database, origin, Alertmanager, what Prometheus scrapes and Grafana reads."""
    compose = ROOT / "config" / "compose"
    prometheus = yaml.safe_load((compose / "prometheus.yml").read_text(encoding="utf-8"))
    scraped = [target for job in prometheus["scrape_configs"] for target in job["static_configs"][0]["targets"]]
    sources = yaml.safe_load((compose / "grafana-datasources.yaml").read_text(encoding="utf-8"))["datasources"]
    hosts = [*settings.kafka.bootstrap, *settings.fetch.allowed_hosts, *scraped]
    hosts += [urlsplit(url).netloc for url in (settings.history.url, *settings.notify.alertmanagers)]
    hosts += [urlsplit(source["url"]).netloc or source["url"] for source in sources]
    assert {re.sub(r".*@|:\d+$", "", host) for host in hosts} <= set(SERVICES)
    ports = {"web": settings.web.port, "worker": settings.daemon.health_port, "record": settings.daemon.health_port}
    assert set(scraped) == {f"{service}:{port}" for service, port in ports.items()}
    assert str(settings.history.password_file) == "/run/secrets/postgres"
    assert SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres"
    assert settings.kafka.copies == SERVICES["kafka"]["environment"]["KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR"]


def test_grafana_has_the_data_sources_that_its_dashboards_ask_for() -> None:
    """By type, or by the id that the dashboards for Prometheus name."""
    text = (ROOT / "config" / "compose" / "grafana-datasources.yaml").read_text(encoding="utf-8")
    types = {source["type"] for source in yaml.safe_load(text)["datasources"]}
    dashboards = [source for source, _ in mounts_of(SERVICES["grafana"]) if source.endswith(".json")]
    assert len(dashboards) == 3
    for source in dashboards:
        variables = json.loads((ROOT / source).read_text(encoding="utf-8"))["templating"]["list"]
        assert {variable["query"] for variable in variables if variable["type"] == "datasource"} <= types


def test_the_experiment_is_over_the_arms_of_the_packager(settings: Settings) -> None:
    """Whose names, stream and label are those of its segment messages."""
    assert settings.experiments.path is not None
    (experiment,) = load_experiments(settings.experiments.path)
    assert {arm.name for arm in experiment.arms} == set(ARMS)
    assert list(experiment.streams) == [STREAM_ID]
    assert experiment.cluster == "label:title"


def test_prometheus_reads_its_settings(tmp_path: Path) -> None:
    """With the rules beside them, as they are mounted."""
    promtool = shutil.which("promtool")
    need("promtool", present=promtool is not None, remedy="install Debian's `prometheus`")
    for source, target in mounts_of(SERVICES["prometheus"]):
        if source.startswith("."):
            shutil.copy(ROOT / source, tmp_path / Path(target).name)
    run = subprocess.run(
        [str(promtool), "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
