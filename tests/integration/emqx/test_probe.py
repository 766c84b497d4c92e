"""A message through the whole chain, by a real broker and a real service."""

from collections.abc import Iterator

import pytest

from hooks.doctor import CheckState
from hooks.doctor.probe import probe
from hooks.mqtt_address import MqttAddress
from tests.e2e.stack import Stack
from tests.integration.emqx.conftest import Run
from tests.servers import free_port

UID = 770_077


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`emqx-im dev`."""
    running = Stack(tmp_path_factory.mktemp("probed"))
    running.start()
    yield running
    running.kill()


async def test_a_message_comes_through(stack: Stack) -> None:
    (found,) = await probe(MqttAddress("127.0.0.1", stack.mqtt_port), stack.url, UID, lambda: stack.token(UID))
    assert found.state is CheckState.OK, found
    assert "stored and acknowledged in" in found.what


async def test_a_refused_token_is_told(stack: Stack) -> None:
    broker = MqttAddress("127.0.0.1", stack.mqtt_port)
    (found,) = await probe(broker, stack.url, UID, lambda: stack.token(UID)[:-2], seconds=3)
    assert found.state is CheckState.FAIL
    assert "refuses user" in found.what


async def test_another_users_token_is_told(stack: Stack) -> None:
    (found,) = await probe(MqttAddress("127.0.0.1", stack.mqtt_port), stack.url, UID, lambda: stack.token(UID + 1))
    assert found.state is CheckState.FAIL
    assert f"refuses user {UID}" in found.what


async def test_a_broker_that_is_not_there_is_told_in_time(stack: Stack) -> None:
    port = free_port()
    (found,) = await probe(MqttAddress("127.0.0.1", port), stack.url, UID, lambda: stack.token(UID), seconds=1)
    assert found.state is CheckState.FAIL
    assert f"127.0.0.1:{port}" in found.what
    assert "the connection to" in found.what


async def test_the_command_finds_a_running_dev(stack: Stack, run: Run) -> None:
    names = ("EMQX_API_URL", "EMQX_API_KEY", "EMQX_API_SECRET", "HOOK_URL", "HOOK_TOKEN", "JWT_SECRET")
    given = dict.fromkeys([f"IM_{name}" for name in names], "")
    ran = await run("doctor", "--data-dir", str(stack.data_dir), "--probe-uid", str(UID), **given)
    assert ran.status == 0, ran
    assert "the broker of emqx-im dev" in ran.out
    assert "stored and acknowledged in" in ran.out
    assert " 0 fail" in ran.out


async def test_rules_are_not_for_a_running_dev(stack: Stack, run: Run) -> None:
    given = {
        "IM_EMQX_API_URL": f"http://127.0.0.1:{stack.api_port}",
        "IM_EMQX_API_KEY": stack.secrets.emqx_api_key,
        "IM_EMQX_API_SECRET": stack.secrets.emqx_api_secret,
    }
    for command in ("check", "apply"):
        ran = await run("rules", command, **given)
        assert (ran.status, ran.err.count("\n")) == (1, 1), ran
        assert "is not EMQX" in ran.err
