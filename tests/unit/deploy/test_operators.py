"""The pages on running it: commands, settings, values and links that they name are there."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from hooks.cli import app
from hooks.setting_sources import PREFIX
from hooks.settings import TABLE

ROOT = Path(__file__).parents[3]
OPERATORS = ROOT / "docs" / "operators"
PAGES = [OPERATORS / f"{name}.md" for name in ("install", "upgrade", "backup", "scale", "alarms")]


def commands() -> dict[str, set[str]]:
    """Returns each command, of groups too, with its options."""

    def found(command: Any, name: str) -> dict[str, set[str]]:
        inner = getattr(command, "commands", {})
        own = {} if inner else {name: {option for parameter in command.params for option in parameter.opts}}
        return own | {
            path: options for key, value in inner.items() for path, options in found(value, f"{name} {key}").items()
        }

    return {name.strip(): options for name, options in found(typer.main.get_command(app), "").items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_options_are_there(page: Path) -> None:
    known = commands()
    text = page.read_text().replace("exec emqx-im emqx-im", "exec emqx-im")
    called = re.findall(
        r"(?:exec|--|`|^|/bin/|=)\s*emqx-im ((?:rules |events )?[a-z]+)((?: --[a-z-]+(?: [^-`\s]\S*)?)*)",
        text,
        re.MULTILINE,
    )
    assert called or page.stem == "scale"
    for name, options in called:
        assert name in known, name
        assert set(re.findall(r"--[a-z-]+", options)) <= known[name], (name, options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_settings_are_there(page: Path) -> None:
    for name in re.findall(rf"{PREFIX}[A-Z_]+[A-Z]", page.read_text()):
        assert name.removeprefix(PREFIX).lower() in TABLE, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_values_of_the_chart_are_there(page: Path) -> None:
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "emqx-im" / "values.yaml").read_text())
    paths = {f"{name}.{key}" for name, value in values.items() if isinstance(value, dict) for key in value}
    for path in re.findall(r"`([a-z]\w+\.[a-z]\w+)`", page.read_text()):
        assert path in paths or path.endswith((".yaml", ".hocon", ".conf", ".env")) or path.startswith("im."), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text())
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        heads = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}
        assert not anchor or anchor in slugs, link
