"""The manifests for Kubernetes agree with the settings, the topics, the ACLs and the messages of vqmon."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.service.brokers import topic_names, topic_specs_of
from vqmon.cli.main import main
from vqmon.settings.load import Settings, load_settings
from vqmon.transport.kafka.topics import Role, required_acls

CONFIG = Path(__file__).parents[1] / "config"
FILES = sorted((CONFIG / "kubernetes").rglob("*.yaml"))
Manifest = dict[str, Any]
MANIFESTS: list[Manifest] = [manifest for file in FILES for manifest in yaml.safe_load_all(file.read_text("utf-8"))]
API_VERSIONS = {
    "ConfigMap": "v1",
    "CronJob": "batch/v1",
    "Deployment": "apps/v1",
    "KafkaConnector": "kafka.strimzi.io/v1",
    "KafkaTopic": "kafka.strimzi.io/v1",
    "KafkaUser": "kafka.strimzi.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "TriggerAuthentication": "keda.sh/v1alpha1",
}
USERS: dict[str, Role] = {
    "vqmon-worker": "vqmon run",
    "vqmon-record": "vqmon record",
    "vqmon-notify": "vqmon notify",
    "vqmon-switch-inputs": "vqmon switch-inputs",
    "vqmon-tail": "vqmon tail",
    "vqmon-publish": "vqmon publish, end, deploy, packagers",
}


def of_kind(kind: str) -> dict[str, Manifest]:
    """The manifests of a kind by name."""
    return {manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] == kind}


DEPLOYMENTS, CONNECTORS = of_kind("Deployment"), of_kind("KafkaConnector")


def pod_of(name: str) -> Manifest:
    """The pod template of a Deployment."""
    template: Manifest = DEPLOYMENTS[name]["spec"]["template"]
    return template


def container_of(name: str) -> Manifest:
    """The only container of a Deployment."""
    (container,) = pod_of(name)["spec"]["containers"]
    return dict(container)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of the pods; unknown keys are errors."""
    file = tmp_path / "vqmon.toml"
    file.write_text(of_kind("ConfigMap")["vqmon"]["data"]["vqmon.toml"], encoding="utf-8")
    return load_settings(file)


def test_each_manifest_has_a_kind_an_api_version_and_a_name_of_its_own() -> None:
    """Names are DNS subdomains, labels at most 63 characters long."""
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in MANIFESTS]
    assert len(set(names)) == len(names)
    assert {manifest["kind"]: manifest["apiVersion"] for manifest in MANIFESTS} == API_VERSIONS
    assert all(
        re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name) for _, name in names
    )
    assert all(len(value) <= 63 for manifest in MANIFESTS for value in manifest["metadata"]["labels"].values())


def test_the_topics_are_those_of_topics_create(settings: Settings) -> None:
    """Names, partitions, replicas, and every configuration that the command sets."""
    topics = {topic["spec"]["topicName"]: topic["spec"] for topic in of_kind("KafkaTopic").values()}
    assert {
        name: (topic["partitions"], topic["replicas"], {key: str(value) for key, value in topic["config"].items()})
        for name, topic in topics.items()
    } == {
        spec.name: (spec.partitions, spec.replication_factor, {**spec.initial_config, **spec.required_config})
        for spec in topic_specs_of(settings.kafka)
    }


def test_the_users_have_the_acls_of_topics_acls_and_no_others(settings: Settings) -> None:
    """One user per command; `vqmon topics` needs none where the operator makes the topics."""
    acls = required_acls(topic_names(settings.kafka), settings.kafka.group)
    assert set(USERS.values()) == set(acls) - {"vqmon topics"}
    users = of_kind("KafkaUser")
    assert set(users) == set(USERS)
    for user, role in USERS.items():
        spec = users[user]["spec"]
        assert spec["authentication"] == {"type": "scram-sha-512"}
        assert spec["authorization"]["type"] == "simple"
        rules = {
            (
                {"transactionalId": "transactional-id"}.get(rule["resource"]["type"], rule["resource"]["type"]),
                rule["resource"]["name"],
                rule["resource"]["patternType"] == "prefix",
                frozenset(rule["operations"]),
            )
            for rule in spec["authorization"]["acls"]
        }
        assert rules == {
            (
                acl.resource,
                acl.name,
                acl.is_prefix,
                frozenset(operation.title().replace("_", "") for operation in acl.operations),
            )
            for acl in acls[role]
        }


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_each_pod_is_probed_where_its_command_answers(name: str, settings: Settings) -> None:
    """On the port of the settings, from outside the pod; pages for any name of the host."""
    container = container_of(name)
    command = container["args"][-1]
    assert container["args"] == ["--config", "/etc/vqmon/vqmon.toml", command]
    assert command in main.commands
    (port,) = container["ports"]
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    is_web = command == "web"
    place = (
        (settings.web.host, settings.web.port) if is_web else (settings.daemon.health_host, settings.daemon.health_port)
    )
    assert place == ("0.0.0.0", port["containerPort"])
    assert [probe["path"] for probe in probes.values()] == ["/healthz", "/healthz", "/readyz"]
    if is_web:
        headers = [probe["httpHeaders"] for probe in probes.values()]
        assert headers == [[{"name": "Host", "value": "localhost"}]] * 3


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_each_pod_has_no_more_rights_than_it_needs(name: str) -> None:
    """And an image that does not change by itself."""
    pod, container = pod_of(name)["spec"], container_of(name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] in of_kind("ServiceAccount")
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    _, _, tag = container["image"].rpartition(":")
    assert re.fullmatch(r"\d+\.\d+\.\d+", tag)
    assert {"requests", "limits"} <= set(container["resources"])


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_each_pod_has_the_files_that_its_settings_name(name: str, settings: Settings) -> None:
    """Settings and secrets are mounted, and it has time to drain. Pages need no Kafka, and workers no database."""
    pod, container = pod_of(name)["spec"], container_of(name)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert len(mounts) == len(volumes)
    assert mounts["/etc/vqmon"]["configMap"]["name"] == "vqmon"
    assert {"emptyDir"} <= mounts["/tmp"].keys() & mounts[container["workingDir"]].keys()
    command = container["args"][-1]
    environment = {variable["name"]: variable["value"] for variable in container.get("env", ())}
    if command != "web":
        user = environment["VQMON_KAFKA__USERNAME"]
        assert USERS[user] == f"vqmon {command}"
        assert settings.kafka.password_file is not None
        assert settings.kafka.ca_file is not None
        # The User Operator names the Secret like the user.
        assert mounts[str(settings.kafka.password_file.parent)]["secret"]["secretName"] == user
        assert "secret" in mounts[str(settings.kafka.ca_file.parent)]
        assert pod["terminationGracePeriodSeconds"] > settings.daemon.drain_seconds + 10
    if command != "run":
        assert settings.history.password_file is not None
        assert "secret" in mounts[str(settings.history.password_file.parent)]


