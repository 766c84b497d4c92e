"""The chart, rendered by Helm and held against Kubernetes' schemas, the settings and the exported rules."""

import base64
import functools
import multiprocessing
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from hooks.cli import app
from hooks.emqx.rules import hocon
from hooks.emqx.rules.export import ACL_PATH, configuration
from hooks.emqx.rules.render import Parameters, Rules
from hooks.server.application import DRAIN_SECONDS
from hooks.setting_sources import PREFIX
from hooks.settings import TABLE, load_all
from tests.integration.deploy import helm
from tests.integration.deploy.helm import HelmError, Manifest

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "emqx-im"
GIVEN: dict[str, Any] = {"redis": {"url": "redis://:r@redis:6379/0"}, "archive": {"url": "mysql://im:a@mysql:3306/im"}}
BROKER = {"apiUrl": "http://broker:18083", "apiKey": "key-of-api", "apiSecret": "secret-of-api"}
OLDEST, NEWEST = "1.27", "1.34"
"""Versions of Kubernetes that the manifests are held against; the chart asks for the oldest."""

OPERATOR = "monitoring.coreos.com/v1"
"""Kinds of the Prometheus operator, of which there is no schema."""

Render = Callable[..., tuple[list[Manifest], str]]


@pytest.fixture(scope="session", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """The definitions of one version are megabytes of JSON."""
    with pytest.MonkeyPatch.context() as patch:
        read = functools.cache(kubernetes_validate.utils.schema_contents)
        patch.setattr(kubernetes_validate.utils, "schema_contents", read)
        yield


@pytest.fixture(scope="session")
def engine() -> Iterator[ProcessPoolExecutor]:
    helm.library()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="session")
def render(engine: ProcessPoolExecutor) -> Render:
    def run(
        values: dict[str, Any], *, chart: Path = CHART, release: str = "emqx-im", objects: list[Manifest] | None = None
    ) -> tuple[list[Manifest], str]:
        return engine.submit(helm.render, chart, values, release, objects or []).result(60)

    return run


def of_kind(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    found = [manifest for manifest in manifests if manifest["kind"] == kind]
    return next(manifest for manifest in found if not name or manifest["metadata"]["name"] == name)


def secrets(manifests: list[Manifest], name: str = "emqx-im") -> dict[str, str]:
    data: dict[str, str] = of_kind(manifests, "Secret", name)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def installed(manifest: Manifest) -> Manifest:
    """As it stands in the cluster, with Helm's mark of whose it is."""
    mark = {"meta.helm.sh/release-name": "emqx-im", "meta.helm.sh/release-namespace": "default"}
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "annotations": {**metadata["annotations"], **mark}}}


