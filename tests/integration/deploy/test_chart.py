"""The chart, rendered by Helm and held against Kubernetes' schemas, the settings and the exported rules."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from hooks.cli import app
from hooks.server.application import DRAIN_SECONDS
from hooks.setting_sources import PREFIX
from hooks.settings import TABLE, load_all
from tests.integration.deploy import helm
from tests.integration.deploy.chart import BROKER, CHART, GIVEN, Render, of_kind, pods, secrets, validate
from tests.integration.deploy.helm import HelmError

ALWAYS = {"ServiceAccount", "Secret", "ConfigMap", "Service", "Deployment", "PodDisruptionBudget", "CronJob", "Job"}


@pytest.mark.parametrize(
    ("values", "added", "missing"),
    [
        ({}, set(), set()),
        ({"autoscaling": {"enabled": True}}, {"HorizontalPodAutoscaler"}, set()),
        ({"podDisruptionBudget": {"enabled": False}}, set(), {"PodDisruptionBudget"}),
        ({"podDisruptionBudget": {"maxUnavailable": "50%"}}, set(), set()),
        ({"networkPolicy": {"enabled": True}}, {"NetworkPolicy"}, set()),
        (
            {"networkPolicy": {"enabled": True, "from": [], "egress": [], "publicFrom": [{"podSelector": {}}]}},
            {"NetworkPolicy"},
            set(),
        ),
        ({"serviceMonitor": {"enabled": True, "labels": {"release": "p"}}}, {"ServiceMonitor"}, set()),
        ({"prometheusRule": {"enabled": True}}, {"PrometheusRule"}, set()),
        ({"dashboard": {"enabled": True}}, set(), set()),
        ({"ingress": {"enabled": True}}, {"Ingress"}, set()),
        (
            {"ingress": {"enabled": True, "className": "c", "tlsSecret": "t", "annotations": {"a": "b"}}},
            {"Ingress"},
            set(),
        ),
        ({"public": {"enabled": False}}, set(), set()),
        ({"public": {"type": "LoadBalancer", "annotations": {"a": "b"}}}, set(), set()),
        ({"migration": {"enabled": False}}, set(), {"Job"}),
        ({"cronJobs": {"sweep": {"enabled": False}}}, set(), set()),
        ({"cronJobs": {"sweep": {"enabled": False}, "aggregate": {"enabled": False}}}, set(), {"CronJob"}),
        ({"cronJobs": {"other": {"enabled": True, "schedule": "@daily", "command": ["a", "b"]}}}, set(), set()),
        ({"secrets": {"existing": "mine"}}, set(), {"Secret"}),
        ({"jwt": {"jwksUrl": "https://login.example/keys"}}, set(), set()),
        ({"broker": BROKER}, set(), set()),
        ({"broker": {**BROKER, "applyRules": True}}, set(), set()),
        ({"fullnameOverride": "chat", "imagePullSecrets": [{"name": "p"}], "workers": 4}, set(), set()),
        (
            {
                "settings": {"IM_ROAMING": "month", "IM_RETENTION_DAYS": 0.5, "IM_SYNC_SENDER": False},
                "nodeSelector": {"a": "b"},
                "tolerations": [{"key": "k", "operator": "Exists"}],
                "affinity": {"podAntiAffinity": {}},
                "podLabels": {"a": "b"},
                "podAnnotations": {"a": "b"},
                "topologySpread": [],
                "serviceAccount": {"annotations": {"a": "b"}},
                "service": {"annotations": {"a": "b"}},
            },
            set(),
            set(),
        ),
    ],
)
def test_every_switch_gives_valid_manifests(
    render: Render, values: dict[str, Any], added: set[str], missing: set[str]
) -> None:
    manifests, notes = render({**GIVEN, **values})
    validate(manifests)
    assert {manifest["kind"] for manifest in manifests} == (ALWAYS | added) - missing
    assert "is installed as" in notes
    for pod in pods(manifests):
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in pod["containers"])
        for variable in pod["containers"][0]["env"]:
            assert variable["name"].removeprefix(PREFIX).lower() in TABLE
            assert isinstance(variable["value"], str)


def test_all_switches_at_once(render: Render) -> None:
    names = ["autoscaling", "networkPolicy", "serviceMonitor", "prometheusRule", "dashboard", "ingress"]
    manifests, _ = render({**GIVEN, **{name: {"enabled": True} for name in names}, "broker": BROKER})
    validate(manifests)
    assert "replicas" not in of_kind(manifests, "Deployment")["spec"]


def test_the_linter_has_nothing_to_say(engine: ProcessPoolExecutor, with_emqx: Path) -> None:
    messages = engine.submit(helm.lint, with_emqx).result(60)
    assert [message for message in messages if message["Severity"] > 1] == []


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"redis": {"url": ""}}, "redis.url: needed"),
        ({"archive": {"url": ""}}, "archive.url: needed"),
        ({"redis": {"url": "redis:6379"}}, "/redis/url"),
        ({"archive": {"url": "sqlite:///x"}}, "/archive/url"),
        ({"broker": {"apiUrl": "http://broker:18083"}}, "broker.apiKey, broker.apiSecret: needed"),
        ({"broker": {"applyRules": True}}, "broker.applyRules: needs broker.apiUrl"),
        ({"jwt": {"secret": "a", "jwksUrl": "https://login.example"}}, "/jwt"),
        ({"ingress": {"enabled": True}, "public": {"enabled": False}}, "ingress.enabled: needs public.enabled"),
        ({"replica": 3}, "'replica'"),
        ({"replicas": "3"}, "/replicas"),
        ({"settings": {"ROAMING": "month"}}, "ROAMING"),
        ({"cronJobs": {"sweep": {"enabled": True, "schedule": "often", "command": ["sweep"]}}}, "schedule"),
        ({"terminationGracePeriodSeconds": 10}, "/terminationGracePeriodSeconds"),
        ({"emqx": {"enabled": True}, "fullnameOverride": "chat"}, "emqx.enabled: call the release emqx-im"),
    ],
)
def test_a_mistake_is_named(render: Render, values: dict[str, Any], named: str) -> None:
    with pytest.raises(HelmError) as refused:
        render({**GIVEN, **values})
    assert named in str(refused.value)


def test_values_schema_and_comments_cover_every_value() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)
    for name in (
        "image",
        "redis",
        "archive",
        "broker",
        "jwt",
        "secrets",
        "service",
        "public",
        "ingress",
        "networkPolicy",
    ):
        assert set(schema["properties"][name]["properties"]) == set(values[name])


def test_all_that_is_required_reaches_the_service(render: Render) -> None:
    manifests, _ = render(GIVEN)
    container = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    variables = {variable["name"]: variable["value"] for variable in container["env"]} | secrets(manifests)
    loaded = load_all(**{name.removeprefix(PREFIX).lower(): value for name, value in variables.items()}).http
    assert (loaded.http_port, loaded.public_port) == (8080, 8081)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": loaded.http_port, "public": loaded.public_port}


def test_a_rolling_update_loses_nothing(render: Render) -> None:
    manifests, _ = render(GIVEN)
    deployment = of_kind(manifests, "Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = deployment["template"]["spec"]
    container = pod["containers"][0]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz/pulls", "port": "http"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    program, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert int(seconds) + DRAIN_SECONDS + 10 <= pod["terminationGracePeriodSeconds"]


def test_jobs_run_commands_that_there_are(render: Render) -> None:
    commands = getattr(typer.main.get_command(app), "commands")  # noqa: B009  (typer's group is click's)
    manifests, _ = render({**GIVEN, "broker": {**BROKER, "applyRules": True}})
    ran = [pod["containers"][0]["args"] for pod in pods(manifests)]
    assert sorted(arguments[0] for arguments in ran) == ["aggregate", "migrate", "rules", "serve", "sweep"]
    assert all(arguments[0] in commands for arguments in ran)
    hooks = {
        manifest["metadata"]["name"]: manifest["metadata"]["annotations"]["helm.sh/hook"]
        for manifest in manifests
        if manifest["kind"] == "Job"
    }
    assert hooks == {"emqx-im-migrate": "post-install,pre-upgrade", "emqx-im-rules": "post-install,post-upgrade"}


def test_a_release_of_another_name_is_called_so(render: Render) -> None:
    manifests, notes = render(GIVEN, release="chat")
    assert {manifest["metadata"]["name"].split("-")[0] for manifest in manifests} == {"chat"}
    assert "deployment/chat" in notes


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "No EMQX is known"),
        ({"broker": BROKER}, "emqx-im rules apply"),
        ({"broker": {**BROKER, "applyRules": True}}, "has been given the rules"),
        (
            {"jwt": {"jwksUrl": "https://login.example/keys"}},
            "from the identity provider at https://login.example/keys",
        ),
        ({"ingress": {"enabled": True, "tlsSecret": "t"}}, "https://im.example.com/pull"),
        ({"public": {"enabled": False}}, "public.enabled gives a port"),
        ({}, "Back up the Secret emqx-im"),
    ],
)
def test_the_notes_say_what_to_do_next(render: Render, values: dict[str, Any], said: str) -> None:
    _, notes = render({**GIVEN, **values})
    assert said in notes
    assert "<no value>" not in notes
