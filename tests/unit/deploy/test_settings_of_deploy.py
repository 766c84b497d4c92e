"""The settings that the Helm chart, compose and the image name, held to the one table of settings."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hooks.setting_sources import PREFIX
from hooks.settings import TABLE

DEPLOY = Path(__file__).parents[3] / "deploy"
CHART = DEPLOY / "helm" / "emqx-im"
COMPOSE = sorted(DEPLOY.glob("compose*.yaml"))
TEXTS = [*COMPOSE, DEPLOY / "Dockerfile", CHART / "values.yaml", *sorted((CHART / "templates").glob("*"))]
NAMES = {PREFIX + name.upper() for name in TABLE}


def written(value: Any) -> str:
    """Returns a default as YAML and environments write it."""
    match value:
        case None | () | "":
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def default(variable: str) -> str:
    return written(TABLE[variable.removeprefix(PREFIX).lower()].default)


def set_by_the_chart() -> set[str]:
    """Returns what templates and the Secret set from other values, so that `settings` must not."""
    named = (CHART / "templates" / "_helpers.tpl").read_text() + (CHART / "templates" / "secret.yaml").read_text()
    return set(re.findall(r"\{name: (IM_[A-Z_]+),", named)) | set(re.findall(r"^ *(IM_[A-Z_]+):", named, re.MULTILINE))


def stated() -> list[tuple[Path, int, str, str]]:
    """Defaults that the files state: file, number of the line, variable, value."""
    patterns = (
        r"\$\{(IM_[A-Z_]+):-([^}]*)\}",  # compose
        r"\{name: (IM_[A-Z_]+), value: \"([^\"{]*)\"\}",  # templates
        r"(?:^ENV |\s)(IM_[A-Z_]+)=(\S+)",  # the image
    )
    return [
        (path, number, *found)
        for path in TEXTS
        for number, line in enumerate(path.read_text().splitlines())
        for pattern in patterns
        for found in re.findall(pattern, line)
    ]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_setting_that_is_named_is_there(path: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]", path.read_text()))
    assert named <= NAMES


def test_every_setting_can_be_given_in_the_values_of_the_chart() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["settings"]
    assert set_by_the_chart() <= NAMES
    assert schema["propertyNames"]["enum"] == sorted(NAMES - set_by_the_chart())


def test_secrets_are_none_of_the_settings_that_pods_show() -> None:
    secret = {PREFIX + name.upper() for name, field in TABLE.items() if not field.repr}
    assert secret
    assert secret <= set_by_the_chart()
    for path in COMPOSE:
        services = yaml.safe_load(path.read_text())["services"].values()
        assert not secret & {name for service in services for name in service.get("environment", {})}


def test_defaults_that_are_stated_are_those_of_the_table_or_have_their_reason_beside_them() -> None:
    found = stated()
    assert len(found) >= 6
    for path, number, variable, value in found:
        before = path.read_text().splitlines()[:number][-2:]
        reasoned = any(re.search(rf"(#|/\*).*\b{variable}\b", line) for line in before)
        assert value == default(variable) or reasoned, f"{path.name}:{number + 1}: {variable} is {default(variable)!r}"


def test_sizes_in_the_comments_on_values_are_those_of_the_table() -> None:
    factors = {None: 1, "KiB": 2**10, "MiB": 2**20}
    text = (CHART / "values.yaml").read_text()
    found = re.findall(r"(IM_[A-Z_]+)(?:\s|#)+\(([\d,]+)(?: (KiB|MiB))?\)", text)
    assert len(found) == 2
    for variable, amount, unit in found:
        assert str(int(amount.replace(",", "")) * factors[unit or None]) == default(variable), variable