def test_selectors_and_ports_meet_pods() -> None:
    """Of Deployments, Services, PodMonitors and budgets; all are scraped."""
    labels = {name: pod_of(name)["metadata"]["labels"] for name in DEPLOYMENTS}
    ports = {name: {port["name"] for port in container_of(name)["ports"]} for name in DEPLOYMENTS}
    for kind in ("Deployment", "Service", "PodMonitor", "PodDisruptionBudget"):
        for name, manifest in of_kind(kind).items():
            selector = manifest["spec"]["selector"]
            selected = (selector if kind == "Service" else selector["matchLabels"]).items()
            assert [pod for pod in labels if selected <= labels[pod].items()] == [name]
    assert {port["targetPort"] for port in of_kind("Service")["vqmon-web"]["spec"]["ports"]} <= ports["vqmon-web"]
    monitors = of_kind("PodMonitor")
    assert set(monitors) == set(DEPLOYMENTS)
    for name, monitor in monitors.items():
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert (endpoint["port"] in ports[name], endpoint["path"]) == (True, "/metrics")


def test_workers_are_scaled_by_the_lag_of_their_group(settings: Settings) -> None:
    """Up to one per partition, with a login that may read the group."""
    (scaled,) = of_kind("ScaledObject").values()
    spec = scaled["spec"]
    assert spec["scaleTargetRef"]["name"] == "vqmon-worker"
    assert 0 < spec["minReplicaCount"] < spec["maxReplicaCount"] == settings.kafka.partitions
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "kafka"
    metadata = trigger["metadata"]
    assert metadata["bootstrapServers"] == ",".join(settings.kafka.bootstrap)
    assert (metadata["consumerGroup"], metadata["topic"]) == (
        settings.kafka.group,
        topic_names(settings.kafka).segments,
    )
    assert int(metadata["lagThreshold"]) > 0
    assert all(isinstance(value, str) for value in metadata.values())
    assert (metadata["sasl"], metadata["tls"]) == ("scram_sha512", "enable")
    login = of_kind("TriggerAuthentication")[trigger["authenticationRef"]["name"]]["spec"]
    secrets = {target["parameter"]: target["name"] for target in login["secretTargetRef"]}
    (username,) = login["configMapTargetRef"]
    assert of_kind("ConfigMap")[username["name"]]["data"][username["key"]] == secrets["password"] == "vqmon-worker"
    assert "ca" in secrets


@pytest.mark.parametrize("name", CONNECTORS)
def test_each_sink_reads_committed_outcomes_and_filters_nothing(name: str, settings: Settings) -> None:
    """The topic holds outcomes alone; values of options are text."""
    spec = CONNECTORS[name]["spec"]
    config = spec["config"]
    assert spec["class"].endswith("SinkConnector")
    assert 0 < spec["tasksMax"] <= settings.kafka.partitions
    assert all(isinstance(value, str) for value in config.values())
    assert config["topics"] == topic_names(settings.kafka).quality
    assert config["consumer.override.isolation.level"] == "read_committed"
    transforms = config["transforms"].split(", ")
    assert all(f"transforms.{transform}.type" in config for transform in transforms)
    assert not any(key.startswith("predicates") for key in config)
    assert not any(config[f"transforms.{transform}.type"].endswith(".Filter") for transform in transforms)


def test_pictures_are_made_every_five_minutes_and_never_twice_at_once() -> None:
    """The CronJob runs the command of the systemd timer, as no root, on a read-only file system."""
    job = of_kind("CronJob")["vqmon-pictures"]["spec"]
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    unit = (CONFIG.parent / "systemd" / "vqmon-pictures@.service").read_text("utf-8")

    assert (job["schedule"], job["concurrencyPolicy"]) == ("*/5 * * * *", "Forbid")
    assert container["args"] == ["--config", "/etc/vqmon/vqmon.toml", "pictures", "EXPERIMENT"]
    assert f"/opt/vqmon/bin/vqmon {' '.join(container['args'][:3])} %I" in unit
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
