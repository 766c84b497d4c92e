"""Tests the secrets that the chart makes or is given, and the rules that it fills with them."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from hooks.emqx.rules import hocon
from hooks.emqx.rules.export import ACL_PATH, configuration
from hooks.emqx.rules.render import Parameters, Rules
from tests.integration.deploy.chart import BROKER, GIVEN, Render, installed, of_kind, secrets


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
