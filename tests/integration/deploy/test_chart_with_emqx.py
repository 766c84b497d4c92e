"""Tests the chart with EMQX in the same release: rules, secrets, and the rates of its listeners."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.deploy.chart import GIVEN, Render, of_kind, secrets, validate


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
