"""Python and Lua agree on where a user's timelines lie."""

import random

from store.redis.client import RedisClient
from store.redis.lua_source import FOLDER
from store.redis.shards import shard_among

FUNCTION = FOLDER.joinpath("include/shards.lua").read_text()
ASK = """
local found = {}
for index = 2, #ARGV do
  found[#found + 1] = shard_among(ARGV[index], tonumber(ARGV[1]))
end
return found
"""


async def test_python_and_lua_agree_on_the_shard_of_a_user(redis: RedisClient) -> None:
    chosen = random.Random(7)
    uids = [1, 4095, 4096, 2**53 - 1, *(chosen.randrange(1, 2 ** chosen.randint(1, 53)) for _ in range(2000))]
    for count in (2, 3, 16, 63, 64):
        answer = await redis.eval(FUNCTION + ASK, 0, count, *uids)
        assert answer == [shard_among(uid, count) for uid in uids]
