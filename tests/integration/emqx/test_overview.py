"""What the console's first page says of EMQX: the same as `emqx-im doctor`."""

from pathlib import Path
from typing import Any

from tests.integration.app import running_app
from tests.integration.emqx.conftest import HOOK_TOKEN, JWT_SECRET
from tests.integration.emqx.fake import KEY, SECRET, FakeEmqx
from tests.servers import RedisServer


async def test_the_overview_says_of_emqx_what_the_doctor_does(
    applied: FakeEmqx, own_redis: RedisServer, tmp_path: Path
) -> None:
    applied.metrics.update({"dropped": 7, "dropped.queue_full": 7, "matched": 100})
    applied.zone["mqtt"].update(shared_subscription=True)
    asked = {"emqx_api_url": applied.url, "emqx_api_key": KEY, "emqx_api_secret": SECRET}
    secrets = {"hook_token": HOOK_TOKEN, "jwt_secret": JWT_SECRET}

    async def found(**settings: Any) -> dict[str, list[Any]]:
        async with running_app(own_redis.url, tmp_path, **asked, **secrets, **settings) as app:
            findings = (await app.admin("GET", "/overview")).json["findings"]
        by_state: dict[str, list[Any]] = {}
        for each in findings:
            by_state.setdefault(each["state"], []).append(each)
        return by_state

    all_of_it = await found(hook_url="http://emqx-im:8080")
    wrong = {each["what"]: each for each in all_of_it["fail"]}
    [dropped] = [each for what, each in wrong.items() if "7 queue_full" in what]
    assert (dropped["subject"], "reset the counters" in dropped["mend"]) == ("action emqx_im", True)
    assert dropped["page"] == "docs/operators/doctor.md"
    assert any("`$share` splits" in what for what in wrong)
    assert any(each["what"].startswith("REST API answers") for each in all_of_it["ok"])
    assert any(each["what"].startswith("version ") for each in all_of_it["ok"])

    without_address = await found()
    assert [each["mend"] for each in without_address["not checked"]] == [
        "set IM_HOOK_URL to the address at which EMQX reaches the service"
    ]
    asked["emqx_api_secret"] = "wrong"
    [refused] = (await found(hook_url="http://emqx-im:8080"))["fail"]
    assert "IM_EMQX_API_KEY" in refused["mend"]
    assert refused["page"] == "docs/operators/alarms.md#emqximbrokerapifailing"
