"""The image's recipe: what a linter says of it, and what it promises."""

import http.server
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Instruction and argument, continued lines joined, comments left out."""
    text = "\n".join(line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line]


def final_stage() -> list[tuple[str, str]]:
    found = instructions()
    last = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def test_the_linter_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


def test_two_stages_and_only_the_environment_is_carried_over() -> None:
    assert [name for name, _ in instructions()].count("FROM") == 2
    copied = [argument for name, argument in final_stage() if name in ("COPY", "ADD")]
    assert copied == ["--from=build /venv /venv"]


def test_every_package_comes_from_a_lock_with_its_hash() -> None:
    runs = " && ".join(argument for name, argument in instructions() if name == "RUN")
    installs = [part for part in runs.split("&&") if " install " in part and "pip" in part]
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes" in install or install.split()[-1] == "/dist/*.whl"
        assert ("--no-deps" in install) is ("--require-hashes" not in install)
    assert "apt-get" not in runs


def test_nobody_with_rights_runs_it() -> None:
    stage = dict(final_stage())
    assert stage["USER"] == "10001:10001"
    assert json.loads(stage["ENTRYPOINT"]) == ["emqx-im"]
    assert json.loads(stage["CMD"]) == ["serve"]
    assert {"PYTHONDONTWRITEBYTECODE=1", "IM_HTTP_HOST=::"} <= set(stage["ENV"].split())


def health_check() -> list[str]:
    command: list[str] = json.loads(dict(final_stage())["HEALTHCHECK"].split("CMD", 1)[1])
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_asks_healthz(status: int, healthy: bool) -> None:
    asked = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        environment = {"IM_HTTP_PORT": str(server.server_address[1])}
        done = subprocess.run(health_check(), env=environment, capture_output=True)
    assert (done.returncode == 0) is healthy
    assert asked == ["/healthz"]


def test_the_context_holds_what_is_copied_and_no_secrets() -> None:
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for name, argument in instructions()
        if name == "COPY" and not argument.startswith("--from")
        for source in argument.split()[:-1]
    }
    assert copied == let_in
    assert all((ROOT / path).exists() for path in let_in)
