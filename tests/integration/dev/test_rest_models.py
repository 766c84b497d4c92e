"""The service's tests have a model of EMQX's REST API in their hands: its answers are those of this API, or less."""

from typing import Any

import aiohttp

from tests.integration.dev.conftest import Embedded
from tests.integration.dev.test_rest import KEY
from tests.integration.emqx.sessions import Session, running_emqx_api

CLIENT = "1002-phone"
TOPICS = [{"topic": "group/7", "qos": 1}, {"topic": "business/tag_a", "qos": 1}]
CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/nodes", None),
    ("GET", "/clients?username=1002&page=1&limit=10", None),
    ("GET", "/clients_v2?limit=10", None),
    ("POST", f"/clients/{CLIENT}/subscribe/bulk", TOPICS),
    ("POST", "/publish/bulk", [{"topic": "group/7", "qos": 1, "payload": "{}"}]),
    ("GET", f"/clients/{CLIENT}/subscriptions", None),
    ("POST", f"/clients/{CLIENT}/unsubscribe/bulk", TOPICS),
    ("DELETE", f"/clients/{CLIENT}/authorization/cache", None),
    ("DELETE", "/authorization/cache", None),
    ("GET", "/authorization/sources/http/status", None),
    ("DELETE", f"/clients/{CLIENT}", None),
    ("DELETE", f"/clients/{CLIENT}", None),
    ("GET", f"/clients/{CLIENT}/subscriptions", None),
]
"""In this order: at the end the client is gone."""


async def answers(url: str) -> list[tuple[int, Any]]:
    found = []
    async with aiohttp.ClientSession(headers=KEY) as http:
        for method, path, body in CALLS:
            async with http.request(method, url + path, json=body) as response:
                found.append((response.status, await response.json() if response.content_length else None))
    return found


def differences(model: Any, real: Any, where: str) -> list[str]:
    """Returns where the model has what the real answer has not, or has another type of value."""
    if isinstance(model, dict) and isinstance(real, dict):
        more = [f"{where}: {key}" for key in model.keys() - real.keys()]
        both = model.keys() & real.keys()
        return more + [each for key in both for each in differences(model[key], real[key], f"{where}.{key}")]
    if isinstance(model, list) and isinstance(real, list):
        return [each for item in model for each in differences(item, (real or [item])[0], f"{where}[]")]
    numbers = isinstance(model, int | float) and isinstance(real, int | float)
    return [] if numbers or type(model) is type(real) else [f"{where}: {model!r}, not {real!r}"]


async def test_a_model_for_tests_answers_as_this_api(embedded: Embedded) -> None:
    device = await embedded.raw("1002", "phone")
    async with running_emqx_api() as model:
        model.lists_all = True
        model.sessions[CLIENT] = Session("1002", connected_at=1_700_000_000_000)
        real, ours = await answers(embedded.api), await answers(f"{model.url}/api/v5")
    device.writer.close()
    found = []
    for (method, path, _), theirs, own in zip(CALLS, real, ours, strict=True):
        assert own[0] == theirs[0], f"{method} {path}"
        found += differences(own[1], theirs[1], f"{method} {path}")
    assert found == []