def pods(manifests: list[Manifest]) -> list[Manifest]:
    """Returns the specification of every pod of the chart's own image."""
    found = []
    for manifest in manifests:
        match manifest["kind"]:
            case "Deployment" | "Job":
                found.append(manifest["spec"]["template"]["spec"])
            case "CronJob":
                found.append(manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"])
    return found


def validate(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["apiVersion"] == OPERATOR:
            assert manifest["spec"]
            continue
        for version in (OLDEST, NEWEST):
            kubernetes_validate.validate(manifest, version, strict=True)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(names) == len(set(names))


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


def test_secrets_are_made_once(render: Render) -> None:
    first, _ = render(GIVEN)
    made = secrets(first)
    assert len(set(made.values())) == len(made) == 7
    again, _ = render(GIVEN, objects=[installed(of_kind(first, "Secret"))])
    assert secrets(again) == made
    other, _ = render(GIVEN)
    assert secrets(other)["IM_SECRET"] != made["IM_SECRET"]
    assert of_kind(first, "Secret")["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_given_secrets_win(render: Render) -> None:
    secret = {"hookToken": "h", "adminToken": "a", "secret": "s", "events": "whsec_e"}
    given = {"secrets": secret, "jwt": {"secret": "j"}, "broker": BROKER}
    first, _ = render(GIVEN)
    manifests, _ = render({**GIVEN, **given}, objects=[installed(of_kind(first, "Secret"))])
    assert secrets(manifests) == {
        "IM_REDIS_URL": GIVEN["redis"]["url"],
        "IM_ARCHIVE_URL": GIVEN["archive"]["url"],
        "IM_HOOK_TOKEN": "h",
        "IM_ADMIN_TOKEN": "a",
        "IM_SECRET": "s",
        "IM_EVENTS_SECRET": "whsec_e",
        "IM_JWT_SECRET": "j",
        "IM_EMQX_API_KEY": "key-of-api",
        "IM_EMQX_API_SECRET": "secret-of-api",
    }


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


@pytest.mark.parametrize("jwks", ["", "https://login.example/keys"])
@pytest.mark.parametrize("url", ["", "https://im.example.com/"])
@pytest.mark.parametrize("token", ["abc", 'a"b\\c&d|e$f', "first,second"])
@pytest.mark.parametrize("trusted", ["", "false", "true"])
def test_the_rules_with_their_secrets_are_those_that_are_exported(
    render: Render, tmp_path: Path, jwks: str, url: str, token: str, trusted: str
) -> None:
    jwt = {"jwksUrl": jwks} if jwks else {"secret": token}
    given = {**GIVEN, "jwt": jwt, "broker": {**BROKER, "hookUrl": url}, "secrets": {"hookToken": token}}
    manifests, _ = render({**given, "settings": {"IM_TRUSTED_SEND": trusted} if trusted else {}})
    data = of_kind(manifests, "ConfigMap", "emqx-im-rules")["data"]
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    filled = tmp_path / "filled"
    filled.mkdir()
    environment = {**secrets(manifests), "PATH": os.environ["PATH"], "RULES": str(tmp_path), "FILLED": str(filled)}
    subprocess.run(["sh", tmp_path / "fill"], env=environment, check=True)

    hook_url = url.rstrip("/") or "http://emqx-im.default.svc:8080"
    parameters = Parameters(
        "emqx_im", hook_url, token.split(",")[0], None if jwks else token, jwks or None, trusted == "true"
    )
    rules = Rules(parameters)
    exported = configuration(rules, only_rules=False)
    file_source = exported["authorization"]["sources"][0]
    assert file_source.pop("rules") == rules.acl
    file_source["path"] = ACL_PATH
    assert hocon.read((filled / "base.hocon").read_text(), "base.hocon") == exported
    assert not re.search(r'^[^#=]*\."', (filled / "base.hocon").read_text(), re.MULTILINE), "EMQX reads no such path"
    assert (filled / "emqx-im-acl.conf").read_text() == rules.acl
    assert (filled / "api_keys").read_text() == "key-of-api:secret-of-api:administrator\n"


def test_the_rules_hold_no_secret(render: Render) -> None:
    manifests, _ = render({**GIVEN, "broker": BROKER})
    text = yaml.safe_dump(of_kind(manifests, "ConfigMap", "emqx-im-rules"))
    assert "{{ hook_token }}" in text
    assert not any(value in text for value in secrets(manifests).values())
    assert set(re.findall(r"\{\{ (\w+) \}\}", text)) == {"hook_token", "jwt_secret"}


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


STAND_IN = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: {{ .Values.fullnameOverride }}}
spec:
  serviceName: {{ .Values.fullnameOverride }}
  replicas: {{ .Values.replicaCount }}
  selector: {matchLabels: {app: emqx}}
  template:
    metadata: {labels: {app: emqx}}
    spec:
      volumes: {{- toYaml .Values.extraVolumes | nindent 8 }}
      initContainers: {{- toYaml .Values.initContainers | nindent 8 }}
      containers:
        - name: emqx
          image: emqx
          envFrom:
            - secretRef: {name: {{ .Values.envFromSecret }}}
          env:
            {{- range $name, $value := .Values.emqxConfig }}
            {{- if $value }}
            - {name: {{ $name }}, value: {{ $value }}}
            {{- end }}
            {{- end }}
          volumeMounts: {{- toYaml .Values.extraVolumeMounts | nindent 12 }}
"""


@pytest.fixture
def with_emqx(tmp_path: Path) -> Path:
    """The chart with a stand-in for EMQX's, which takes the same values; the real one has to be fetched."""
    chart = tmp_path / "emqx-im"
    shutil.copytree(CHART, chart)
    inner = chart / "charts" / "emqx"
    (inner / "templates").mkdir(parents=True)
    (inner / "Chart.yaml").write_text("apiVersion: v2\nname: emqx\nversion: 5.8.9\n")
    (inner / "values.yaml").write_text('emqxConfig: {EMQX_DASHBOARD__DEFAULT_PASSWORD: "public"}\n')
    (inner / "templates" / "statefulset.yaml").write_text(STAND_IN)
    return chart


def test_emqx_in_the_same_release_finds_rules_and_secrets(render: Render, with_emqx: Path) -> None:
    off, _ = render(GIVEN, chart=with_emqx)
    assert "StatefulSet" not in {manifest["kind"] for manifest in off}

    manifests, notes = render({**GIVEN, "emqx": {"enabled": True}}, chart=with_emqx)
    validate(manifests)
    pod = of_kind(manifests, "StatefulSet")["spec"]["template"]["spec"]
    [init], [emqx] = pod["initContainers"], pod["containers"]
    named = {volume["name"]: volume for volume in pod["volumes"]}
    assert of_kind(manifests, "ConfigMap", named["emqx-im-rules"]["configMap"]["name"])["data"]["fill"]
    assert {mount["mountPath"] for mount in init["volumeMounts"]} == {"/rules", "/emqx-im"}
    needed = {"IM_HOOK_TOKEN", "IM_JWT_SECRET", "IM_EMQX_API_KEY", "IM_EMQX_API_SECRET"}
    assert needed <= set(secrets(manifests, init["envFrom"][0]["secretRef"]["name"]))
    assert {mount.get("subPath") for mount in emqx["volumeMounts"]} == {None, "base.hocon", "emqx-im-acl.conf"}
    environment = {variable["name"] for variable in emqx["env"]}
    assert "EMQX_DASHBOARD__DEFAULT_PASSWORD" not in environment
    assert set(secrets(manifests, emqx["envFrom"][0]["secretRef"]["name"])) == {
        "EMQX_NODE__COOKIE",
        "EMQX_DASHBOARD__DEFAULT_PASSWORD",
    }
    container = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "IM_EMQX_API_URL", "value": "http://emqx-im-broker:18083"} in container["env"]
    assert "EMQX runs as emqx-im-broker" in notes


@pytest.mark.parametrize(
    ("given", "applied", "said"),
    [
        ({}, True, "`emqx-im rules apply` gives its listeners their rates"),
        ({"broker": {"applyRules": True}}, True, "`emqx-im rules apply` gives its listeners their rates"),
        ({"broker": {"applyRules": False}}, False, "exec deployment/emqx-im -- emqx-im rules apply"),
        ({"emqx": {"enabled": True, "persistence": {"enabled": False}}}, True, "emqx.persistence.enabled keeps them"),
    ],
)
def test_emqx_in_the_same_release_gets_the_rates_of_its_listeners(
    render: Render, with_emqx: Path, given: dict[str, Any], applied: bool, said: str
) -> None:
    manifests, notes = render({**GIVEN, "emqx": {"enabled": True}, **given}, chart=with_emqx)
    jobs = {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == "Job"}
    assert ("emqx-im-rules" in jobs) == applied
    if applied:
        [container] = jobs["emqx-im-rules"]["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["rules", "apply"]
        assert {"name": "IM_EMQX_API_URL", "value": "http://emqx-im-broker:18083"} in container["env"]
    assert said in " ".join(notes.split())
    off, _ = render(GIVEN, chart=with_emqx)
    assert "emqx-im-rules" not in {manifest["metadata"]["name"] for manifest in off if manifest["kind"] == "Job"}


def test_kept_configuration_keeps_the_rates(render: Render, with_emqx: Path) -> None:
    kept = {"emqx": {"enabled": True, "persistence": {"enabled": True}}}
    _, notes = render({**GIVEN, **kept}, chart=with_emqx)
    assert "emqx.persistence.enabled" not in notes
