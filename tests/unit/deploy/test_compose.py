"""compose.yaml and the secrets it stands on, by the schema and against the settings."""

import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from hooks import setting_sources
from hooks.setting_sources import PREFIX
from hooks.settings import TABLE, load_all

DEPLOY = Path(__file__).parents[3] / "deploy"


def text() -> str:
    """With the defaults of its variables in place, as `docker compose` reads it."""
    return re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", (DEPLOY / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(text())
    return loaded


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The directory of secrets that `deploy/init` makes."""
    shutil.copy(DEPLOY / "init", tmp_path)
    subprocess.run([tmp_path / "init"], check=True, capture_output=True)
    return tmp_path / "secrets"


def test_the_file_keeps_to_the_schema() -> None:
    parsed = compose_spec.PyOptions(apply_merge=True).from_yaml(text())
    parsed.validate()
    parsed.to_spec()


def test_the_schema_would_refuse_a_mistake() -> None:
    broken = text().replace("secrets: [mysql_p", "secrets: [other_p")
    with pytest.raises(ValueError, match="other_password"):
        compose_spec.PyOptions(apply_merge=True).from_yaml(broken).validate()


def test_ports_are_open_on_loopback_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert {port.split(":")[-1] for port in ports} == {"1883", "8080", "8081", "8083", "18083"}
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_service_is_looked_after(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        once = name in ("migrate", "rules")
        assert once == (service.get("restart") is None)
        assert once == (service.get("healthcheck", {}).get("disable", False))
        assert "healthcheck" in service or service["image"].startswith("emqx-im:"), name
        assert "no-new-privileges:true" in service["security_opt"]
        assert not service.get("privileged")


def test_what_waits_for_what(compose: dict[str, Any]) -> None:
    services = compose["services"]
    waits = {
        name: {other: condition["condition"] for other, condition in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert waits["emqx-im"] == {
        "redis": "service_healthy",
        "mysql": "service_healthy",
        "migrate": "service_completed_successfully",
    }
    assert waits["emqx"] == {"rules": "service_completed_successfully", "emqx-im": "service_healthy"}


def test_secrets_come_from_files_that_init_makes(compose: dict[str, Any], made: Path) -> None:
    declared = {Path(secret["file"]).name: name for name, secret in compose["secrets"].items()}
    assert all(Path(secret["file"]).parent == Path("secrets") for secret in compose["secrets"].values())
    assert set(declared) == {path.name for path in made.iterdir()}
    used = {name for service in compose["services"].values() for name in service.get("secrets", [])}
    assert used == set(compose["secrets"])
    hidden = {"secret", "token", "password", "key", "redis_url", "archive_url"}
    for service in compose["services"].values():
        for variable in service.get("environment", {}):
            assert variable.endswith("_FILE") or not any(word in variable.lower() for word in hidden)


def test_init_keeps_what_is_there(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o444 for path in made.iterdir())
    before = {path.name: path.read_text() for path in made.iterdir()}
    (made / "IM_SECRET").unlink()
    subprocess.run([made.parent / "init"], check=True, capture_output=True)
    after = {path.name: path.read_text() for path in made.iterdir()}
    assert after.pop("IM_SECRET") != before.pop("IM_SECRET")
    assert after == before
    assert len(set(before.values())) == len(before)


def test_the_service_starts_with_its_secrets_and_variables(
    compose: dict[str, Any], made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in TABLE:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    service = compose["services"]["emqx-im"]
    mounted = tmp_path / "run"
    mounted.mkdir()
    for name in service["secrets"]:
        shutil.copy(made / name, mounted / name)
    monkeypatch.setattr(setting_sources, "SECRETS", mounted)
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    loaded = load_all()
    assert loaded.redis.redis_url.endswith("@redis:6379/0")
    assert loaded.broker.emqx_api_url == "http://emqx:18083"
    keys = (made / "emqx_api_keys").read_text().strip()
    assert keys == f"{loaded.broker.emqx_api_key}:{loaded.broker.emqx_api_secret}:administrator"


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """Returns what compose.cluster.yaml adds."""
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.cluster.yaml").read_text())
    return loaded


def test_the_cluster_keeps_to_the_schema(compose: dict[str, Any], cluster: dict[str, Any]) -> None:
    """As `docker compose -f compose.yaml -f compose.cluster.yaml` merges both: maps, and lists of volumes."""
    merged = _merged(compose, cluster)
    parsed = compose_spec.PyOptions(apply_merge=True).from_yaml(yaml.safe_dump(merged))
    parsed.validate()
    parsed.to_spec()


def test_each_node_of_the_cluster_has_its_own_address_and_data(
    compose: dict[str, Any], cluster: dict[str, Any]
) -> None:
    services = _merged(compose, cluster)["services"]
    nodes = {name: service for name, service in services.items() if "redis-cluster.conf" in str(service.get("command"))}
    addresses = [service["networks"]["redis-cluster"]["ipv4_address"] for service in nodes.values()]
    assert len(set(addresses)) == len(nodes) == 6
    data = [volume for service in nodes.values() for volume in service["volumes"] if volume.endswith(":/data")]
    assert len(set(data)) == 6
    joining = services["redis-cluster"]
    assert re.findall(r"[\d.]+(?=:6379)", str(joining["command"])) == addresses
    assert joining["depends_on"].keys() == nodes.keys()
    assert services["emqx-im"]["depends_on"]["redis-cluster"] == {"condition": "service_completed_successfully"}
    assert all(
        "redis" in [name, *service["networks"]["redis-cluster"].get("aliases", [])] for name, service in nodes.items()
    )
    assert all(service["secrets"] == nodes["redis"]["secrets"] for service in nodes.values())


def _merged(base: Any, more: Any) -> Any:
    if isinstance(base, dict) and isinstance(more, dict):
        return base | {key: _merged(base[key], value) if key in base else value for key, value in more.items()}
    if isinstance(base, list) and isinstance(more, list) and ":" in str(base) and ":" in str(more):
        return [*base, *more]
    return more
