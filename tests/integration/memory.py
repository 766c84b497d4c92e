"""What all keys of a Redis take."""

from store.redis.client import RedisClient


async def memory_of_keys(redis: RedisClient) -> int:
    """Returns bytes. What a server sums up itself has its clients' buffers in it, and lags behind in what they take."""
    return sum([await redis.memory_usage(key, samples=0) or 0 async for key in redis.scan_iter(count=1000)])
