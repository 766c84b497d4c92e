"""Hot channels of the running service, as operators see them."""

from pathlib import Path

from tests.integration.app import new_uid, running_app, until
from tests.servers import RedisServer


async def test_metrics_say_which_channels_are_hot(own_redis: RedisServer, tmp_path: Path) -> None:
    owner, member = new_uid(), new_uid()
    async with running_app(own_redis.url, tmp_path, hot_hits=0.5) as app:
        await app.end(member)
        gid = await app.group(owner, member, mode="read")
        sent: list[str] = []

        async def shown() -> list[str]:
            messages = (await app.pull(member, limit=1000)).json["messages"]
            return [each["id"] for each in messages if each["from"] == owner]

        async def heated() -> bool:
            assert await shown() == sent
            return await app.metric("emqx_im_hot_channels") == 1 and await app.metric("emqx_im_hot_hits_total") > 0

        for number in range(3):
            sent.append(f"m{number}")
            assert (await app.publish(f"group/{gid}", {"id": sent[-1]}, owner)).status == 204
            await until(heated, 30)
        sample = f'emqx_im_hot_channel_hits{{channel="group:{gid}"}}'
        assert await app.metric(sample) > 0
        assert await app.metric('emqx_im_hot_misses_total{reason="cold"}') > 0

        async def cooled() -> bool:
            return await app.metric("emqx_im_hot_channels") == 0

        await until(cooled, 60)
        assert await app.metric(sample) == 0
        assert await shown() == sent
