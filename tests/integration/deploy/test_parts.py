"""Runs the parts of the image and the compose file: wheel, Redis's configuration, commands that run once."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.servers import Server, free_port, program

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
EMQX_IM = Path(sys.executable).with_name("emqx-im")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    shutil.copy(DEPLOY / "init", tmp_path)
    subprocess.run([tmp_path / "init"], check=True, capture_output=True)
    return tmp_path / "secrets"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return services


def wheel(directory: Path, source: Path = ROOT) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return next(directory.glob("*.whl"))


def test_the_wheel_is_complete_and_the_same_each_time(tmp_path: Path) -> None:
    first = wheel(tmp_path / "first")
    with zipfile.ZipFile(first) as packed:
        names = set(packed.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "hooks", "store", "emqx-rules"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    wanted = {re.sub("^emqx-rules/", "hooks/rules/", name) for name in tracked if (ROOT / name).is_file()}
    assert {name for name in wanted if name != "hooks/rules"} <= names
    assert wheel(tmp_path / "second").read_bytes() == first.read_bytes()


def test_the_clients_wheel_runs_without_the_server(tmp_path: Path) -> None:
    """In an empty directory, with the client's own dependencies on the path and nothing of the checkout."""
    with zipfile.ZipFile(wheel(tmp_path / "built", ROOT / "clients" / "python")) as packed:
        packed.extractall(tmp_path / "installed")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "sys.modules['hooks'] = sys.modules['store'] = None\n"
        "import emqx_im_client as client; print(client.__file__)\n"
        "client.Device(1001, lambda: '', client.Broker('127.0.0.1'), 'http://127.0.0.1', client.MemoryState())\n"
    )
    installed = str(tmp_path / "installed")
    done = subprocess.run([sys.executable, "-c", program, installed], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stderr, done.stdout.startswith(installed)) == ("", True)
    assert (tmp_path / "installed" / "emqx_im_client" / "py.typed").exists()


def test_chat_without_the_client_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['emqx_im_client'] = None\n"
        "from hooks.cli import main; sys.argv = ['emqx-im', 'chat', '--uid', '1001']; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "emqx-im: chat needs the reference client: pip install emqx-im-client, or clients/python of the sources\n"
    )


def test_redis_takes_its_configuration_and_wants_its_password(secrets: Path, tmp_path: Path) -> None:
    text = (DEPLOY / "redis.conf").read_text()
    assert "/run/secrets/redis_auth.conf" in text
    configuration = tmp_path / "redis.conf"
    configuration.write_text(text.replace("/run/secrets", str(secrets)))
    port = free_port()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    password = (secrets / "redis_password").read_text().strip()
    client = Redis(port=port, password=password, decode_responses=True)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except RedisConnectionError:
            return False

    server = Server([program("redis-server"), str(configuration), *arguments], port, tmp_path / "log", answers)
    server.start()
    try:
        wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
        wanted["lazyfree-lazy-expire"] = "yes"
        assert client.config_get(*wanted) == wanted
        assert client.config_get("maxmemory") == {"maxmemory": str(1024**3)}
        with pytest.raises(AuthenticationError):
            Redis(port=port).ping()
    finally:
        client.close()
        server.stop()


def environment(service: dict[str, Any], secrets: Path, **shell: str) -> dict[str, str]:
    """Returns what the container of a service gets, secrets as variables. shell: what `docker compose` is started
    with.
    """
    given = {name: (secrets / name).read_text().strip() for name in service["secrets"]}
    for name, value in service.get("environment", {}).items():
        given[name] = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: shell.get(found[1], found[2]), value)
    return {**given, "PATH": f"{EMQX_IM.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("trusted_send", ["", "true"])
def test_the_rules_need_only_their_own_secrets(
    services: dict[str, Any], secrets: Path, tmp_path: Path, trusted_send: str
) -> None:
    service = services["rules"]
    command = [*service["entrypoint"], *service["command"]]
    shell = {"IM_TRUSTED_SEND": trusted_send} if trusted_send else {}
    given = environment(service, secrets, **shell)
    done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    copied = re.findall(r"/rules/(\S+)", services["emqx"]["command"][0])
    assert copied == ["base.hocon", "emqx-im-acl.conf"]
    for name in copied:
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644
    text = (tmp_path / "base.hocon").read_text()
    assert (secrets / "IM_HOOK_TOKEN").read_text().strip() in text
    assert (secrets / "IM_JWT_SECRET").read_text().strip() in text
    assert services["rules"]["environment"]["IM_HOOK_URL"] in text
    assert ('function = "republish"' in text) == bool(trusted_send)


def test_the_migration_needs_only_its_own_secret(services: dict[str, Any], secrets: Path, tmp_path: Path) -> None:
    service = services["migrate"]
    (secrets / "IM_ARCHIVE_URL").chmod(0o644)
    (secrets / "IM_ARCHIVE_URL").write_text(f"sqlite:///{tmp_path}/archive.db\n")
    command = [EMQX_IM, *service["command"]]
    done = subprocess.run(command, cwd=tmp_path, env=environment(service, secrets), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the archive is up to date" in done.stdout
